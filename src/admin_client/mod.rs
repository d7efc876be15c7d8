//! `drystone admin …`: asks a running server by its admin listener.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

mod cluster_token;
mod http;
mod metadata;
mod metadata_backup;
mod metadata_recover;
mod metadata_release;
mod metadata_restore;
mod node;
mod scrub;

pub use cluster_token::{TokenArguments, run as run_token};

/// Flags of `drystone admin`.
#[derive(Args, Debug)]
pub struct AdminArguments {
    /// The server's admin listener.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DRYSTONE_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:9001"
    )]
    endpoint: String,

    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Show disks, fault tolerance left, usage, repair queue, scrub coverage and metadata replicas.
    Status {
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Verify every shard of a disk, a placement group, a bucket, an object, or of everything, now.
    ///
    /// What is damaged or missing is put into the repair queue. Ends with status 0 when every shard
    /// is whole, 2 when some aren't or couldn't be reached, and 1 when the scrub itself failed.
    Scrub(scrub::ScrubArguments),
    /// Look at the metadata's replicas, change who they are, back them up and put them back.
    Metadata(metadata::MetadataArguments),
    /// Look at the nodes of the cluster, or take one out.
    Node(node::NodeArguments),
}

/// Carries out an admin command.
pub fn run(arguments: &AdminArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.command {
        AdminCommand::Status { json } => {
            runtime.block_on(status(&arguments.endpoint, *json))?;
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::Scrub(scrub) => runtime.block_on(scrub::run(&arguments.endpoint, scrub)),
        AdminCommand::Metadata(metadata) => {
            runtime.block_on(metadata::run(&arguments.endpoint, metadata))
        }
        AdminCommand::Node(node) => runtime.block_on(node::run(&arguments.endpoint, node)),
    }
}

async fn status(endpoint: &str, json: bool) -> Result<()> {
    let answer = http::get(endpoint, "/status").await?;
    let text = String::from_utf8(answer).context("the server's answer is not text")?;
    if json {
        println!("{text}");
    } else {
        let status = serde_json::from_str(&text)
            .context("the server's answer is not a status that this program knows")?;
        print!("{}", gateway::admin::render::text(&status));
    }
    Ok(())
}
