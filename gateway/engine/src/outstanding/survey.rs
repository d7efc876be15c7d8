//! Goes through the metadata for everything that lacks shards.
//!
//! In: the repair queue, and the extents of the groups that have a slot on a disk that was given up
//! or is down. Out: sums. Nothing is estimated: when the walk was cut short, the sums say so and are
//! what there is at least.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::ids::PgId;
use model::moves::MoveReason;
use model::placement::{Limits, plan_moves};
use model::query::{Answer, MetadataError, Query};

use super::tally::{LostSlots, Outlook, OutstandingSums, lost_slots};
use crate::shared::Shared;

/// Rows in one answer.
const PAGE: u32 = 10_000;

/// Rows that are looked at in one walk.
const ROWS_MAX: u64 = 20_000_000;

/// How long a walk may take.
const WALK_MAX: Duration = Duration::from_secs(20);

/// What a walk found.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) map: Arc<ClusterMap>,
    pub(super) sums: OutstandingSums,
    pub(super) lost_slots: LostSlots,
    /// Whether everything was looked at.
    pub(super) is_whole: bool,
    /// When it began.
    pub(super) at: Duration,
    /// How long it took.
    pub(super) took: Duration,
    /// Bytes of shards that had been rebuilt here when it ended.
    pub(super) rebuilt: u64,
    /// Bytes of shards that were left to be rebuilt then.
    pub(super) left: u64,
}

/// The bounds of a walk.
struct Walk<'a> {
    shared: &'a Shared,
    until: Duration,
    rows: u64,
}

impl Walk<'_> {
    /// Counts rows; whether the walk may go on.
    fn goes_on(&mut self, rows: usize) -> bool {
        self.rows += rows as u64;
        self.rows < ROWS_MAX && self.shared.clock.monotonic() < self.until
    }
}

/// Looks at everything.
pub(super) async fn survey(shared: &Shared) -> Result<Survey, MetadataError> {
    let at = shared.clock.monotonic();
    let map = shared.map.refresh().await?;
    let planned = planned(shared, &map).await;
    let outlook = Outlook::new(&map, &planned);
    let groups = affected(&map);
    let mut sums = OutstandingSums::default();
    let mut walk = Walk { shared, until: at + WALK_MAX, rows: 0 };
    let of_groups: BTreeSet<PgId> = groups.iter().map(|pg| pg.id).collect();
    let mut is_whole = queue(&mut walk, &outlook, &of_groups, &mut sums).await?;
    for group in groups {
        if !is_whole {
            break;
        }
        is_whole = extents(&mut walk, &outlook, group, &mut sums).await?;
    }
    let lost_slots = outlook.lost_slots;
    let took = shared.clock.monotonic().saturating_sub(at);
    let (rebuilt, left) = (0, sums.shard_bytes);
    Ok(Survey { map, sums, lost_slots, is_whole, at, took, rebuilt, left })
}

/// Groups with a slot that is lost or away, those with the least to spare first.
fn affected(map: &ClusterMap) -> Vec<&Pg> {
    let is_short = |disk: &model::ids::DiskId| {
        map.disk(*disk).is_none_or(|disk| matches!(disk.state, DiskState::Out | DiskState::Down))
    };
    let short = |pg: &Pg| pg.disks.iter().filter(|disk| is_short(disk)).count();
    let mut groups: Vec<&Pg> = map.pgs.iter().filter(|pg| short(pg) > 0).collect();
    let slots = |pg: &Pg| i32::try_from(short(pg)).unwrap_or(i32::MAX);
    groups.sort_by_key(|pg| i32::from(pg.coding.parity()).saturating_sub(slots(pg)));
    groups
}

/// The lost slots that would begin to move now.
pub(crate) async fn planned(shared: &Shared, map: &Arc<ClusterMap>) -> BTreeSet<(PgId, u8)> {
    if lost_slots(map).next().is_none() {
        return BTreeSet::new();
    }
    let map = Arc::clone(map);
    let plan = move || {
        let limits = Limits { least: MoveReason::Lost, ..Limits::NONE };
        plan_moves(&map, &limits).into_iter().map(|wanted| (wanted.pg, wanted.slot)).collect()
    };
    shared.compute(plan).await.unwrap_or_default()
}

/// Counts the repair queue, without the groups that are gone through; whether all of it was seen.
async fn queue(
    walk: &mut Walk<'_>,
    outlook: &Outlook<'_>,
    without: &BTreeSet<PgId>,
    sums: &mut OutstandingSums,
) -> Result<bool, MetadataError> {
    let mut after = None;
    loop {
        let answer = walk.shared.metadata.query(Query::Repairs { after, limit: PAGE }).await?;
        let Answer::Repairs(page) = answer else { return Err(MetadataError::Unavailable) };
        let others = page.items.iter().filter(|item| !without.contains(&item.extent.id.pg));
        others.for_each(|item| sums.count(outlook, &item.extent));
        if page.next.is_none() {
            return Ok(true);
        }
        after = page.next;
        if !walk.goes_on(page.items.len()) {
            return Ok(false);
        }
    }
}

/// Counts the extents of a group that have an owner; whether all of them were seen.
async fn extents(
    walk: &mut Walk<'_>,
    outlook: &Outlook<'_>,
    group: &Pg,
    sums: &mut OutstandingSums,
) -> Result<bool, MetadataError> {
    let mut after = None;
    loop {
        let query = Query::Extents { pg: group.id, after, limit: PAGE };
        let answer = walk.shared.metadata.query(query).await?;
        let Answer::Extents(page) = answer else { return Err(MetadataError::Unavailable) };
        let owned = page.extents.iter().filter(|entry| entry.is_owned);
        owned.for_each(|entry| sums.count(outlook, &entry.extent));
        let goes_on = walk.goes_on(page.extents.len());
        if page.next.is_none() {
            return Ok(true);
        }
        after = page.next;
        if !goes_on {
            return Ok(false);
        }
    }
}
