//! `drystone durability`: how likely a cluster is to lose data, before it is bought.
//!
//! In go disks, coding and speeds from the command line; out comes [`report::Report`], as text or
//! JSON. The arithmetic is `model::durability`, whose documentation has the formula and its
//! sources; nothing here touches a disk or the network.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use model::coding::Coding;
use model::durability::{Inputs, RebuildRate, Rebuilds, Silent, Spread, TARGET_NINES, Topology};

mod quantity;
mod report;
mod text;

/// The most disks that one report is made for.
const DISKS_MAX: i64 = 1_000_000;

/// Flags of `drystone durability`.
#[derive(Args, Debug)]
pub struct DurabilityArguments {
    /// Disks of the cluster.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=DISKS_MAX))]
    disks: u32,

    /// Size of a disk, such as 20TB or 4TiB.
    #[arg(long, value_name = "SIZE", value_parser = quantity::parse_bytes)]
    disk_size: f64,

    /// Coding K+M, such as 4+2; without it, the one that a new cluster of so many disks gets.
    #[arg(long, value_name = "K+M", value_parser = Coding::parse)]
    coding: Option<Coding>,

    /// Disks that fail in a year.
    #[arg(long, value_name = "SHARE", default_value = "1.57%", value_parser = quantity::parse_share)]
    afr: f64,

    /// Bytes per second that each remaining disk gives to a rebuild, reads and writes together.
    #[arg(long, value_name = "RATE", default_value = "50MB/s", value_parser = quantity::parse_rate)]
    rebuild_rate: f64,

    /// How full the disks are.
    #[arg(long, value_name = "SHARE", default_value = "70%", value_parser = quantity::parse_share)]
    fill: f64,

    /// Time until a lost disk is given up and its rebuild begins.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = quantity::parse_hours)]
    detect: f64,

    /// Nodes that keep the disks, as many each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: Option<u32>,

    /// Racks that keep the nodes, as many each.
    #[arg(long, requires = "nodes", value_parser = clap::value_parser!(u32).range(1..))]
    racks: Option<u32>,

    /// Nodes that are lost in a year for good, with all their disks.
    #[arg(
        long, value_name = "SHARE", default_value = "0", requires = "nodes",
        value_parser = quantity::parse_share
    )]
    node_afr: f64,

    /// Days in which a scrub reads everything once.
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = quantity::parse_positive)]
    scrub_days: f64,

    /// Disks that silently damage something in a year; 0 leaves silent failures out.
    #[arg(long, value_name = "SHARE", default_value = "1.4%", value_parser = quantity::parse_share)]
    silent_rate: f64,

    /// The part of a disk's shards that a silent failure damages; 100% is the worst case.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = quantity::parse_share)]
    silent_share: f64,

    /// The nines to reach.
    #[arg(long, value_name = "NINES", default_value_t = TARGET_NINES, value_parser = quantity::parse_positive)]
    target: f64,

    /// Check the model on this cluster: simulate it at failure rates so high that data is lost.
    #[arg(long)]
    simulate: bool,

    /// Seed of the simulation; the same seed gives the same answer.
    #[arg(long, default_value_t = 1, requires = "simulate")]
    seed: u64,

    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl DurabilityArguments {
    fn topology(&self) -> Result<Topology> {
        let nodes = self.nodes.unwrap_or(1);
        let racks = self.racks.unwrap_or(1);
        let disks = self.disks;
        ensure!(nodes <= disks, "{nodes} nodes need at least as many disks; there are {disks}");
        ensure!(racks <= nodes, "{racks} racks need at least as many nodes; there are {nodes}");
        Ok(Topology { disks, nodes, racks })
    }

    /// What the estimate of this cluster with another coding is made from.
    fn inputs(&self, topology: Topology, coding: Coding) -> Inputs {
        let silent = Silent {
            rate: self.silent_rate,
            share: self.silent_share,
            scrub_days: self.scrub_days,
        };
        let disk_bytes = self.disk_size * self.fill;
        let is_silent = silent.rate > 0.0 && silent.share > 0.0;
        Inputs {
            coding,
            disks: topology.disks,
            nodes: topology.nodes,
            disk_bytes,
            stored_bytes: disk_bytes * f64::from(topology.disks),
            disk_afr: self.afr,
            node_afr: self.node_afr,
            rebuild: RebuildRate::PerDisk(self.rebuild_rate),
            detect_hours: self.detect,
            silent: is_silent.then_some(silent),
            rebuilds: Rebuilds::OneAtATime,
            spread: Spread::of_topology(topology, coding),
            target_nines: self.target,
        }
    }
}

/// Prints the report.
pub fn run(arguments: &DurabilityArguments) -> Result<ExitCode> {
    let report = report::Report::new(arguments)?;
    match arguments.output {
        Output::Text => print!("{}", text::Text(&report)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
