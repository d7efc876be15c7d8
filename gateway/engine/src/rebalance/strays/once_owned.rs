//! What had an owner while a shard of it was left over somewhere.
//!
//! In: groups of which a slot was given to another disk, and the extents that the metadata knows of
//! them. Out: whether an extent that the metadata doesn't know any more had an owner once. What always
//! holds: such a one was collected; as no id is used twice it never gets an owner again, though the
//! session that wrote it is still open (I-9). What isn't remembered waits until that session has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::ids::{ExtentId, PgId};
use model::query::{Answer, MetadataError, Query};

use super::EXTENTS_PER_PAGE;
use crate::shared::Shared;

/// Extents that are remembered: some 15 MiB.
const EXTENTS_MAX: usize = 500_000;

/// Extents that had an owner, by group.
#[derive(Debug, Default)]
pub(super) struct OnceOwned(Mutex<BTreeMap<PgId, Group>>);

#[derive(Debug, Default)]
struct Group {
    extents: BTreeSet<ExtentId>,
    /// When they were last added to.
    noted: Duration,
}

impl OnceOwned {
    /// Whether an extent had an owner.
    pub(super) fn contains(&self, extent: ExtentId) -> bool {
        self.groups().get(&extent.pg).is_some_and(|group| group.extents.contains(&extent))
    }

    /// Whether a group was looked at.
    pub(super) fn has_group(&self, pg: PgId) -> bool {
        self.groups().contains_key(&pg)
    }

    /// Forgets groups of which nothing is left over, unless they were looked at after this time.
    pub(super) fn retain(&self, left_over: &BTreeSet<PgId>, after: Duration) {
        self.groups().retain(|pg, group| left_over.contains(pg) || group.noted > after);
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        self.groups().clear();
    }

    /// Remembers the extents that the metadata knows of a group: each has, or had, an owner.
    pub(super) async fn note(&self, shared: &Shared, pg: PgId) -> Result<(), MetadataError> {
        let mut after = None;
        loop {
            let query = Query::Extents { pg, after, limit: EXTENTS_PER_PAGE };
            let Answer::Extents(page) = shared.metadata.query(query).await? else {
                return Err(MetadataError::Unavailable);
            };
            after = page.next;
            let ids = page.extents.into_iter().map(|entry| entry.extent.id);
            let has_room = self.add(pg, ids, shared.clock.monotonic());
            if after.is_none() || !has_room {
                return Ok(());
            }
        }
    }

    /// Whether there is room for more.
    fn add(&self, pg: PgId, ids: impl Iterator<Item = ExtentId>, now: Duration) -> bool {
        let mut groups = self.groups();
        let others: usize = groups.values().map(|group| group.extents.len()).sum();
        let group = groups.entry(pg).or_default();
        let room = EXTENTS_MAX.saturating_sub(others);
        group.extents.extend(ids.take(room));
        group.noted = now;
        room > 0
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, BTreeMap<PgId, Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at groups as soon as one of their slots is on another disk: what is collected from then on is
/// not deleted where the slot was. Until it is dropped.
pub(super) async fn follow(shared: &Shared, once_owned: &OnceOwned) {
    let mut maps = shared.map.follow();
    let mut before: Option<Arc<ClusterMap>> = maps.borrow_and_update().clone();
    while maps.changed().await.is_ok() {
        let map = maps.borrow_and_update().clone();
        if let (Some(before), Some(map)) = (&before, &map) {
            for pg in given_away(before, map) {
                if let Err(error) = once_owned.note(shared, pg).await {
                    tracing::debug!(%error, pg = pg.0, "what is left over there is looked at later");
                }
            }
        }
        before = map;
    }
    // There are no more maps; whoever looks for what is left over goes on.
    std::future::pending::<()>().await;
}

/// Groups of which a slot is on another disk than before.
fn given_away(before: &ClusterMap, map: &ClusterMap) -> Vec<PgId> {
    let is_other = |pg: &&model::cluster_map::Pg| {
        before.pg(pg.id).is_some_and(|before| before.disks != pg.disks)
    };
    map.pgs.iter().filter(is_other).map(|pg| pg.id).collect()
}

#[cfg(test)]
mod tests {
    use model::cluster_map::DiskState::Up;
    use model::ids::{DiskId, SessionId};

    use super::*;
    use crate::three_disks::in_order;

    fn ids(pg: u32, count: u32) -> impl Iterator<Item = ExtentId> {
        (0..count).map(move |sequence| ExtentId { pg: PgId(pg), session: SessionId(1), sequence })
    }

    #[test]
    fn groups_are_remembered_while_something_is_left_over_of_them() {
        let (known, second) = (OnceOwned::default(), Duration::from_secs);
        let [one, other] = [1, 2].map(|pg| ids(pg, 8).last().expect("some"));
        assert!(known.add(PgId(1), ids(1, 8), second(10)));
        assert!(known.add(PgId(2), ids(2, 8), second(20)));
        assert!(known.contains(one) && known.contains(other));
        assert!(!known.contains(ExtentId { sequence: 8, ..one }));
        known.retain(&BTreeSet::from([PgId(1)]), second(19));
        assert!(known.has_group(PgId(1)) && known.has_group(PgId(2)), "the second is news");
        known.retain(&BTreeSet::from([PgId(1)]), second(20));
        assert!(known.contains(one) && !known.has_group(PgId(2)));
        known.forget();
        assert!(!known.contains(one));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (known, now) = (OnceOwned::default(), Duration::ZERO);
        let most = u32::try_from(EXTENTS_MAX).expect("small");
        assert!(known.add(PgId(1), ids(1, most - 1), now));
        assert!(known.add(PgId(2), ids(2, 10), now));
        assert!(!known.add(PgId(2), ids(2, 20).skip(10), now));
        let first = ids(2, 1).next().expect("one");
        assert!(known.contains(first) && !known.contains(ExtentId { sequence: 1, ..first }));
    }

    #[test]
    fn a_slot_on_another_disk_is_noticed() {
        let before = in_order([Up; 3]);
        let mut map = before.clone();
        assert_eq!(given_away(&before, &map), []);
        map.pgs[0].disks[1] = DiskId(9);
        assert_eq!(given_away(&before, &map), [before.pgs[0].id]);
    }
}
