//! Gathers the bytes of one window of a stripe.
//!
//! It asks the data shards that hold the window. Where one is missing, damaged, refused, or slower
//! than usual, it asks any `k'` other shards for the same columns, and what is complete first
//! wins. Disks that are slow are asked after the others, and those that are down or failed lately
//! only when the others don't suffice.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::cluster_map::{ClusterMap, DiskState};
use model::coding::StripeGeometry;
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ShardId};
use model::limits::BLOCK_BYTES;
use wire::BoxFuture;
use wire::clock::timeout;

use super::ReadError;
use super::rebuild::rebuild;
use super::shard::{Piece, read_shard};
use crate::shard_door::ShardFailure;
use crate::shared::Shared;
use crate::stripe::shard_ranges;

/// A window of a stripe to be read.
pub(crate) struct StripeRead<'a> {
    /// The extent.
    pub(crate) extent: &'a Extent,
    /// The stripe.
    pub(crate) stripe: u16,
    /// The bytes of it; not empty.
    pub(crate) range: Range<u32>,
}

/// The verified bytes of a window, in order, in as many pieces as it took shards.
pub(crate) async fn read_stripe(
    shared: &Arc<Shared>,
    read: StripeRead<'_>,
) -> Result<Vec<Bytes>, ReadError> {
    let geometry = read
        .extent
        .stripe_geometry(read.stripe)
        .filter(|geometry| read.range.start < read.range.end && read.range.end <= geometry.bytes())
        .ok_or(ReadError::Damaged)?;
    let mut map = map_with(shared, read.extent).await?;
    let mut corrections = 0;
    loop {
        let mut gather = Gather {
            shared,
            extent: read.extent,
            stripe: read.stripe,
            geometry,
            fitness: fitness(shared, &map, read.extent, &geometry),
            map: Arc::clone(&map),
            needed: shard_ranges(&geometry, &read.range),
            pieces: Vec::new(),
            asked: Vec::new(),
            bad: SlotSet::default(),
            losses: 0,
            with_parity: false,
        };
        match gather.run().await {
            Ok(()) => return gather.join(),
            Err(Stuck::TooFewShards) if corrections < CORRECTIONS_MAX => {
                // The disks may have moved since this map: another, if there is one, tells.
                match newer_map(shared, &map).await {
                    Some(newer) => map = newer,
                    None => return Err(gather.failure()),
                }
                corrections += 1;
            }
            Err(Stuck::TooFewShards) => return Err(gather.failure()),
            Err(Stuck::Lost) => return Err(ReadError::Unavailable),
        }
    }
}

/// Times that a read begins anew with a newer map.
const CORRECTIONS_MAX: u32 = 2;

/// How long it waits for one.
const CORRECTION_PATIENCE: Duration = Duration::from_secs(2);

/// A map newer than `known`.
async fn newer_map(shared: &Shared, known: &ClusterMap) -> Option<Arc<ClusterMap>> {
    let refresh = timeout(&*shared.clock, CORRECTION_PATIENCE, shared.map.refresh()).await;
    refresh.ok()?.ok().filter(|map| map.epoch > known.epoch)
}

/// Why a gathering ended without its window.
enum Stuck {
    /// Too few disks answered as they should.
    TooFewShards,
    /// The runtime is shutting down.
    Lost,
}

/// A map that knows the extent's PG.
async fn map_with(shared: &Shared, extent: &Extent) -> Result<Arc<ClusterMap>, ReadError> {
    let knows = |map: &Arc<ClusterMap>| map.pg(extent.id.pg).is_some();
    if let Some(map) = shared.map.current().filter(knows) {
        return Ok(map);
    }
    let map = shared.map.refresh().await.map_err(|_| ReadError::Unavailable)?;
    Some(map).filter(knows).ok_or(ReadError::Unavailable)
}

/// What is to be expected of the slots.
#[derive(Clone, Copy, Debug, Default)]
struct Fitness {
    /// Likely to answer well.
    healthy: SlotSet,
    /// Likely to answer well, and late.
    slow: SlotSet,
}

impl Fitness {
    /// The less, the sooner it is asked.
    fn rank(self, slot: u8) -> u8 {
        match (self.healthy.contains(slot), self.slow.contains(slot)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        }
    }
}

fn fitness(
    shared: &Shared,
    map: &ClusterMap,
    extent: &Extent,
    geometry: &StripeGeometry,
) -> Fitness {
    let mut fitness = Fitness::default();
    for slot in geometry.slots().filter(|slot| !extent.missing.contains(*slot)) {
        let Some(disk) = map.disk_of(extent.id, slot) else { continue };
        let is_up = matches!(disk.state, DiskState::Up | DiskState::Full);
        if is_up && !shared.door.is_bad_for_reads(disk.id) {
            let is_slow = shared.door.is_slow_to_read(disk.id);
            if is_slow { &mut fitness.slow } else { &mut fitness.healthy }.insert(slot);
        }
    }
    fitness
}

