//! Scrub jobs as the admin listener's JSON tells them, and what is asked of it.
//!
//! The documents are these types, field by field; fields are added, never renamed.

use engine::{ScrubFigures, ScrubScope};
use model::ids::{DiskId, PgId};
use model::names::{BucketName, ObjectKey};
use serde::{Deserialize, Serialize};

/// What is to be scrubbed: `{"scope": "disk", "disk": 3}` and the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum Scope {
    /// One disk.
    Disk {
        /// Its number.
        disk: u32,
    },
    /// One placement group.
    Pg {
        /// Its number.
        pg: u32,
    },
    /// A bucket's objects.
    Bucket {
        /// Its name.
        bucket: String,
    },
    /// One object.
    Object {
        /// Its bucket's name.
        bucket: String,
        /// Its key.
        key: String,
    },
    /// Everything.
    All,
}

/// The body of `POST /scrub`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubOrder {
    /// What.
    #[serde(flatten)]
    pub scope: Scope,
    /// At most this fast; 0 for as fast as the disks go.
    #[serde(default)]
    pub bytes_per_second: u64,
}

impl Scope {
    /// The engine's scope; `None` when a name can't be one.
    pub fn parse(&self) -> Option<ScrubScope> {
        Some(match self {
            Self::Disk { disk } => ScrubScope::Disk(DiskId(*disk)),
            Self::Pg { pg } => ScrubScope::Pg(PgId(*pg)),
            Self::Bucket { bucket } => ScrubScope::Bucket(BucketName::parse(bucket).ok()?),
            Self::Object { bucket, key } => {
                ScrubScope::Object(BucketName::parse(bucket).ok()?, ObjectKey::parse(key).ok()?)
            }
            Self::All => ScrubScope::All,
        })
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Disk { disk } => write!(f, "disk {disk}"),
            Self::Pg { pg } => write!(f, "placement group {pg}"),
            Self::Bucket { bucket } => write!(f, "bucket {bucket}"),
            Self::Object { bucket, key } => write!(f, "object {bucket}/{key}"),
            Self::All => write!(f, "all placement groups"),
        }
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// It is under way.
    Running,
    /// It came to its end.
    Done,
    /// It could not be carried out to its end.
    Failed,
    /// It was told to stop.
    Stopped,
}

/// A scrub job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number, in this run of the server.
    pub id: u64,
    /// What is scrubbed.
    #[serde(flatten)]
    pub scope: Scope,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, as ISO 8601.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// How far it is, in `unit`.
    pub done: u64,
    /// Where it ends; 0 while that isn't known.
    pub total: u64,
    /// What `done` and `total` count: `bytes`, `extents`, `objects`, `placement groups`.
    pub unit: String,
    /// Shards that are whole.
    pub sound: u64,
    /// Shards that are damaged.
    pub damaged: u64,
    /// Shards that their disk doesn't have.
    pub missing: u64,
    /// Shards whose disk couldn't be asked.
    pub unreached: u64,
    /// Extents in the repair queue because of it.
    pub queued: u64,
}

impl Job {
    /// Takes over the counts.
    #[must_use]
    pub fn with_figures(self, figures: ScrubFigures) -> Self {
        let ScrubFigures { done, total, sound, damaged, missing, unreached, queued } = figures;
        Self { done, total, sound, damaged, missing, unreached, queued, ..self }
    }

    /// Whether it ended and found every shard whole.
    pub fn is_clean(&self) -> bool {
        self.state == JobState::Done && self.damaged + self.missing + self.unreached == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_read_as_they_are_documented() {
        let read = |text: &str| serde_json::from_str::<ScrubOrder>(text).map(|order| order.scope);
        let ok = |text: &str| read(text).expect("an order");
        assert_eq!(ok(r#"{"scope":"disk","disk":3}"#), Scope::Disk { disk: 3 });
        assert_eq!(ok(r#"{"scope":"pg","pg":0}"#), Scope::Pg { pg: 0 });
        assert_eq!(ok(r#"{"scope":"all","bytes_per_second":5}"#), Scope::All);
        let object = ok(r#"{"scope":"object","bucket":"photos","key":"a/b"}"#);
        assert_eq!(object.to_string(), "object photos/a/b");
        assert!(matches!(object.parse(), Some(ScrubScope::Object(..))));
        assert!(read(r#"{"scope":"disk"}"#).is_err());
        assert!(read(r#"{"scope":"everything"}"#).is_err());
        assert!(read("[]").is_err());
        let bad = Scope::Bucket { bucket: "No Bucket".to_owned() };
        assert_eq!(bad.parse(), None);
        let order = ScrubOrder { scope: Scope::Pg { pg: 7 }, bytes_per_second: 9 };
        let text = serde_json::to_string(&order).expect("json");
        assert_eq!(text, r#"{"scope":"pg","pg":7,"bytes_per_second":9}"#);
    }
}
