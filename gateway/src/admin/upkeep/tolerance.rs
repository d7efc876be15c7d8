//! What may be lost before data is, as documents tell it: of the disks by the placement groups, of the
//! metadata by its voters.

use model::cluster_map::{ClusterMap, Disk};
use model::placement::Level;
use model::placement::tolerance::{MetadataReach, Reach, Tolerance, Unit, Voter, metadata_reach};
use serde::{Deserialize, Serialize};

/// What may be lost at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToleranceStatus {
    /// All of it in a sentence, without its full stop.
    pub sentence: String,
    /// While every placement group can be read.
    pub reading: Vec<ReachStatus>,
    /// While every placement group has as many shards as an acknowledged stripe needs.
    pub writing: Vec<ReachStatus>,
    /// While the metadata has a majority; empty where its voters aren't known.
    pub metadata: Vec<MetadataReachStatus>,
}

/// How many of a unit may be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachStatus {
    /// `disk`, `node`, `rack` or `zone`.
    pub unit: String,
    /// Any so many of them; `null` when too much is lost already.
    pub survives: Option<u32>,
    /// Why not one more.
    pub limit: String,
}

/// How many of a unit the metadata may lose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataReachStatus {
    /// `replica`, `node`, `rack` or `zone`.
    pub unit: String,
    /// Any so many of them; `null` when there is no majority.
    pub survives: Option<u32>,
}

impl ToleranceStatus {
    /// Of a cluster of which so much can be read; `None` for voters that aren't known.
    pub fn new(
        map: &ClusterMap,
        is_readable: impl Fn(&Disk) -> bool,
        voters: Option<&[Voter]>,
    ) -> Self {
        let tolerance = Tolerance::with(map, is_readable);
        let metadata = voters.map(|voters| metadata_reach(map, voters)).unwrap_or_default();
        let sentence = match metadata_sentence(&metadata) {
            Some(more) => format!("{tolerance}; {more}"),
            None => tolerance.to_string(),
        };
        Self {
            sentence,
            reading: tolerance.reading.iter().map(ReachStatus::new).collect(),
            writing: tolerance.writing.iter().map(ReachStatus::new).collect(),
            metadata: metadata.iter().map(MetadataReachStatus::new).collect(),
        }
    }

    /// How many of any disks may be lost: -1 when something can't be read already, `None` when there
    /// is nothing to lose.
    pub fn more_disks(&self) -> Option<i64> {
        let disks = self.reading.first()?;
        Some(disks.survives.map_or(-1, i64::from))
    }

    /// Whether less may be lost of something than by `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        let is_less = |reach: &ReachStatus| {
            let found = other.reading.iter().find(|other| other.unit == reach.unit);
            found.is_some_and(|other| reach.survives < other.survives)
        };
        self.reading.iter().any(is_less)
    }
}

impl ReachStatus {
    fn new(reach: &Reach) -> Self {
        Self { unit: reach.unit.words().0.to_owned(), survives: reach.survives, limit: reach.why() }
    }
}

impl MetadataReachStatus {
    fn new(reach: &MetadataReach) -> Self {
        Self { unit: metadata_words(reach.unit).0.to_owned(), survives: reach.survives }
    }
}

const fn metadata_words(unit: Unit) -> (&'static str, &'static str) {
    match unit {
        Unit::Single => ("replica", "replicas"),
        Unit::Domain(Level::Node) => ("node", "nodes"),
        Unit::Domain(Level::Rack) => ("rack", "racks"),
        Unit::Domain(Level::Zone) => ("zone", "zones"),
    }
}

/// What the metadata survives; `None` where that isn't known.
fn metadata_sentence(reaches: &[MetadataReach]) -> Option<String> {
    let replicas = reaches.first()?;
    if replicas.survives.is_none() {
        return Some("the metadata has no majority".to_owned());
    }
    let survived: Vec<String> = reaches
        .iter()
        .filter_map(|reach| Some((reach.survives.filter(|count| *count > 0)?, reach.unit)))
        .map(|(count, unit)| {
            let (one, several) = metadata_words(unit);
            format!("{count} {}", if count == 1 { one } else { several })
        })
        .collect();
    Some(if survived.is_empty() {
        "the metadata survives no loss".to_owned()
    } else {
        format!("the metadata survives any {}", survived.join(", "))
    })
}
