//! `drystone admin metadata …`: looks at the metadata's replicas, and changes who they are.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gateway::admin::orders::{
    AddReplicaOrder, CheckReport, Leadership, RemoveReplicaOrder, Replica, TransferOrder,
};
use gateway::admin::render;
use gateway::admin::status::ClusterStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{http, metadata_backup, metadata_recover, metadata_release, metadata_restore};

/// The status when the check was carried out and not all is well.
const NOT_WELL: u8 = 2;

/// Flags of `drystone admin metadata`.
#[derive(Args, Debug)]
pub(super) struct MetadataArguments {
    #[command(subcommand)]
    command: MetadataCommand,
}

/// How an answer is printed.
#[derive(Args, Clone, Copy, Debug)]
struct Format {
    /// Print JSON instead of tables and sentences.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum MetadataCommand {
    /// Show the replicas, where they are, who leads, and how far behind the others are.
    Status {
        #[command(flatten)]
        format: Format,
    },
    /// Prove that all replicas are identical at one index, and each one's tables whole.
    ///
    /// Ends with status 0 when all is well, 2 when it isn't, and 1 when the check itself failed.
    Check {
        #[command(flatten)]
        format: Format,
    },
    /// Make another replica the leader, such as before its host is stopped.
    Transfer {
        /// The replica that is to lead [default: the one that is furthest].
        #[arg(long, value_name = "ID")]
        replica: Option<u64>,
        /// The node whose replica is to lead.
        #[arg(long, value_name = "ID", conflicts_with = "replica")]
        node: Option<u32>,
        #[command(flatten)]
        format: Format,
    },
    /// Have a node keep a new replica; ends when that has caught up and votes.
    Add {
        /// The node.
        #[arg(long, value_name = "ID")]
        node: u32,
        #[command(flatten)]
        format: Format,
    },
    /// Take a replica out of the group for good.
    Remove {
        /// The replica.
        #[arg(long, value_name = "ID")]
        replica: u64,
        #[command(flatten)]
        format: Format,
    },
    /// Take a backup of the metadata while it runs.
    Backup(metadata_backup::BackupArguments),
    /// Verify a backup; asks no server.
    VerifyBackup(metadata_backup::VerifyArguments),
    /// Put the metadata back from a backup, on a host where nothing runs.
    Restore(metadata_restore::RestoreArguments),
    /// Begin with empty metadata that is rebuilt from the disks, when every replica and every backup
    /// is lost.
    BeginRecovery(metadata_restore::RecoveryArguments),
    /// Find again what the metadata doesn't know, by what lies on the disks.
    ///
    /// Ask a gateway. Ends with status 0 when everything that was found is recovered, 2 when something
    /// isn't, and 1 when the recovery itself failed.
    Recover(metadata_recover::RecoverArguments),
    /// End what putting the metadata back began: what wasn't recovered is deleted from the disks.
    ///
    /// Ask a gateway. Ends with status 0 when nothing is held any more, and 1 without --yes.
    ReleaseHeld(metadata_release::ReleaseArguments),
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &MetadataArguments) -> Result<ExitCode> {
    match &arguments.command {
        MetadataCommand::Status { format } => {
            let answer = http::get(endpoint, "/status").await?;
            let status: ClusterStatus = read(&answer)?;
            show(format.json, &status.metadata, render::metadata)?;
        }
        MetadataCommand::Check { format } => {
            let report: CheckReport =
                read(&http::get_patiently(endpoint, "/metadata/check").await?)?;
            show(format.json, &report, render::check)?;
            if !report.ok {
                return Ok(ExitCode::from(NOT_WELL));
            }
        }
        MetadataCommand::Transfer { replica, node, format } => {
            let order = TransferOrder { replica: *replica, node: *node };
            let leads: Leadership = give(endpoint, "/metadata/transfer", &order).await?;
            show(format.json, &leads, leadership)?;
        }
        MetadataCommand::Add { node, format } => {
            let order = AddReplicaOrder { node: *node };
            let added: Replica = give(endpoint, "/metadata/add", &order).await?;
            show(format.json, &added, |added| sentence(added, "was added"))?;
        }
        MetadataCommand::Remove { replica, format } => {
            let order = RemoveReplicaOrder { replica: *replica };
            let removed: Replica = give(endpoint, "/metadata/remove", &order).await?;
            show(format.json, &removed, |removed| sentence(removed, "was removed"))?;
        }
        MetadataCommand::Backup(backup) => return metadata_backup::take(endpoint, backup).await,
        MetadataCommand::VerifyBackup(verify) => return metadata_backup::verify(verify),
        MetadataCommand::Restore(restore) => return metadata_restore::from_backup(restore).await,
        MetadataCommand::BeginRecovery(recovery) => {
            return metadata_restore::from_nothing(recovery).await;
        }
        MetadataCommand::Recover(recover) => {
            return metadata_recover::run(endpoint, recover).await;
        }
        MetadataCommand::ReleaseHeld(release) => {
            return metadata_release::run(endpoint, release).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn give<T: DeserializeOwned>(
    endpoint: &str,
    path: &str,
    order: &impl Serialize,
) -> Result<T> {
    read(&http::post_patiently(endpoint, path, serde_json::to_vec(order)?).await?)
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    serde_json::from_slice(answer)
        .context("the server's answer is not a document that this program knows")
}

/// Prints an answer as it was asked for.
pub(super) fn show<T: Serialize>(
    json: bool,
    document: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(document)?);
    } else {
        print!("{}", text(document));
    }
    Ok(())
}

fn leadership(leads: &Leadership) -> String {
    let node = leads.node.map(|node| format!(" on node {node}")).unwrap_or_default();
    format!("Replica {}{node} leads now, in term {}.\n", leads.leader, leads.term)
}

fn sentence(replica: &Replica, what: &str) -> String {
    let node = replica.node.map(|node| format!(" on node {node}")).unwrap_or_default();
    let voters: Vec<String> = replica.voters.iter().map(u64::to_string).collect();
    format!("Replica {}{node} {what}; the voters are {}.\n", replica.replica, voters.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_in_sentences() {
        let leads = Leadership { leader: 3, node: Some(7), term: 12 };
        assert_eq!(leadership(&leads), "Replica 3 on node 7 leads now, in term 12.\n");
        let added = Replica { replica: 4, node: Some(2), voters: vec![1, 2, 4] };
        let text = "Replica 4 on node 2 was added; the voters are 1, 2, 4.\n";
        assert_eq!(sentence(&added, "was added"), text);
    }
}
