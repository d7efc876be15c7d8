//! Goes over all PGs, a page of extents at a time.

use std::sync::Arc;
use std::time::Duration;

use model::cluster_map::{ClusterMap, DiskState, Pg};
use model::ids::{DiskId, ExtentId, PgId, ShardId};
use model::query::{Answer, MetadataError, Query};
use model::upkeep::ExtentEntry;
use tokio::sync::watch;

use super::orphans::Orphans;
use super::plan::{Difference, compare};
use crate::scrub::{inventory, lacking, queue_repairs};
use crate::shared::Shared;

/// Extents that are compared at a time.
const PAGE: u32 = 1000;

/// Before the first pass: what a crash left behind is found soon, and not while the server starts.
const FIRST_DELAY: Duration = Duration::from_mins(1);

/// After an error.
const ERROR_PAUSE: Duration = Duration::from_secs(5);

/// Reconciles until told to stop.
pub(crate) async fn run(
    shared: Arc<Shared>,
    interval: Duration,
    mut stopping: watch::Receiver<bool>,
) {
    let mut orphans = Orphans::default();
    let mut next_pass = shared.clock.monotonic() + FIRST_DELAY.min(interval);
    loop {
        let grace = shared.options.orphan_grace;
        let due = orphans.next_due(grace).map_or(next_pass, |due| due.min(next_pass));
        let pause = due.saturating_sub(shared.clock.monotonic());
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(pause) => {}
        }
        let is_pass_due = shared.clock.monotonic() >= next_pass;
        let work = async {
            if is_pass_due {
                pass(&shared, &mut orphans).await;
            }
            if let Err(error) = orphans.sweep(&shared).await {
                tracing::debug!(%error, "orphans are looked at later");
                shared.clock.sleep(ERROR_PAUSE).await;
            }
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = work => {}
        }
        if is_pass_due {
            next_pass = shared.clock.monotonic() + interval;
            metrics::counter!("drystone_reconcile_passes_total").increment(1);
        }
    }
}

/// Goes over all PGs; one that fails is taken up again where it was.
async fn pass(shared: &Shared, orphans: &mut Orphans) {
    let mut next = PgId(0);
    let mut after = None;
    loop {
        match step(shared, orphans, next, after).await {
            Ok(Step::NoSuchPg) => return,
            Ok(Step::Page(Some(last))) => after = Some(last),
            Ok(Step::Page(None)) => {
                next = PgId(next.0 + 1);
                after = None;
            }
            Err(error) => {
                tracing::debug!(%error, pg = next.0, "reconciliation goes on later");
                shared.clock.sleep(ERROR_PAUSE).await;
            }
        }
        shared.clock.sleep(shared.options.reconcile_pause).await;
    }
}

/// What was compared.
enum Step {
    /// A page, up to this extent, or to the PG's end.
    Page(Option<ExtentId>),
    /// PGs are numbered without gaps: that was the last.
    NoSuchPg,
}

/// Compares one page of a PG with all of its disks.
async fn step(
    shared: &Shared,
    orphans: &mut Orphans,
    pg: PgId,
    after: Option<ExtentId>,
) -> Result<Step, MetadataError> {
    let map = shared.map.refresh().await?;
    let Some(pg) = map.pg(pg) else { return Ok(Step::NoSuchPg) };
    let page = Page::read(shared, pg.id, after).await?;
    let mut missing = Vec::new();
    for (slot, disk) in (0u8..).zip(&pg.disks) {
        let Some(found) = page.on_disk(shared, &map, slot, *disk).await else { continue };
        if found.misplaced > 0 {
            let (pg, count) = (pg.id.0, found.misplaced);
            // A writer whose disk failed half-way sent its last stripes again elsewhere: what it
            // left here goes with its extent.
            tracing::debug!(
                pg,
                disk = disk.0,
                count,
                "a disk holds shards that have no place there"
            );
        }
        missing.extend(found.missing.iter().map(|id| (id.extent, id.slot)));
        orphans.consider(shared, *disk, found.strangers).await?;
    }
    metrics::counter!("drystone_reconcile_missing_shards_total").increment(missing.len() as u64);
    queue_repairs(shared, &lacking(missing)).await?;
    Ok(Step::Page(page.until))
}

/// A page of a PG's extents.
struct Page {
    extents: Vec<ExtentEntry>,
    /// The range: behind this shard ...
    after: ShardId,
    /// ... up to this extent, or to the PG's end.
    until: Option<ExtentId>,
}

impl Page {
    async fn read(
        shared: &Shared,
        pg: PgId,
        after: Option<ExtentId>,
    ) -> Result<Self, MetadataError> {
        let answer = shared.metadata.query(Query::Extents { pg, after, limit: PAGE }).await?;
        let Answer::Extents(page) = answer else { return Err(MetadataError::Unavailable) };
        let after = match after {
            Some(extent) => ShardId { extent, stripe: u16::MAX, slot: u8::MAX },
            None => ShardId { extent: ExtentId { pg, ..ExtentId::default() }, stripe: 0, slot: 0 },
        };
        Ok(Self { extents: page.extents, after, until: page.next })
    }

    /// What a disk lacks and has too much; `None` when it can't be asked or doesn't answer.
    async fn on_disk(
        &self,
        shared: &Shared,
        map: &ClusterMap,
        slot: u8,
        disk: DiskId,
    ) -> Option<Difference> {
        let state = map.disk(disk)?.state;
        if !matches!(state, DiskState::Up | DiskState::Full) {
            return None;
        }
        match inventory(shared, disk, self.after, self.until).await {
            Ok(found) => Some(compare(&self.extents, slot, &found)),
            Err(failure) => {
                tracing::debug!(%disk, ?failure, "a disk doesn't list its shards");
                None
            }
        }
    }
}

/// Shards of a PG that a disk should have and doesn't, those that are queued already left out;
/// `None` when it doesn't list what it has.
pub(crate) async fn missing_on(
    shared: &Shared,
    pg: &Pg,
    disk: DiskId,
) -> Result<Option<Vec<ShardId>>, MetadataError> {
    let map = shared.map.get().await?;
    let (mut missing, mut after) = (Vec::new(), None);
    loop {
        let page = Page::read(shared, pg.id, after).await?;
        for (slot, _) in (0u8..).zip(&pg.disks).filter(|(_, held)| **held == disk) {
            let Some(found) = page.on_disk(shared, &map, slot, disk).await else {
                return Ok(None);
            };
            missing.extend(found.missing);
        }
        after = page.until;
        if after.is_none() {
            return Ok(Some(missing));
        }
    }
}
