//! Disks whose latency is far off their peers': they answer, and spoil what waits for them.
//!
//! In: how long every append, sync and read took, by disk. Out: which disks are *slow*, by this
//! gateway's own evidence and at once. What follows from it is decided where shards are placed and
//! read: a slow disk gets no new extents where enough groups do without it, and reads begin at the
//! other shards. What always holds: a slow disk is as good as any other for safety. It counts as up,
//! no write is degraded for its sake, and whatever can't be done without it is done with it.
//!
//! [`detector`] decides; [`watch`] measures the slow ones on, so that they come back once they are
//! well; [`timed`] times the requests, and those that nobody waits for to their end.

mod detector;
mod timed;
mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use model::cluster_map::{ClusterMap, DiskState};
use model::coding::Coding;
use model::ids::{DiskId, NodeId};
use tokio::sync::mpsc;

use crate::open_groups::OpenGroups;
use detector::{Detector, Verdict};
pub(crate) use timed::{TimedRead, TimedWrite};
pub(crate) use watch::watch;

/// What a disk is slow at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlowKind {
    /// Appends and syncs.
    Writes,
    /// Reads of shards.
    Reads,
}

impl SlowKind {
    /// Both.
    const ALL: [Self; 2] = [Self::Writes, Self::Reads];

    /// The word in metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Writes => "write",
            Self::Reads => "read",
        }
    }

    /// What is never called slow, however fast the peers are: a disk that has other work to do for a
    /// moment.
    fn floor(self) -> Duration {
        match self {
            Self::Writes => Duration::from_millis(50),
            Self::Reads => Duration::from_millis(30),
        }
    }
}

/// A disk that this gateway sees to be slow. A disk that is slow at both is told once, by what it is
/// further off its peers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowDisk {
    /// The disk.
    pub disk: DiskId,
    /// Its node.
    pub node: NodeId,
    /// Whether all disks of the node are slow, and it has several: then it is the node, or the way
    /// to it, that is slow.
    pub is_whole_node: bool,
    /// What it is slow at.
    pub kind: SlowKind,
    /// How long that takes it: the median of its last requests.
    pub typical: Duration,
    /// How long it takes the others: the median of theirs.
    pub peers: Duration,
    /// For how long this has been so.
    pub lasting: Duration,
}

/// A read of a slow disk that isn't needed is made so often, to see how long it takes.
const READ_MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// Between two judgements that a slow answer gives rise to.
const JUDGE_PAUSE: Duration = Duration::from_millis(100);

/// Reads that were outrun and are waited for in the background at once.
const OUTRUN_MAX: usize = 16;

/// One disk in so many is avoided at most (but one in any case): where more are slow, the rest would
/// have to take more than they can.
const AVOIDED_SHARE: usize = 4;

/// What this gateway knows of the disks' latencies.
pub(crate) struct Slowness {
    detector: Mutex<Detector>,
    marks: RwLock<Marks>,
    /// When a slow answer was last reason to judge, in microseconds of the monotonic clock.
    judged_micros: AtomicU64,
    /// When a slow disk was last read only to time it.
    measured: Mutex<BTreeMap<DiskId, Duration>>,
    outrun: mpsc::Sender<TimedRead>,
    outrun_receiver: Mutex<Option<mpsc::Receiver<TimedRead>>>,
}

/// The slow disks, the slowest first.
#[derive(Debug, Default)]
struct Marks {
    writes: Vec<DiskId>,
    reads: Vec<DiskId>,
}

impl Marks {
    fn of(&self, kind: SlowKind) -> &[DiskId] {
        match kind {
            SlowKind::Writes => &self.writes,
            SlowKind::Reads => &self.reads,
        }
    }
}

