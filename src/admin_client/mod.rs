//! `drystone admin …`: asks a running server by its admin listener.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

mod class;
mod cluster_token;
mod disk;
mod health;
mod http;
mod metadata;
mod metadata_backup;
mod metadata_recover;
mod metadata_release;
mod metadata_restore;
mod moves;
mod node;
mod object;
mod recode;
mod repair;
mod scrub;
mod upkeep;

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
    /// Say in one colour how the cluster is, and what isn't as it should be.
    ///
    /// Ends with status 0 when it is green, 1 when yellow, 2 when red, and 3 when it can't be asked.
    Health(health::HealthArguments),
    /// Say what a health code means: cause, effect, remedy, and the margin to data loss. Asks no server.
    Explain(health::ExplainArguments),
    /// Verify every shard of a disk, a placement group, a bucket, an object, or of everything, now.
    ///
    /// What is damaged or missing is put into the repair queue. Ends with status 0 when every shard
    /// is whole, 2 when some aren't or couldn't be reached, and 1 when the scrub itself failed.
    Scrub(scrub::ScrubArguments),
    /// See what lacks redundancy, how fast it is repaired, and why an object isn't repaired yet.
    Repair(repair::RepairArguments),
    /// See where the shards of an object are, and in what state.
    Object(object::ObjectArguments),
    /// Look at the metadata's replicas, change who they are, back them up and put them back.
    Metadata(metadata::MetadataArguments),
    /// Look at the nodes of the cluster, ask whether one may be stopped, drain one, move it to another
    /// rack, or take it out.
    Node(node::NodeArguments),
    /// Look at the disks, drain, weigh or give one up, or take it back.
    Disk(disk::DiskArguments),
    /// See how far slots are on their way to other disks, pause that, or set its rate.
    Moves(moves::MovesArguments),
    /// See or set when silent disks are given up, and how fast the cluster rebuilds and moves.
    Upkeep(upkeep::UpkeepArguments),
    /// Look at the storage classes, make one, give one another coding, or take one away.
    Class(class::ClassArguments),
    /// See or set the storage class that a bucket uses.
    Bucket(class::BucketArguments),
    /// Give what a bucket holds the coding of a storage class, in the background.
    Recode(recode::RecodeArguments),
}

/// Carries out an admin command.
pub fn run(arguments: &AdminArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &arguments.command {
        AdminCommand::Status { json } => {
            runtime.block_on(status(&arguments.endpoint, *json))?;
            Ok(ExitCode::SUCCESS)
        }
        AdminCommand::Health(health) => runtime.block_on(health::run(&arguments.endpoint, health)),
        AdminCommand::Explain(explain) => Ok(health::print_explanation(explain)),
        AdminCommand::Repair(repair) => runtime.block_on(repair::run(&arguments.endpoint, repair)),
        AdminCommand::Object(object) => runtime.block_on(object::run(&arguments.endpoint, object)),
        AdminCommand::Scrub(scrub) => runtime.block_on(scrub::run(&arguments.endpoint, scrub)),
        AdminCommand::Metadata(metadata) => {
            runtime.block_on(metadata::run(&arguments.endpoint, metadata))
        }
        AdminCommand::Node(node) => runtime.block_on(node::run(&arguments.endpoint, node)),
        AdminCommand::Disk(disk) => runtime.block_on(disk::run(&arguments.endpoint, disk)),
        AdminCommand::Moves(moves) => runtime.block_on(moves::run(&arguments.endpoint, moves)),
        AdminCommand::Upkeep(upkeep) => runtime.block_on(upkeep::run(&arguments.endpoint, upkeep)),
        AdminCommand::Class(class) => runtime.block_on(class::run(&arguments.endpoint, class)),
        AdminCommand::Bucket(bucket) => {
            runtime.block_on(class::run_bucket(&arguments.endpoint, bucket))
        }
        AdminCommand::Recode(recode) => runtime.block_on(recode::run(&arguments.endpoint, recode)),
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
