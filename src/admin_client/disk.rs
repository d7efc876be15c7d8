//! `drystone admin disk …`: the disks of the cluster, and what is done to them.
//!
//! What always holds: `--plan` changes nothing; a disk that still has slots isn't given up without
//! `--yes`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::status::DiskStatus;
use gateway::admin::upkeep::orders::{ChangeOrder, Changed, WeighOrder};
use gateway::admin::upkeep::render;
use serde::Serialize;

use super::http;
use super::metadata::{read, show};

/// Flags of `drystone admin disk`.
#[derive(Args, Debug)]
pub(super) struct DiskArguments {
    #[command(subcommand)]
    command: DiskCommand,

    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
}

/// Whether a change is made.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct PlanFlag {
    /// Change nothing: show what would move, and what could be lost before and after.
    #[arg(long)]
    pub(super) plan: bool,
}

#[derive(Debug, Subcommand)]
enum DiskCommand {
    /// Show the disks: state, weight, slots, what moves to and from them.
    List,
    /// Have a disk emptied: its slots move to other disks, and it takes no new objects.
    Drain {
        /// The disk, by its number in `drystone admin disk list`.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Use a disk again that was drained.
    Undrain {
        /// The disk.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Give a disk up: what it had is rebuilt on other disks. It stays out until it is taken back.
    Out {
        /// The disk.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
        /// Do it, though the disk still has slots.
        #[arg(long)]
        yes: bool,
        /// Do it even though some data can't be read from the other disks.
        #[arg(long)]
        force: bool,
    },
    /// Take a disk back that was given up. What it still has counts at once.
    In {
        /// The disk.
        id: u32,
        #[command(flatten)]
        plan: PlanFlag,
    },
    /// Give a disk another share of the data than its size says.
    Weigh {
        /// The disk.
        id: u32,
        /// Its share, like the size in GiB, or `default` for its size.
        #[arg(value_name = "WEIGHT|default", value_parser = parse_weight)]
        weight: Weight,
        #[command(flatten)]
        plan: PlanFlag,
    },
}

/// A weight; `None` for that of the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight(Option<u32>);

fn parse_weight(text: &str) -> Result<Weight, String> {
    if text == "default" {
        return Ok(Weight(None));
    }
    let weight = text.parse().map_err(|_| "a whole number, such as 4000, or default".to_owned())?;
    Ok(Weight(Some(weight)))
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &DiskArguments) -> Result<ExitCode> {
    let json = arguments.json;
    let change = async |id: u32, verb: &str, plan: PlanFlag| {
        let order = ChangeOrder { plan: plan.plan, force: false };
        change(endpoint, &format!("/disks/{id}/{verb}"), &order, plan, json).await
    };
    match arguments.command {
        DiskCommand::List => {
            let disks: Vec<DiskStatus> = read(&http::get(endpoint, "/disks").await?)?;
            show(json, &disks, |disks| render::disks(disks))?;
            Ok(ExitCode::SUCCESS)
        }
        DiskCommand::Drain { id, plan } => change(id, "drain", plan).await,
        DiskCommand::Undrain { id, plan } => change(id, "undrain", plan).await,
        DiskCommand::In { id, plan } => change(id, "in", plan).await,
        DiskCommand::Weigh { id, weight, plan } => {
            let order = WeighOrder { weight: weight.0, plan: plan.plan };
            self::change(endpoint, &format!("/disks/{id}/weigh"), &order, plan, json).await
        }
        DiskCommand::Out { id, plan, yes, force } => {
            out(endpoint, id, ChangeOrder { plan: plan.plan, force }, yes, json).await
        }
    }
}

/// Orders a change, and prints what came or would come of it.
pub(super) async fn change(
    endpoint: &str,
    path: &str,
    order: &impl Serialize,
    plan: PlanFlag,
    json: bool,
) -> Result<ExitCode> {
    let changed: Changed = give(endpoint, path, order).await?;
    show(json, &changed, if plan.plan { render::plan } else { render::changed })?;
    Ok(ExitCode::SUCCESS)
}

async fn give(endpoint: &str, path: &str, order: &impl Serialize) -> Result<Changed> {
    read(&http::post_patiently(endpoint, path, serde_json::to_vec(order)?).await?)
}

/// Gives a disk up, after what comes of that was shown to who hasn't said yes.
async fn out(
    endpoint: &str,
    id: u32,
    order: ChangeOrder,
    yes: bool,
    json: bool,
) -> Result<ExitCode> {
    let path = format!("/disks/{id}/out");
    if !order.plan && !yes {
        let planned = give(endpoint, &path, &ChangeOrder { plan: true, ..order }).await?;
        let has_slots =
            |disk: &gateway::admin::upkeep::plan::DiskPlan| disk.id == id && disk.slots_before > 0;
        if planned.plan.disks.iter().any(has_slots) {
            show(json, &planned, render::plan)?;
            eprintln!(
                "drystone: disk {id} still has slots: give --yes to have it out, or drain it before"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    change(endpoint, &path, &order, PlanFlag { plan: order.plan }, json).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_numbers_or_the_default() {
        assert_eq!(parse_weight("4000"), Ok(Weight(Some(4000))));
        assert_eq!(parse_weight("default"), Ok(Weight(None)));
        for wrong in ["", "-1", "1.5", "4T", "none"] {
            assert!(parse_weight(wrong).is_err(), "{wrong}");
        }
    }
}
