//! All that is to move by a cluster map, planned once however many ask.
//!
//! In: maps. Out: plans. What always holds: one is made at a time, apart from the threads that answer;
//! for a map that was planned before there is no other plan. Of a cluster that is so large that planning
//! takes long, a plan is told for a while though the map has changed, less what has begun since: so
//! planning takes a third of the time at most, however often the map changes and whoever watches.

use std::sync::Arc;
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::moves::Move;
use model::placement;
use tokio::sync::{Mutex, OwnedMutexGuard};
use wire::clock::Clock;

use crate::admin::orders::OrderError;
use crate::admin::upkeep::plan::{SlotCounts, slots, stuck};

/// A plan that took longer than this is kept for a while.
const LONG: Duration = Duration::from_millis(500);

/// For so many times as long as it took.
const KEPT_FACTOR: u32 = 2;

/// All that is to move.
pub struct WholePlan {
    map: Arc<ClusterMap>,
    /// What is to move beside what is under way.
    pub moves: Vec<Move>,
    /// What can't, a sentence for each disk.
    pub stuck: Vec<String>,
    /// How many slots disks have.
    pub slots: SlotCounts,
}

impl WholePlan {
    /// By this map.
    pub fn new(map: &Arc<ClusterMap>) -> Self {
        let (moves, after) = placement::whole_plan(map);
        Self { map: Arc::clone(map), moves, stuck: stuck(&after), slots: slots(map) }
    }

    /// What of it is still to begin by `map`, which may be newer.
    pub fn wanted<'a>(&'a self, map: &'a ClusterMap) -> impl Iterator<Item = &'a Move> {
        let is_same = std::ptr::eq(&raw const *self.map, map);
        let is_wanted = move |one: &&Move| {
            let Some(pg) = map.pg(one.pg) else { return false };
            let has = pg.disks.get(usize::from(one.slot)) == Some(&one.from);
            has && pg.move_of(one.slot).is_none()
        };
        self.moves.iter().filter(move |one| is_same || is_wanted(one))
    }
}

/// The plan that was made last.
pub(super) struct Plans {
    clock: Arc<dyn Clock>,
    kept: Arc<Mutex<Option<Kept>>>,
}

struct Kept {
    plan: Arc<WholePlan>,
    ended: Duration,
    took: Duration,
}

/// The right to plan: nobody else does meanwhile.
pub(super) struct Turn {
    clock: Arc<dyn Clock>,
    kept: OwnedMutexGuard<Option<Kept>>,
}

impl Plans {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Arc::default() }
    }

    /// Waits for the right to plan. It lasts as long as what is computed by it, also when nobody waits
    /// for that any more.
    pub(super) async fn turn(&self) -> Turn {
        let kept = Arc::clone(&self.kept).lock_owned().await;
        Turn { clock: Arc::clone(&self.clock), kept }
    }

    /// The plan for this map, or one that isn't old.
    pub(super) async fn recent(&self, map: &Arc<ClusterMap>) -> Result<Arc<WholePlan>, OrderError> {
        let mut turn = self.turn().await;
        if let Some(plan) = turn.recent() {
            return Ok(plan);
        }
        let map = Arc::clone(map);
        super::desk::apart(move || turn.plan(&map)).await
    }

    /// What was planned is out of date: this process had something changed.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

impl Turn {
    fn recent(&self) -> Option<Arc<WholePlan>> {
        let kept = self.kept.as_ref()?;
        let age = self.clock.monotonic().saturating_sub(kept.ended);
        let is_kept = kept.took >= LONG && age < kept.took * KEPT_FACTOR;
        is_kept.then(|| Arc::clone(&kept.plan))
    }

    /// The plan for this very map.
    pub(super) fn plan(&mut self, map: &Arc<ClusterMap>) -> Arc<WholePlan> {
        if let Some(kept) = &*self.kept
            && Arc::ptr_eq(&kept.plan.map, map)
        {
            return Arc::clone(&kept.plan);
        }
        let began = self.clock.monotonic();
        let plan = Arc::new(WholePlan::new(map));
        let ended = self.clock.monotonic();
        let took = ended.saturating_sub(began);
        *self.kept = Some(Kept { plan: Arc::clone(&plan), ended, took });
        plan
    }
}

#[cfg(test)]
mod tests {
    use model::moves::SlotMove;
    use model::time::Timestamp;
    use wire::clock::SimulatedClock;

    use super::*;
    use crate::admin::upkeep::small_cluster::{add_disk, cluster};

    fn grown() -> Arc<ClusterMap> {
        let mut map = cluster(8, 1, "4+2");
        add_disk(&mut map, 8);
        Arc::new(map)
    }

    #[tokio::test]
    async fn a_map_is_planned_once() {
        let (one, other) = (grown(), grown());
        let plans = Plans::new(Arc::new(SimulatedClock::new()));
        let first = plans.recent(&one).await.expect("planned");
        assert!(!first.moves.is_empty() && first.stuck.is_empty());
        let again = plans.recent(&one).await.expect("planned");
        assert!(Arc::ptr_eq(&first, &again));
        let second = plans.recent(&other).await.expect("planned");
        assert!(!Arc::ptr_eq(&first, &second), "another map");
        plans.forget().await;
        let third = plans.recent(&other).await.expect("planned");
        assert!(!Arc::ptr_eq(&second, &third), "forgotten");
    }

    #[tokio::test]
    async fn what_took_long_is_told_for_a_while() {
        let clock = Arc::new(SimulatedClock::new());
        let plans = Plans::new(clock.clone());
        let (one, other) = (grown(), grown());
        let first = plans.recent(&one).await.expect("planned");
        if let Some(kept) = &mut *plans.kept.lock().await {
            kept.took = Duration::from_secs(3);
        }
        let kept = plans.recent(&other).await.expect("planned");
        assert!(Arc::ptr_eq(&first, &kept), "it isn't old");
        let exact = plans.turn().await.plan(&other);
        assert!(!Arc::ptr_eq(&first, &exact), "who needs the very map gets its plan");
        plans.turn().await.plan(&one);
        if let Some(kept) = &mut *plans.kept.lock().await {
            kept.took = Duration::from_secs(3);
        }
        clock.advance(Duration::from_secs(6));
        let anew = plans.recent(&other).await.expect("planned");
        assert!(Arc::ptr_eq(&anew.map, &other));
    }

    #[test]
    fn what_has_begun_since_is_not_wanted() {
        let map = grown();
        let plan = WholePlan::new(&map);
        let count = plan.moves.len();
        assert_eq!(plan.wanted(&map).count(), count);
        let mut later = ClusterMap::clone(&map);
        assert_eq!(plan.wanted(&later).count(), count, "nothing has begun");
        let (first, second) = (plan.moves[0], plan.moves[1]);
        let since = Timestamp(1);
        let (slot, to, reason) = (first.slot, first.to, first.reason);
        let begun = SlotMove { slot, to, reason, since, fault: None };
        later.pgs[first.pg.0 as usize].moves.push(begun);
        later.pgs[second.pg.0 as usize].disks[usize::from(second.slot)] = second.to;
        assert_eq!(plan.wanted(&later).count(), count - 2, "one has begun, one is done");
    }
}
