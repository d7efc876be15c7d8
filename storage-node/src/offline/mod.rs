//! What can be told of a disk that isn't running: a stopped one, or a copy.
//!
//! In comes the directory that holds the segments, as a [`Disk`](wire::disk::Disk); out come facts
//! ([`Survey`], [`IndexReport`], [`ExtentOwner`]) that a command line prints. The segments are the
//! truth here: what is live is found by reading them, and the index is only compared with that.
//!
//! What always holds: nothing but [`rebuild_index`] writes, makes or locks a file, so that all else
//! works on a directory that can't be written to. Damage is a finding and never ends a scan; what a
//! newer release wrote, or another disk, is refused before anything else is read.
//!
//! | room | what it does |
//! | --- | --- |
//! | [`directory`] | whose the directory is, and its segments |
//! | [`survey`] | every record of every segment: what is live, deleted, damaged, torn |
//! | [`dump`] | every record again, with what the survey knows of it |
//! | [`owners`] | the sealed owner of every live extent |
//! | [`index_report`] | whether the index says what the segments say |
//! | [`overlay`] | a disk whose changes stay in memory |
//! | [`rebuild`] | makes the index anew |

mod directory;
mod dump;
#[cfg(test)]
mod fixture;
mod index_report;
mod overlay;
mod owners;
mod rebuild;
mod root;
mod survey;
#[cfg(test)]
mod tests;

pub use directory::{OfflineError, SegmentFile, ShardsDirectory, SuperblockState};
pub use dump::{CheckedRecord, DumpedRecord, RecordState, dump};
pub use index_report::{Difference, IndexReport, IndexState, report_index};
pub use owners::{ExtentOwner, ExtentShard, owners};
pub use rebuild::{MissingSegment, RebuildError, Rebuilt, rebuild_index};
pub use survey::{Depth, Finding, FindingKind, Place, RecordCounts, SegmentSurvey, Survey, survey};

/// Told of how many more bytes of the segments have been dealt with.
pub type Watch<'a> = &'a dyn Fn(u64);
