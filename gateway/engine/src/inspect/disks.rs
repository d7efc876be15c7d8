//! Asks disks what they have of some extents.
//!
//! In: which disks are asked of which extents. Out: what each says. Every disk is asked by itself,
//! extent after extent; one that doesn't answer isn't asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use model::extent::Extent;
use model::ids::{DiskId, ExtentId, ShardId};
use model::shard::{ShardError, ShardRequest, ShardResponse, ShardState};

use super::before;
use crate::scrub::verify;
use crate::shard_door::ShardFailure;
use crate::shared::Shared;

/// Disks that are asked at once.
const DISKS_AT_ONCE: usize = 32;

/// Extents that a disk verifies in one request.
const EXTENTS_PER_VERIFICATION: usize = 4;

/// How long a look into the index of a disk may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// The same for a disk that the map calls down.
const AWAY_DEADLINE: Duration = Duration::from_secs(1);

/// Shards in one page of a list: few, as what follows the extent in the list is of no interest.
const PAGE: u32 = 64;

/// Pages of an extent at most: its stripes times its slots.
const PAGES_MAX: usize = 64;

/// How a shard is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is there, and not known to be damaged.
    Sound,
    /// It is known to be damaged.
    Damaged,
}

/// What a disk says of an extent.
#[derive(Clone, Debug)]
pub(super) enum DiskSays {
    /// It has these shards of it.
    Has(BTreeMap<ShardId, Seen>),
    /// Nothing, for this reason.
    Nothing(String),
}

/// What all disks say.
pub(super) struct AllSay {
    by_disk: BTreeMap<DiskId, BTreeMap<usize, DiskSays>>,
}

impl AllSay {
    /// What a disk says of the extent at this place in the list; `None` when it wasn't asked.
    pub(super) fn of(&self, disk: DiskId, at: usize) -> Option<&DiskSays> {
        self.by_disk.get(&disk)?.get(&at)
    }
}

/// Asks them all.
pub(super) async fn ask_all(
    shared: &Shared,
    asked: &[(DiskId, Vec<usize>)],
    extents: &[Extent],
    verify: bool,
) -> AllSay {
    let lanes = asked.iter().map(|(disk, places)| async move {
        let lane = Lane { shared, disk: *disk, extents };
        let says = if verify { lane.verify(places).await } else { lane.look(places).await };
        (*disk, says)
    });
    // Collected first: a lazy iterator of futures that borrow can't be sent between threads.
    let lanes: Vec<_> = lanes.collect();
    let by_disk = stream::iter(lanes).buffer_unordered(DISKS_AT_ONCE).collect().await;
    AllSay { by_disk }
}

struct Lane<'a> {
    shared: &'a Shared,
    disk: DiskId,
    extents: &'a [Extent],
}

