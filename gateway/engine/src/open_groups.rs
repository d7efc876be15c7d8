//! The placement groups that new extents may go to, found once for each cluster map.
//!
//! In: a map. Out: its open groups by coding, and of those the ones that a writer may use without the
//! disks that it avoids. What always holds: [`OpenGroups::draw`] draws from just the groups that
//! [`ClusterMap::open_pgs_of`] names, each as likely as the others; and an extent costs the same however
//! many groups there are, as long as few disks are avoided.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::cluster_map::{ClusterMap, Pg};
use model::coding::Coding;
use model::ids::DiskId;

/// Draws that may meet an avoided disk before all groups are gone through.
const DRAWS_MAX: u32 = 8;

/// The open groups of one map.
#[derive(Debug)]
pub(crate) struct OpenGroups {
    map: Arc<ClusterMap>,
    by_coding: BTreeMap<Coding, OfCoding>,
}

/// Those of one coding, as places in the map.
#[derive(Debug, Default)]
struct OfCoding {
    /// Whose disks are all to stay.
    staying: Vec<usize>,
    /// With a disk that is to be empty: for when there are no others.
    drained: Vec<usize>,
}

/// Groups among which a writer may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    map: &'a ClusterMap,
    /// Places in the map: open groups of one coding, alike but for avoided disks.
    places: &'a [usize],
    avoided: &'a [DiskId],
}

impl OpenGroups {
    /// Those of this map.
    pub(crate) fn new(map: Arc<ClusterMap>) -> Self {
        let mut by_coding: BTreeMap<Coding, OfCoding> = BTreeMap::new();
        for (place, pg) in map.pgs.iter().enumerate().filter(|(_, pg)| map.is_open(pg)) {
            let of_coding = by_coding.entry(pg.coding).or_default();
            let is_drained = map.has_drained_disk(pg);
            let places = if is_drained { &mut of_coding.drained } else { &mut of_coding.staying };
            places.push(place);
        }
        Self { map, by_coding }
    }

    /// The map.
    pub(crate) fn map(&self) -> &Arc<ClusterMap> {
        &self.map
    }

    /// The groups that are best for `wanted`, of which at least one has none of `avoided`.
    pub(crate) fn best<'a>(&'a self, wanted: Coding, avoided: &'a [DiskId]) -> Option<Choice<'a>> {
        let choice = |places: &'a [usize]| Choice { map: &self.map, places, avoided };
        let found = |of_coding: &'a OfCoding| {
            let ways = [choice(&of_coding.staying), choice(&of_coding.drained)];
            ways.into_iter().find(Choice::is_some)
        };
        // Nearly always there is one of the coding that is wanted.
        if let Some(choice) = self.by_coding.get(&wanted).and_then(found) {
            return Some(choice);
        }
        let mut others: Vec<(&Coding, &OfCoding)> = self.by_coding.iter().collect();
        others.sort_by_key(|(coding, _)| std::cmp::Reverse(coding.rank_for(wanted)));
        others.into_iter().find_map(|(_, of_coding)| found(of_coding))
    }
}

impl<'a> Choice<'a> {
    /// The coding of all of them.
    pub(crate) fn coding(&self) -> Option<Coding> {
        Some(self.map.pgs.get(*self.places.first()?)?.coding)
    }

    /// All of them, in the map's order.
    pub(crate) fn all(self) -> impl Iterator<Item = &'a Pg> {
        let pgs = self.places.iter().filter_map(move |place| self.map.pgs.get(*place));
        pgs.filter(move |pg| self.may_be(pg))
    }

    /// One of them.
    pub(crate) fn draw(self, below: &mut impl FnMut(u64) -> u64) -> Option<&'a Pg> {
        let draws = if self.avoided.is_empty() { 1 } else { DRAWS_MAX };
        let count = self.places.len();
        for _ in 0..draws {
            let place = self.places.get(below(count as u64) as usize % count.max(1))?;
            let pg = self.map.pgs.get(*place)?;
            if self.may_be(pg) {
                return Some(pg);
            }
        }
        // Whoever was drawn in vain is as unlikely as before: this is the same draw among fewer.
        let all: Vec<&Pg> = self.all().collect();
        all.get(below(all.len() as u64) as usize % all.len().max(1)).copied()
    }

    fn is_some(&self) -> bool {
        self.all().next().is_some()
    }

    fn may_be(&self, pg: &Pg) -> bool {
        !pg.disks.iter().any(|disk| self.avoided.contains(disk))
    }
}

#[cfg(test)]
#[path = "open_groups_tests.rs"]
mod tests;
