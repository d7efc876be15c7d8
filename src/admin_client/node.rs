//! `drystone admin node …`: the processes of the cluster.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::render;
use gateway::admin::status::NodeStatus;

use super::http;
use super::metadata::{read, show};

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
    /// Take a node out of the cluster for good; one that keeps disks or metadata replicas is
    /// refused.
    Remove {
        /// The node.
        id: u32,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &NodeArguments) -> Result<ExitCode> {
    match arguments.command {
        NodeCommand::List => {
            let nodes: Vec<NodeStatus> = read(&http::get(endpoint, "/nodes").await?)?;
            show(arguments.json, &nodes, |nodes| list(nodes))?;
        }
        NodeCommand::Remove { id } => {
            let answer = http::post(endpoint, &format!("/nodes/{id}/remove"), Vec::new()).await?;
            let done: serde_json::Value = read(&answer)?;
            show(arguments.json, &done, |_| format!("Node {id} was removed.\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(nodes: &[NodeStatus]) -> String {
    if nodes.is_empty() {
        return "The cluster is one process; `drystone cluster init` opens it to other hosts.\n"
            .to_owned();
    }
    render::nodes(nodes)
}