impl Lane<'_> {
    /// Looks into its index, and its list of damage.
    async fn look(&self, places: &[usize]) -> BTreeMap<usize, DiskSays> {
        let mut says = BTreeMap::new();
        let mut silent: Option<String> = None;
        for at in places {
            let Some(extent) = self.extents.get(*at) else { continue };
            let said = match &silent {
                Some(why) => DiskSays::Nothing(why.clone()),
                None => match self.shards_of(extent.id).await {
                    Ok(shards) => DiskSays::Has(shards),
                    Err(failure) => {
                        let why = reason(&failure);
                        silent = Some(why.clone());
                        DiskSays::Nothing(why)
                    }
                },
            };
            says.insert(*at, said);
        }
        says
    }

    /// Has it read and verify every byte.
    async fn verify(&self, places: &[usize]) -> BTreeMap<usize, DiskSays> {
        let mut says = BTreeMap::new();
        let mut silent: Option<String> = None;
        for some in places.chunks(EXTENTS_PER_VERIFICATION) {
            let ids: Vec<ExtentId> =
                some.iter().filter_map(|at| Some(self.extents.get(*at)?.id)).collect();
            let verified = match &silent {
                Some(why) => Err(why.clone()),
                None => verify(self.shared, self.disk, ids).await.map_err(|why| reason(&why)),
            };
            if let Err(why) = &verified {
                silent = Some(why.clone());
            }
            for at in some {
                let Some(extent) = self.extents.get(*at) else { continue };
                let said = match &verified {
                    Ok(shards) => {
                        let own = shards.iter().filter(|(id, _)| id.extent == extent.id);
                        DiskSays::Has(own.map(|(id, state)| (*id, seen(*state))).collect())
                    }
                    Err(why) => DiskSays::Nothing(why.clone()),
                };
                says.insert(*at, said);
            }
        }
        says
    }

    async fn shards_of(&self, extent: ExtentId) -> Result<BTreeMap<ShardId, Seen>, ShardFailure> {
        let mut shards = BTreeMap::new();
        let start =
            before(extent).map(|id| ShardId { extent: id, stripe: u16::MAX, slot: u8::MAX });
        let mut after = start;
        for _ in 0..PAGES_MAX {
            let (disk, pg) = (self.disk, extent.pg);
            let request = ShardRequest::Inventory { disk, pg, after, limit: PAGE };
            let ShardResponse::Inventory(page) = self.ask(request).await? else {
                return Err(another_answer());
            };
            let is_end = page.len() < PAGE as usize
                || page.last().is_none_or(|(last, _)| last.extent != extent);
            // A list that doesn't go on would never end.
            let last = page.last().map(|(last, _)| *last);
            if last.is_some() && last <= after {
                return Err(another_answer());
            }
            after = last;
            let own = page.into_iter().filter(|(id, _)| id.extent == extent);
            shards.extend(own.map(|(id, _)| (id, Seen::Sound)));
            if is_end {
                break;
            }
        }
        if !shards.is_empty() {
            self.mark_damaged(extent, start, &mut shards).await?;
        }
        Ok(shards)
    }

    async fn mark_damaged(
        &self,
        extent: ExtentId,
        start: Option<ShardId>,
        shards: &mut BTreeMap<ShardId, Seen>,
    ) -> Result<(), ShardFailure> {
        let mut after = start;
        for _ in 0..PAGES_MAX {
            let request = ShardRequest::Damaged { disk: self.disk, after, limit: PAGE };
            let ShardResponse::Damaged(page) = self.ask(request).await? else {
                return Err(another_answer());
            };
            for id in page.iter().filter(|id| id.extent == extent) {
                shards.insert(*id, Seen::Damaged);
            }
            let last = page.last().copied();
            if last
                .is_none_or(|last| last.extent > extent || after.is_some_and(|after| last <= after))
            {
                return Ok(());
            }
            after = last;
        }
        Ok(())
    }

    async fn ask(&self, request: ShardRequest) -> Result<ShardResponse, ShardFailure> {
        let map = self.shared.map.current();
        let is_away = map.is_some_and(|map| map.is_away(self.disk));
        let deadline = if is_away { AWAY_DEADLINE } else { LOOK_DEADLINE };
        self.shared.door.call(self.disk, request, deadline).await
    }
}

const fn seen(state: ShardState) -> Seen {
    match state {
        ShardState::Sound => Seen::Sound,
        ShardState::Damaged => Seen::Damaged,
    }
}

fn another_answer() -> ShardFailure {
    ShardFailure::Refused(ShardError::Invalid("another answer".into()))
}

/// Why a disk said nothing, in half a sentence.
fn reason(failure: &ShardFailure) -> String {
    match failure {
        ShardFailure::Unreachable => "its node does not answer".to_owned(),
        ShardFailure::TimedOut => "it does not answer in time".to_owned(),
        ShardFailure::Corrupt => "its answer came damaged".to_owned(),
        ShardFailure::Refused(error) => error.to_string(),
    }
}