impl Default for Slowness {
    fn default() -> Self {
        let (outrun, receiver) = mpsc::channel(OUTRUN_MAX);
        Self {
            detector: Mutex::default(),
            marks: RwLock::default(),
            judged_micros: AtomicU64::new(0),
            measured: Mutex::default(),
            outrun,
            outrun_receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Slowness {
    /// A request to a disk took so long, or is given up after so long.
    pub(crate) fn record(&self, disk: DiskId, kind: SlowKind, took: Duration, now: Duration) {
        let mut detector = self.detector.lock().unwrap_or_else(PoisonError::into_inner);
        detector.record(disk, kind, took, now);
        if took < kind.floor() {
            return;
        }
        // Somebody waited: no reason to let the next one wait until the clock strikes.
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let last = self.judged_micros.load(Ordering::Relaxed);
        if Duration::from_micros(micros.saturating_sub(last)) >= JUDGE_PAUSE {
            self.judged_micros.store(micros, Ordering::Relaxed);
            self.judge_by(&mut detector, now);
        }
    }

    /// Judges all disks anew, and forgets those that the map doesn't know.
    fn judge(&self, map: &ClusterMap, now: Duration) {
        let mut detector = self.detector.lock().unwrap_or_else(PoisonError::into_inner);
        for (disk, kind) in detector.keep(|disk| map.disk(disk).is_some()) {
            show(disk, kind, Duration::ZERO);
        }
        self.judge_by(&mut detector, now);
        for (disk, kind, typical) in detector.typical(now) {
            show(disk, kind, typical);
        }
    }

    fn judge_by(&self, detector: &mut Detector, now: Duration) {
        let verdicts = detector.judge(now);
        for Verdict { disk, kind, is_slow, typical, peers } in verdicts {
            let (disk, kind) = (disk.0, kind.as_str());
            if is_slow {
                tracing::warn!(disk, kind, ?typical, ?peers, "a disk is far slower than its peers");
            } else {
                tracing::info!(disk, kind, ?typical, ?peers, "a disk is no slower than its peers");
            }
        }
        let marks = Marks {
            writes: detector.slow(SlowKind::Writes),
            reads: detector.slow(SlowKind::Reads),
        };
        for kind in SlowKind::ALL {
            let count = marks.of(kind).len() as f64;
            metrics::gauge!("drystone_slow_disks", "kind" => kind.as_str()).set(count);
        }
        *self.marks.write().unwrap_or_else(PoisonError::into_inner) = marks;
    }

    /// Whether a disk is slow at this.
    pub(crate) fn is_slow(&self, disk: DiskId, kind: SlowKind) -> bool {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.of(kind).contains(&disk)
    }

    /// Whether a slow disk is to be read besides the others that suffice, to see how long it takes.
    pub(crate) fn may_measure(&self, disk: DiskId, now: Duration) -> bool {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let last = measured.get(&disk).copied();
        let may = last.is_none_or(|last| now.saturating_sub(last) >= READ_MEASURE_INTERVAL);
        if may {
            measured.insert(disk, now);
        }
        may
    }

    /// The disks that new extents avoid besides `avoided`: as many of the slow ones, the slowest
    /// first, as leave a group of the same coding open. None where all groups are short of a disk
    /// anyway: a slow disk beats a missing shard.
    pub(crate) fn to_avoid(
        &self,
        groups: &OpenGroups,
        wanted: Coding,
        avoided: &[DiskId],
    ) -> Vec<DiskId> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let slow = marks.of(SlowKind::Writes);
        if slow.is_empty() {
            return Vec::new();
        }
        choose_avoided(groups, wanted, avoided, slow)
    }

    /// The slow disks by the map.
    pub(crate) fn slow_disks(&self, map: &ClusterMap, now: Duration) -> Vec<SlowDisk> {
        let found = {
            let detector = self.detector.lock().unwrap_or_else(PoisonError::into_inner);
            detector.worst(now)
        };
        let is_slow = |disk: DiskId| found.iter().any(|slow| slow.disk == disk);
        let is_whole = |node: NodeId| {
            let in_use = |disk: &&model::cluster_map::Disk| {
                disk.node == node && disk.state != DiskState::Out
            };
            let mut disks = map.disks.iter().filter(in_use);
            disks.clone().count() > 1 && disks.all(|disk| is_slow(disk.id))
        };
        let known = found.iter().filter_map(|slow| Some((slow, map.disk(slow.disk)?.node)));
        known
            .map(|(slow, node)| SlowDisk { node, is_whole_node: is_whole(node), ..*slow })
            .collect()
    }
}

/// Tells what is typical of a disk, to whoever collects metrics.
fn show(disk: DiskId, kind: SlowKind, typical: Duration) {
    let (disk, kind) = (disk.0.to_string(), kind.as_str());
    metrics::gauge!("drystone_disk_latency_seconds", "disk" => disk, "kind" => kind)
        .set(typical.as_secs_f64());
}

fn choose_avoided(
    groups: &OpenGroups,
    wanted: Coding,
    avoided: &[DiskId],
    slow: &[DiskId],
) -> Vec<DiskId> {
    let best = |avoided: &[DiskId]| groups.best(wanted, avoided)?.coding();
    let Some(coding) = best(avoided) else { return Vec::new() };
    let most = (groups.map().disks.len() / AVOIDED_SHARE).max(1);
    let mut without = avoided.to_vec();
    for disk in slow.iter().filter(|disk| !avoided.contains(disk)) {
        if without.len() >= avoided.len() + most {
            break;
        }
        without.push(*disk);
        if best(&without) != Some(coding) {
            without.pop();
        }
    }
    without.split_off(avoided.len())
}

#[cfg(test)]
mod tests {
    use model::cluster_map::DiskState::Up;
    use model::cluster_map::Pg;
    use model::ids::PgId;

    use std::sync::Arc;

    use super::*;

    fn map(disks: u32, coding: &str, pgs: &[&[u32]]) -> ClusterMap {
        let mut map = crate::three_disks::in_order([Up; 3]);
        let first = map.disks[0].clone();
        let disk =
            |id| model::cluster_map::Disk { id: DiskId(id), node: NodeId(id / 2), ..first.clone() };
        map.disks = (0..disks).map(disk).collect();
        map.coding = Coding::parse(coding).expect("valid");
        let pg = |(id, disks): (u32, &&[u32])| {
            Pg::new(PgId(id), map.coding, disks.iter().copied().map(DiskId).collect())
        };
        map.pgs = (0..).zip(pgs).map(pg).collect();
        map
    }

    fn avoided(map: &ClusterMap, failed: &[u32], slow: &[u32]) -> Vec<u32> {
        let ids = |disks: &[u32]| disks.iter().copied().map(DiskId).collect::<Vec<_>>();
        let groups = OpenGroups::new(Arc::new(map.clone()));
        choose_avoided(&groups, map.coding, &ids(failed), &ids(slow))
            .into_iter()
            .map(|disk| disk.0)
            .collect()
    }

    #[test]
    fn only_as_many_are_avoided_as_leave_a_group() {
        let six = map(6, "4+2", &[&[0, 1, 2, 3, 4, 5]]);
        assert_eq!(avoided(&six, &[], &[2, 3]), [0u32; 0], "no group is without them");
        let eight = map(8, "2+1", &[&[0, 1, 2], &[3, 4, 5], &[5, 6, 7], &[0, 3, 6]]);
        assert_eq!(avoided(&eight, &[], &[0]), [0]);
        // Each of the first three groups has one of these: the last of them stays.
        assert_eq!(avoided(&eight, &[], &[1, 7, 4]), [1, 7]);
        assert_eq!(avoided(&eight, &[0, 3], &[5]), [0u32; 0], "the last group needs it");
        assert_eq!(avoided(&eight, &[0], &[0, 4]), [4], "one is avoided anyway");
        // A quarter at most.
        assert_eq!(avoided(&eight, &[], &[0, 1, 2]), [0, 1]);
        // All are short of a disk that fails.
        assert_eq!(avoided(&eight, &[0, 3, 5], &[1]), [0u32; 0]);
    }

    #[test]
    fn a_narrower_group_is_no_way_out() {
        let mut map = map(8, "2+1", &[&[0, 1, 2], &[3, 4, 5]]);
        map.pgs[1].coding = Coding::parse("1+1").expect("valid");
        map.pgs[1].disks.truncate(2);
        assert_eq!(avoided(&map, &[], &[0]), [0u32; 0]);
    }

    #[test]
    fn a_node_whose_disks_are_all_slow_is_told_as_one() {
        let map = map(8, "2+1", &[&[0, 1, 2]]);
        let slowness = Slowness::default();
        let mut now = Duration::from_secs(1);
        for round in 0..20 {
            for disk in 0..8 {
                let millis = if [2, 3, 6].contains(&disk) { 400 } else { 2 };
                let took = Duration::from_millis(millis + round % 2);
                slowness.record(DiskId(disk), SlowKind::Writes, took, now);
            }
            now += Duration::from_millis(200);
        }
        slowness.judge(&map, now);
        let told = slowness.slow_disks(&map, now);
        let told: Vec<_> =
            told.iter().map(|slow| (slow.disk.0, slow.node.0, slow.is_whole_node)).collect();
        assert_eq!(told, [(2, 1, true), (3, 1, true), (6, 3, false)]);
        assert!(slowness.is_slow(DiskId(3), SlowKind::Writes));
        assert!(!slowness.is_slow(DiskId(3), SlowKind::Reads));
        assert!(!slowness.is_slow(DiskId(7), SlowKind::Writes));
        // A disk that left the map is forgotten.
        let mut smaller = map.clone();
        smaller.disks.truncate(6);
        slowness.judge(&smaller, now);
        assert!(!slowness.is_slow(DiskId(6), SlowKind::Writes));
    }
}
