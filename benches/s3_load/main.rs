//! Load program for any S3 endpoint: many connections, one operation, one line of JSON.
//!
//! In: an endpoint, credentials and an operation (`--help` lists the options). Out: one JSON object
//! on standard output with rates, latencies and errors. It runs on one thread and reuses one
//! prebuilt payload, so that it measures the server and not itself; `client_cpu_seconds` in the
//! report says what it cost. It retries nothing: a request that fails is an error that is counted.

mod client;
mod options;
mod report;
mod signer;
mod worker;

use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Parser;

use crate::options::{Operation, Options};
use crate::report::Report;
use crate::worker::{Goal, Target, run_workers};

/// Objects are prepared with at least this many connections, whatever is measured afterwards.
const PREPARE_CONCURRENCY_MIN: usize = 16;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.endpoint.is_none() {
        eprintln!("s3_load: no --endpoint, so nothing to measure");
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(report) => {
            if !options.json {
                eprintln!("{report}");
            }
            println!("{}", report.to_json());
            if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("s3_load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, measure(options))
}

/// Makes the bucket and the objects that the operation needs, then measures the operation alone.
async fn measure(options: &Options) -> Result<Report> {
    let target = Rc::new(Target::new(options)?);
    target.create_bucket().await?;
    if options.op.needs_objects() && !options.no_prepare {
        let concurrency = options.concurrency.max(PREPARE_CONCURRENCY_MIN);
        let goal = Goal::requests(options.objects);
        let prepared = run_workers(&target, Operation::Put, concurrency, goal).await?;
        anyhow::ensure!(prepared.errors == 0, "{} objects were not prepared", prepared.errors);
    }
    if options.op.needs_objects() {
        target.restart_counting();
    }
    let goal = Goal { requests: options.request_limit(), duration: Some(options.duration) };
    let outcome = run_workers(&target, options.op, options.concurrency, goal).await?;
    Ok(Report::new(options, outcome))
}