type Answer = (u8, Range<u32>, Result<Piece, ShardFailure>);

/// A gathering under way.
struct Gather<'a> {
    shared: &'a Arc<Shared>,
    extent: &'a Extent,
    stripe: u16,
    geometry: StripeGeometry,
    map: Arc<ClusterMap>,
    fitness: Fitness,
    /// The ranges of data shards that make up the window.
    needed: Vec<(u8, Range<u32>)>,
    /// What came.
    pieces: Vec<Piece>,
    /// What is under way, and whether it is past its time.
    asked: Vec<(u8, Range<u32>, bool)>,
    /// Slots that failed.
    bad: SlotSet,
    /// How many of them failed for good.
    losses: u32,
    /// Whether other shards are asked to take the place of data.
    with_parity: bool,
}

impl<'a> Gather<'a> {
    /// Ends when every needed range is covered by a piece.
    async fn run(&mut self) -> Result<(), Stuck> {
        let mut answers: FuturesUnordered<BoxFuture<'a, Answer>> = FuturesUnordered::new();
        for (slot, range) in self.needed.clone() {
            let is_healthy = self.fitness.healthy.contains(slot);
            self.with_parity |= !is_healthy;
            if is_healthy {
                answers.push(self.ask(slot, range));
            } else if self.is_to_measure(slot) {
                answers.push(self.ask(slot, range));
                // Nobody counts on it.
                self.asked
                    .iter_mut()
                    .filter(|(asked, ..)| *asked == slot)
                    .for_each(|asked| asked.2 = true);
            }
        }
        let mut hedge = self.shared.clock.sleep(self.patience());
        let mut hedged = false;
        loop {
            if self.lacking().next().is_none() {
                return Ok(());
            }
            if self.with_parity {
                let columns = self.columns();
                if self.rebuild(&columns).await? {
                    return Ok(());
                }
                for (slot, range) in self.next_to_ask(&columns) {
                    answers.push(self.ask(slot, range));
                }
            }
            if answers.is_empty() {
                return Err(Stuck::TooFewShards);
            }
            tokio::select! {
                biased;
                answer = answers.next() => {
                    if let Some(answer) = answer {
                        self.take(answer);
                    }
                }
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    self.with_parity = true;
                    self.asked.iter_mut().for_each(|(_, _, late)| *late = true);
                    metrics::counter!("drystone_hedged_reads_total").increment(1);
                }
            }
        }
    }

    /// Whether a slow disk is read besides, to see whether it is slow still.
    fn is_to_measure(&self, slot: u8) -> bool {
        let door = &self.shared.door;
        let disk = self.map.disk_of(self.extent.id, slot).map(|disk| disk.id);
        self.fitness.slow.contains(slot)
            && disk.is_some_and(|id| door.slowness.may_measure(id, self.shared.clock.monotonic()))
    }

    /// How long the shards may take before parity is asked too.
    fn patience(&self) -> Duration {
        let (door, options) = (&self.shared.door, &self.shared.options);
        let longest = self.needed.iter().map(|(_, range)| range.end - range.start).max();
        let latency =
            if longest.unwrap_or(0) <= BLOCK_BYTES { &door.small_reads } else { &door.large_reads };
        latency.deadline(3, options.hedge_min, options.hedge_max)
    }

    /// Asks a slot for a range of its shard.
    fn ask(&mut self, slot: u8, range: Range<u32>) -> BoxFuture<'a, Answer> {
        self.asked.push((slot, range.clone(), false));
        let id = ShardId { extent: self.extent.id, stripe: self.stripe, slot };
        let shard_bytes = self.geometry.stored_bytes(slot);
        let disk = self.map.disk_of(self.extent.id, slot).map(|disk| disk.id);
        let shared = self.shared;
        Box::pin(async move {
            let result = match disk {
                Some(disk) => read_shard(shared, disk, id, shard_bytes, range.clone()).await,
                None => Err(ShardFailure::Unreachable),
            };
            (slot, range, result)
        })
    }

    fn take(&mut self, (slot, range, result): Answer) {
        self.asked.retain(|(asked, of, _)| (*asked, of) != (slot, &range));
        match result {
            Ok(piece) => self.pieces.push(piece),
            Err(failure) => {
                self.bad.insert(slot);
                self.with_parity = true;
                if failure.is_loss() {
                    self.losses += 1;
                    self.shared.reports.report(self.extent.id, slot);
                }
            }
        }
    }

    /// Needed ranges that no piece covers.
    fn lacking(&self) -> impl Iterator<Item = &(u8, Range<u32>)> {
        self.needed.iter().filter(|(slot, range)| self.piece(*slot, range).is_none())
    }

    fn piece(&self, slot: u8, range: &Range<u32>) -> Option<&Piece> {
        self.pieces.iter().find(|piece| piece.slot == slot && piece.covers(range))
    }

    /// The columns to be rebuilt: whole blocks, as no less can be verified.
    fn columns(&self) -> Range<u32> {
        let start = self.lacking().map(|(_, range)| range.start).min().unwrap_or(0);
        let end = self.lacking().map(|(_, range)| range.end).max().unwrap_or(0);
        let start = start / BLOCK_BYTES * BLOCK_BYTES;
        start..end.next_multiple_of(BLOCK_BYTES).min(self.geometry.shard_bytes())
    }

    /// What a slot holds of the columns; empty when they lie in its padding.
    fn stored(&self, slot: u8, columns: &Range<u32>) -> Range<u32> {
        let end = columns.end.min(self.geometry.stored_bytes(slot));
        columns.start.min(end)..end
    }

    /// Rebuilds what is lacking, if enough shards are here.
    async fn rebuild(&mut self, columns: &Range<u32>) -> Result<bool, Stuck> {
        let wanted: Vec<u8> = self.lacking().map(|(slot, _)| *slot).collect();
        let enough = usize::from(self.geometry.data_shards());
        let mut padding: Vec<u8> = Vec::new();
        let mut known: Vec<Piece> = Vec::new();
        for slot in self.geometry.slots().filter(|slot| !wanted.contains(slot)) {
            let stored = self.stored(slot, columns);
            if known.len() + padding.len() == enough {
                break;
            } else if stored.is_empty() {
                padding.push(slot);
            } else if let Some(piece) = self.piece(slot, &stored) {
                known.push(piece.clone());
            }
        }
        if known.len() + padding.len() < enough {
            return Ok(false);
        }
        let rebuilt =
            rebuild(self.shared, self.geometry, columns.clone(), known, padding, wanted).await;
        self.pieces.extend(rebuilt.ok_or(Stuck::Lost)?);
        Ok(self.lacking().next().is_none())
    }

    /// Slots to be asked besides those under way, so that enough others answer in time: healthy
    /// ones first, then slow ones, and the rest only when there are no more of those.
    fn next_to_ask(&self, columns: &Range<u32>) -> Vec<(u8, Range<u32>)> {
        let is_lacking = |slot: u8| self.lacking().any(|(lacking, _)| *lacking == slot);
        let is_here =
            |slot: u8, stored: &Range<u32>| stored.is_empty() || self.piece(slot, stored).is_some();
        let covers = |range: &Range<u32>, stored: &Range<u32>| {
            let start = range.start / BLOCK_BYTES * BLOCK_BYTES;
            let end = range.end.next_multiple_of(BLOCK_BYTES);
            start <= stored.start && stored.end <= end
        };
        let is_coming = |slot: u8, stored: &Range<u32>| {
            self.asked
                .iter()
                .any(|(asked, range, late)| *asked == slot && !late && covers(range, stored))
        };
        let under_way = |slot: u8| self.asked.iter().any(|(asked, ..)| *asked == slot);
        let mut wanted = usize::from(self.geometry.data_shards());
        let mut candidates = Vec::new();
        for slot in self.geometry.slots() {
            let stored = self.stored(slot, columns);
            if !is_lacking(slot) && (is_here(slot, &stored) || is_coming(slot, &stored)) {
                wanted = wanted.saturating_sub(1);
            } else if !self.bad.contains(slot) && !is_lacking(slot) {
                let is_late = self
                    .asked
                    .iter()
                    .any(|(asked, range, late)| *asked == slot && *late && covers(range, &stored));
                if !is_late {
                    candidates.push((self.fitness.rank(slot), slot, stored));
                }
            }
        }
        candidates.sort_by_key(|(rank, slot, _)| (*rank, *slot));
        let mut next: Vec<_> =
            candidates.into_iter().take(wanted).map(|(_, slot, stored)| (slot, stored)).collect();
        // The last resort: the lacking ones themselves, where they were passed over as unlikely.
        if next.len() < wanted {
            for (slot, range) in self.lacking() {
                if !self.bad.contains(*slot) && !under_way(*slot) {
                    next.push((*slot, range.clone()));
                }
            }
        }
        next
    }

    fn failure(&self) -> ReadError {
        let damaged = self.losses > u32::from(self.geometry.parity_shards());
        let disks = self.map.pg(self.extent.id.pg).map(|pg| &*pg.disks);
        let disks: Vec<DiskId> = disks.unwrap_or_default().to_vec();
        let (extent, stripe) = (self.extent.id, self.stripe);
        if damaged {
            tracing::error!(%extent, stripe, ?disks, "a stripe has lost more shards than parity");
            metrics::counter!("drystone_damaged_reads_total").increment(1);
            ReadError::Damaged
        } else {
            tracing::warn!(%extent, stripe, ?disks, "too few shards of a stripe are in reach");
            ReadError::Unavailable
        }
    }

    /// The window's bytes, in order.
    fn join(&self) -> Result<Vec<Bytes>, ReadError> {
        let slice = |(slot, range): &(u8, Range<u32>)| {
            let piece = self.piece(*slot, range).ok_or(ReadError::Unavailable)?;
            Ok(piece.slice(range))
        };
        self.needed.iter().map(slice).collect()
    }
}
