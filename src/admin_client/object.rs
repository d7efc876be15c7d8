//! `drystone admin object …`: where the shards of an object are, and in what state.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::inspect::ObjectDocument;
use gateway::admin::{object_path, render_repair};

use super::http;
use super::metadata::{read, show};
use super::repair::OUTSTANDING;
use super::scrub::{ObjectName, parse_object};

/// Flags of `drystone admin object`.
#[derive(Args, Debug)]
pub(super) struct ObjectArguments {
    #[command(subcommand)]
    command: ObjectCommand,
}

#[derive(Debug, Subcommand)]
enum ObjectCommand {
    /// Show every shard of an object: its disk, node, rack and path, and its state.
    ///
    /// Ends with status 0 when every shard is where it belongs, 2 when not, and 1 when that isn't known.
    Inspect {
        /// The object.
        #[arg(value_name = "BUCKET/KEY", value_parser = parse_object)]
        name: ObjectName,

        /// Have every byte read and verified, rather than only the disks' indexes asked.
        #[arg(long)]
        verify: bool,

        /// Look at so many extents at most (up to 1000).
        #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,

        /// Look at the extents from this byte on.
        #[arg(long, value_name = "BYTE", default_value_t = 0)]
        from: u64,

        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &ObjectArguments) -> Result<ExitCode> {
    let ObjectCommand::Inspect { name, verify, limit, from, json } = &arguments.command;
    let path = object_path(&name.bucket, &name.key);
    let path = format!("/objects{path}?verify={verify}&limit={limit}&from={from}");
    let found: ObjectDocument = read(&http::get_patiently(endpoint, &path).await?)?;
    show(*json, &found, render_repair::object)?;
    Ok(if found.whole { ExitCode::SUCCESS } else { ExitCode::from(OUTSTANDING) })
}
