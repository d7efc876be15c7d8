//! What an estimate is made from, its limits, and the rates that follow from it.

use crate::coding::Coding;

use super::chain::{Jump, Rates, Rebuilds, per_hour};
use super::rebuild::{RebuildRate, RebuildWork, bytes_per_year};
use super::spread::Spread;

/// Failures that nobody notices until the data is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silent {
    /// The share of disks that have one in a year.
    pub rate: f64,
    /// The share of the disk's shards that it takes; 1 is the worst case.
    pub share: f64,
    /// Days in which every record is read once.
    pub scrub_days: f64,
}

/// What is known of a running cluster besides its map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The share of the disks' space that is in use, 0 to 1.
    pub fill: f64,
    /// The share of disks that fail in a year.
    pub disk_afr: f64,
    /// The share of nodes that are lost in a year with all their disks; 0 for none.
    pub node_afr: f64,
    /// How fast rebuilds go.
    pub rebuild: RebuildRate,
    /// Hours until a lost disk is out and its rebuild begins.
    pub detect_hours: f64,
    /// Silent failures, if they count.
    pub silent: Option<Silent>,
    /// The nines to reach.
    pub target_nines: f64,
}

/// All that an estimate depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inputs {
    /// The coding.
    pub coding: Coding,
    /// Disks in all.
    pub disks: u32,
    /// Nodes that keep them.
    pub nodes: u32,
    /// Bytes on the disk of an average shard: what a rebuild makes anew.
    pub disk_bytes: f64,
    /// Bytes on all disks.
    pub stored_bytes: f64,
    /// The share of disks that fail in a year.
    pub disk_afr: f64,
    /// The share of nodes that are lost in a year with all their disks; 0 for none.
    pub node_afr: f64,
    /// How fast rebuilds go.
    pub rebuild: RebuildRate,
    /// Hours until a lost disk is out and its rebuild begins.
    pub detect_hours: f64,
    /// Silent failures, if they count.
    pub silent: Option<Silent>,
    /// How many lost shards of a stripe are rebuilt at a time.
    pub rebuilds: Rebuilds,
    /// How placement spreads the stripes.
    pub spread: Spread,
    /// The nines to reach, for [`super::Estimate::rebuild_hours_max`].
    pub target_nines: f64,
}

/// Why there is no estimate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InputsError {
    /// A stripe needs more disks.
    #[error("coding {coding} needs {} disks, one for each shard; there are {disks}", coding.width())]
    DisksTooFew {
        /// The coding.
        coding: Coding,
        /// The disks that there are.
        disks: u32,
    },
    /// Not a share of disks or nodes per year.
    #[error("{what} must be above 0 % and below 100 %; it is {} %", value * 100.0)]
    Share {
        /// Which.
        what: &'static str,
        /// What it is.
        value: f64,
    },
    /// Not a positive number.
    #[error("{what} must be above 0; it is {value}")]
    Positive {
        /// Which.
        what: &'static str,
        /// What it is.
        value: f64,
    },
}

impl Inputs {
    /// Refuses what the model can't count with.
    pub fn check(&self) -> Result<(), InputsError> {
        let Self { coding, disks, .. } = *self;
        if disks < u32::from(coding.width()) {
            return Err(InputsError::DisksTooFew { coding, disks });
        }
        share("the yearly failure rate of disks", self.disk_afr)?;
        if self.node_afr != 0.0 {
            share("the yearly failure rate of nodes", self.node_afr)?;
        }
        positive("the bytes on a disk", self.disk_bytes)?;
        positive("the number of nodes", f64::from(self.nodes))?;
        match self.rebuild {
            RebuildRate::PerDisk(rate) | RebuildRate::Whole(rate) => {
                positive("the rebuild rate", rate)?;
            }
        }
        if self.detect_hours != 0.0 {
            positive("the time to detection", self.detect_hours)?;
        }
        if let Some(silent) = &self.silent {
            share("the yearly rate of silent failures", silent.rate)?;
            positive("the scrub interval", silent.scrub_days)?;
            positive("the share of a silent failure", silent.share)?;
            if silent.share > 1.0 {
                let what = "the share of a silent failure";
                return Err(InputsError::Share { what, value: silent.share });
            }
        }
        Ok(())
    }

    /// Losses of a shard per hour that are noticed: its disk's, or its node's.
    pub fn shard_failures_per_hour(&self) -> f64 {
        per_hour(self.disk_afr) + per_hour(self.node_afr)
    }

    /// Hours to rebuild one lost disk.
    pub fn rebuild_hours(&self) -> f64 {
        self.rebuild.hours(&self.work(1))
    }

    /// Mean hours from a loss until it is made good: detection and rebuild, of a disk or of a node,
    /// as often as each is lost.
    pub fn repair_hours(&self) -> f64 {
        let (disk, node) = (per_hour(self.disk_afr), per_hour(self.node_afr));
        let node_hours = self.rebuild.hours(&self.work(self.disks.div_ceil(self.nodes.max(1))));
        self.detect_hours + (disk * self.rebuild_hours() + node * node_hours) / (disk + node)
    }

    /// Bytes that rebuilds move in a year.
    pub fn repair_bytes_per_year(&self) -> f64 {
        let silent = self.silent.map_or(0.0, |silent| per_hour(silent.rate) * silent.share);
        bytes_per_year(self.coding, self.stored_bytes, self.shard_failures_per_hour() + silent)
    }

    /// The rates of one group's chain when a loss is made good after `repair_hours`.
    pub fn rates(&self, repair_hours: f64) -> Rates {
        Rates {
            width: self.coding.width(),
            parity: self.coding.parity(),
            failure: per_hour(self.disk_afr),
            silent: self.silent.map_or(0.0, |silent| per_hour(silent.rate) * silent.share),
            discovery: self.silent.map_or(0.0, |silent| 2.0 / (silent.scrub_days * 24.0)),
            repair: 1.0 / repair_hours,
            rebuilds: self.rebuilds,
            jumps: self.jumps(),
        }
    }

    /// What lost nodes take: the shards of a stripe lie on the nodes as evenly as
    /// [`Spread::shards_per_node`] tells.
    fn jumps(&self) -> Vec<Jump> {
        let most = self.spread.shards_per_node;
        if self.node_afr <= 0.0 || most == 0 {
            return Vec::new();
        }
        // So many nodes as hold `most` each, and one with the rest.
        let (full, rest) = (self.coding.width() / most, self.coding.width() % most);
        let node = per_hour(self.node_afr);
        let mut jumps = vec![Jump { shards: most, per_hour: f64::from(full) * node }];
        if rest > 0 {
            jumps.push(Jump { shards: rest, per_hour: node });
        }
        jumps
    }

    fn work(&self, disks_lost: u32) -> RebuildWork {
        RebuildWork {
            coding: self.coding,
            disks: self.disks,
            disks_lost,
            disk_bytes: self.disk_bytes,
        }
    }
}

fn share(what: &'static str, value: f64) -> Result<(), InputsError> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(InputsError::Share { what, value }) }
}

fn positive(what: &'static str, value: f64) -> Result<(), InputsError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(InputsError::Positive { what, value })
    }
}
