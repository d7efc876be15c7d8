//! `drystone admin repair …`: what lacks redundancy, how far repair is, and why an object isn't repaired
//! yet.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::repair::RepairDocument;
use gateway::admin::why::WhyDocument;
use gateway::admin::{object_path, render_repair};

use super::http;
use super::metadata::{read, show};
use super::scrub::{ObjectName, parse_object};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

/// Clears a terminal and goes to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// The status when something lacks redundancy.
pub(super) const OUTSTANDING: u8 = 2;

/// Flags of `drystone admin repair`.
#[derive(Args, Debug)]
pub(super) struct RepairArguments {
    #[command(subcommand)]
    command: RepairCommand,

    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RepairCommand {
    /// Show everything that lacks redundancy, how fast it is repaired, and what it waits for.
    ///
    /// Ends with status 0 when nothing is outstanding, 2 when something is, and 1 when that isn't known.
    Status {
        /// Look again every two seconds, until nothing is outstanding.
        #[arg(long)]
        watch: bool,
    },
    /// Tell what an object lacks, and why it isn't repaired yet.
    ///
    /// Ends with status 0 when it lacks nothing, 2 when it lacks something, and 1 when that isn't known.
    Why {
        /// The object.
        #[arg(value_name = "BUCKET/KEY", value_parser = parse_object)]
        name: ObjectName,

        /// Look at the extents from this byte on.
        #[arg(long, value_name = "BYTE")]
        from: Option<u64>,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &RepairArguments) -> Result<ExitCode> {
    let json = arguments.json;
    match &arguments.command {
        RepairCommand::Status { watch: false } => {
            let found = look(endpoint).await?;
            print(json, &found)?;
            Ok(exit(found.is_nothing()))
        }
        RepairCommand::Status { watch: true } => watch(endpoint, json).await,
        RepairCommand::Why { name, from } => {
            let from = from.map(|from| format!("?from={from}")).unwrap_or_default();
            let path = format!("/repair/why{}{from}", object_path(&name.bucket, &name.key));
            let found: WhyDocument = read(&http::get_patiently(endpoint, &path).await?)?;
            show(json, &found, |found| {
                let mut text = found.sentences.join("\n");
                text.push('\n');
                text
            })?;
            Ok(exit(found.lacking == 0))
        }
    }
}

fn exit(is_nothing: bool) -> ExitCode {
    if is_nothing { ExitCode::SUCCESS } else { ExitCode::from(OUTSTANDING) }
}

async fn look(endpoint: &str) -> Result<RepairDocument> {
    read(&http::get_patiently(endpoint, "/repair").await?)
}

fn print(json: bool, found: &RepairDocument) -> Result<()> {
    let has_bar = std::io::stdout().is_terminal();
    show(json, found, |found| render_repair::repair(found, has_bar))
}

/// Looks again and again until nothing is outstanding.
async fn watch(endpoint: &str, json: bool) -> Result<ExitCode> {
    let is_terminal = std::io::stdout().is_terminal() && !json;
    let mut last = None;
    loop {
        let found = look(endpoint).await?;
        // How long ago it was counted is no news.
        let news = RepairDocument { age_seconds: 0, ..found.clone() };
        if last.as_ref() != Some(&news) {
            if is_terminal {
                print!("{CLEAR}");
            }
            print(json, &found)?;
            if !is_terminal && !json {
                println!();
            }
            std::io::stdout().flush()?;
        }
        if found.is_nothing() {
            return Ok(ExitCode::SUCCESS);
        }
        last = Some(news);
        tokio::time::sleep(WATCH).await;
    }
}
