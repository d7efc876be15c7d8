//! How long a lost disk's shards take to be made anew, and how many bytes that moves.
//!
//! A rebuild is declustered: every other disk reads and writes a part of it at once. Each lost byte
//! is made from `k` bytes that are read and costs one that is written, so that a disk with `B`
//! bytes takes `T = (k+1) * B / (P * r)` with `P` other disks that each give `r` bytes a second.

use crate::coding::Coding;

use super::chain::HOURS_PER_YEAR;

/// How fast lost shards are made anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RebuildRate {
    /// Bytes per second that each remaining disk gives to it, reads and writes together.
    PerDisk(f64),
    /// Bytes per second that are made anew in the whole cluster, as measured on a running one.
    Whole(f64),
}

/// The work of a rebuild.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RebuildWork {
    /// The coding of what is rebuilt.
    pub coding: Coding,
    /// Disks of the cluster.
    pub disks: u32,
    /// Disks that are lost at once: 1, or those of a node.
    pub disks_lost: u32,
    /// Bytes on each lost disk.
    pub disk_bytes: f64,
}

impl RebuildRate {
    /// Hours until everything is whole again, without detection.
    ///
    /// Where no disk is left that has no shard of the stripe, a new one must take all that is
    /// written, and it can't be faster than that one disk.
    pub fn hours(self, work: &RebuildWork) -> f64 {
        let bytes = work.disk_bytes * f64::from(work.disks_lost);
        let seconds = match self {
            Self::Whole(rate) => bytes / rate,
            Self::PerDisk(rate) => {
                let left = work.disks.saturating_sub(work.disks_lost);
                let shared = bytes * moved_per_byte(work.coding) / (f64::from(left.max(1)) * rate);
                if left < u32::from(work.coding.width()) {
                    shared.max(work.disk_bytes / rate)
                } else {
                    shared
                }
            }
        };
        seconds / 3600.0
    }
}

/// Bytes moved for one byte made anew: `k` read and one written.
fn moved_per_byte(coding: Coding) -> f64 {
    f64::from(coding.data()) + 1.0
}

/// Bytes that rebuilds move in a year, when `bytes` are stored and each of them is lost with
/// `failure` per hour.
pub fn bytes_per_year(coding: Coding, bytes: f64, failure: f64) -> f64 {
    bytes * failure * HOURS_PER_YEAR * moved_per_byte(coding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(coding: &str, disks: u32, terabytes: f64, megabytes_per_second: f64) -> f64 {
        RebuildRate::PerDisk(megabytes_per_second * 1e6).hours(&RebuildWork {
            coding: Coding::parse(coding).expect("valid"),
            disks,
            disks_lost: 1,
            disk_bytes: terabytes * 1e12,
        })
    }

    #[test]
    fn rebuilds_take_as_long_as_published() {
        let check = |found: f64, published: f64| {
            assert!((found - published).abs() <= 0.06, "{found} instead of {published}");
        };
        check(hours("8+4", 13, 14.0, 50.0), 63.6 * 11.0 / 12.0);
        check(hours("8+4", 24, 14.0, 50.0), 30.4);
        check(hours("8+4", 100, 14.0, 50.0), 7.1);
        check(hours("6+3", 12, 2.8, 200.0), 3.2 * 7.0 / 9.0);
    }

    #[test]
    fn twelve_disks_of_8_4_wait_for_the_new_disk_or_for_each_other() {
        // (8+1) * 14 TB / (11 * 50 MB/s) is less than 14 TB / 50 MB/s, which the new disk takes.
        assert!((hours("8+4", 12, 14.0, 50.0) - 14e12 / 50e6 / 3600.0).abs() < 1e-6);
        // With 1+1 over two disks both are the same work.
        assert!((hours("1+1", 2, 1.0, 100.0) - 2e12 / 100e6 / 3600.0).abs() < 1e-6);
    }

    #[test]
    fn a_measured_rate_counts_what_was_made() {
        let work = RebuildWork {
            coding: Coding::parse("4+2").expect("valid"),
            disks: 10,
            disks_lost: 2,
            disk_bytes: 3.6e12,
        };
        assert!((RebuildRate::Whole(1e8).hours(&work) - 20.0).abs() < 1e-9);
    }

    #[test]
    fn each_lost_byte_moves_k_and_one() {
        let coding = Coding::parse("4+2").expect("valid");
        let moved = bytes_per_year(coding, 1e12, 0.01 / HOURS_PER_YEAR);
        assert!((moved - 5e10).abs() < 1.0);
    }
}
