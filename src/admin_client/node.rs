//! `drystone admin node …`: the processes of the cluster.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use gateway::admin::render;
use gateway::admin::status::NodeStatus;
use gateway::admin::upkeep::orders::{ChangeOrder, PlaceOrder};
use gateway::admin::upkeep::render as upkeep_text;
use gateway::admin::upkeep::stop::StopAnswer;

use super::disk::{PlanFlag, change};
use super::http;
use super::metadata::{read, show};

/// The status when a node must not be stopped.
const NOT_OK: u8 = 2;

/// Flags of `drystone admin node`.
#[derive(Args, Debug)]
pub(super) struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,

    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Show the nodes: what they do, where they are, when they were last heard, what they keep.
    List,
    /// Tell whether every object could still be read, objects written, and the metadata keep its
    /// majority, if a node stopped now.
    ///
    /// Ends with status 0 for yes, 2 for no, and 1 when that can't be told.
    OkToStop {
        /// The node.
        id: u32,
    },
    /// Have all disks of a node emptied.
    Drain {
        /// The node.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Use the disks of a node again that was drained.
    Undrain {
        /// The node.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Say that a node is in another rack or zone, whatever its own settings say.
    Move {
        /// The node.
        id: u32,
        /// The rack.
        #[arg(long)]
        rack: String,
        /// The zone [default: the one that it is in].
        #[arg(long)]
        zone: Option<String>,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Take a node out of the cluster for good. Its disks must be out, or drained and empty; one that
    /// keeps metadata replicas is refused.
    Remove {
        /// The node.
        id: u32,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &NodeArguments) -> Result<ExitCode> {
    let json = arguments.json;
    match &arguments.command {
        NodeCommand::List => {
            let nodes: Vec<NodeStatus> = read(&http::get(endpoint, "/nodes").await?)?;
            show(json, &nodes, |nodes| list(nodes))?;
        }
        NodeCommand::Remove { id } => {
            let answer = http::post(endpoint, &format!("/nodes/{id}/remove"), Vec::new()).await?;
            let done: serde_json::Value = read(&answer)?;
            show(json, &done, |_| format!("Node {id} was removed.\n"))?;
        }
        NodeCommand::OkToStop { id } => return ok_to_stop(endpoint, *id, json).await,
        NodeCommand::Drain { id, plan } => {
            let order = ChangeOrder { plan: plan.plan, force: false };
            return change(endpoint, &format!("/nodes/{id}/drain"), &order, *plan, json).await;
        }
        NodeCommand::Undrain { id, plan } => {
            let order = ChangeOrder { plan: plan.plan, force: false };
            return change(endpoint, &format!("/nodes/{id}/undrain"), &order, *plan, json).await;
        }
        NodeCommand::Move { id, rack, zone, plan } => {
            let order = PlaceOrder { rack: rack.clone(), zone: zone.clone(), plan: plan.plan };
            return change(endpoint, &format!("/nodes/{id}/move"), &order, *plan, json).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks whether a node may be stopped.
async fn ok_to_stop(endpoint: &str, id: u32, json: bool) -> Result<ExitCode> {
    let (status, body) = http::look(endpoint, &format!("/nodes/{id}/ok-to-stop")).await?;
    // A refusal to answer is no document.
    let Ok(found) = serde_json::from_slice::<StopAnswer>(&body) else {
        bail!("the server answered {status}: {}", String::from_utf8_lossy(&body).trim());
    };
    show(json, &found, upkeep_text::stop)?;
    Ok(if found.ok { ExitCode::SUCCESS } else { ExitCode::from(NOT_OK) })
}

fn list(nodes: &[NodeStatus]) -> String {
    if nodes.is_empty() {
        return "The cluster is one process; `drystone cluster init` opens it to other hosts.\n"
            .to_owned();
    }
    render::nodes(nodes)
}
