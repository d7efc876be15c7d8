//! The inspection of a running replica's files: damage to what nobody reads is found all the same.
//!
//! In: every file of FORMAT.md that a running replica relies on. Out: nothing, or a fence (I-13): a
//! replica whose identity, vote, log or tables aren't on its disk as they were written would be worth
//! nothing after its next start, and is rebuilt while the others are well. A damaged snapshot is made
//! anew instead, as the state that it was made of is here.
//!
//! It reads past the page cache, a small piece at a time: a whole pass takes [`INSPECTION_PERIOD`], or
//! no longer than the disk needs when somebody asks (`drystone admin metadata check`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::ids::{ClusterId, ReplicaId};
use wire::disk::Disk;

use crate::identity::Identity;
use crate::limits::{INSPECTION_BYTES, INSPECTION_PERIOD};
use crate::raft_log::{LogError, RaftLog, check_hard_state};
use crate::state::{Fence, SnapshotScan, StateError, StateMachine};

/// Looks after the files of one replica. Cheap to clone.
#[derive(Clone)]
pub struct Inspection {
    /// The cluster that the replica belongs to.
    pub cluster: ClusterId,
    /// The replica.
    pub replica: ReplicaId,
    /// Its state; the state's disk is the replica's directory.
    pub machine: Arc<StateMachine>,
    /// Its log.
    pub log: Arc<RaftLog>,
    /// The log's directory.
    pub log_disk: Arc<dyn Disk>,
}

/// How long a pass may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As long as [`INSPECTION_PERIOD`].
    Slow,
    /// No longer than the disk needs.
    AtOnce,
}

/// What is read at a time.
enum Piece {
    Identity,
    HardState,
    Segment(u64),
    State { offset: u64 },
    Snapshot,
}

/// Why a file isn't well.
#[derive(Debug, thiserror::Error)]
enum Fault {
    /// It isn't what was written, or can't be read where it lies.
    #[error("{file} on the disk is damaged: {reason}")]
    Damaged { file: String, reason: String },
    /// It could not be looked at now.
    #[error("{file} can't be looked at: {reason}")]
    Unknown { file: String, reason: String },
}

impl Inspection {
    /// Makes one pass after the other, for as long as the replica lives.
    pub async fn run(&self) {
        let clock = self.machine.clock();
        while !self.fence().is_set() {
            // Opening a replica reads all of it, so the first pass needn't hurry.
            self.pass(Pace::Slow).await;
            clock.sleep(INSPECTION_PERIOD / 100).await;
        }
    }

    /// Reads everything once. Damage fences the replica and ends the pass.
    pub async fn pass(&self, pace: Pace) {
        let pieces = self.pieces();
        let pause = match pace {
            Pace::Slow => {
                INSPECTION_PERIOD / u32::try_from(pieces.len()).unwrap_or(u32::MAX).max(1)
            }
            Pace::AtOnce => Duration::ZERO,
        };
        for piece in pieces {
            if self.fence().is_set() {
                return;
            }
            if pace == Pace::Slow {
                self.machine.clock().sleep(pause).await;
            }
            if let Piece::Snapshot = piece {
                self.look_at_snapshot(pause).await;
                continue;
            }
            let own = self.clone();
            match tokio::task::spawn_blocking(move || own.look_at(&piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(fault @ Fault::Damaged { .. })) => self.fence().set(&fault.to_string()),
                Ok(Err(fault @ Fault::Unknown { .. })) => {
                    tracing::warn!(replica = %self.replica, %fault, "the inspection goes on without it");
                }
                Err(error) => tracing::error!(%error, "the inspection of a piece failed"),
            }
        }
        metrics::counter!("drystone_metadata_inspections_total").increment(1);
    }

    fn fence(&self) -> &Fence {
        self.machine.fence()
    }

    /// Everything, as of now: what is removed later is passed over, what is added waits for the next
    /// pass.
    fn pieces(&self) -> Vec<Piece> {
        let mut pieces = vec![Piece::Identity, Piece::HardState];
        pieces.extend(self.log.segment_numbers().into_iter().map(Piece::Segment));
        // A length that can't be told is found when the first piece is read.
        let length = self.machine.blocks().length().unwrap_or(INSPECTION_BYTES);
        let count = length.div_ceil(INSPECTION_BYTES);
        pieces.extend((0..count).map(|at| Piece::State { offset: at * INSPECTION_BYTES }));
        pieces.push(Piece::Snapshot);
        pieces
    }

    fn look_at(&self, piece: &Piece) -> Result<(), Fault> {
        match piece {
            Piece::Identity => self.look_at_identity(),
            Piece::HardState => {
                check_hard_state(&*self.log_disk).map_err(|error| log_fault("the vote", error))
            }
            Piece::Segment(number) => match self.log.segment_check(*number) {
                Some(check) => {
                    check.run().map_err(|error| log_fault(&format!("log segment {number}"), error))
                }
                None => Ok(()),
            },
            Piece::State { offset } => self
                .machine
                .blocks()
                .check(*offset, INSPECTION_BYTES)
                .map_err(|error| fault("the state", &error)),
            Piece::Snapshot => Ok(()),
        }
    }

    fn look_at_identity(&self) -> Result<(), Fault> {
        let file = "the identity";
        let found = Identity::read(&**self.machine.disk()).map_err(|error| fault(file, &error))?;
        if found.is_some_and(|found| (found.cluster, found.replica) == (self.cluster, self.replica))
        {
            return Ok(());
        }
        let reason = "it isn't this replica's".to_owned();
        Err(Fault::Damaged { file: file.to_owned(), reason })
    }

    /// Reads the snapshot, chunk by chunk; makes it anew where it is damaged.
    async fn look_at_snapshot(&self, pause: Duration) {
        let Err(why) = self.scan_snapshot(pause).await else {
            return;
        };
        if let StateError::Io(error) = &why
            && !is_damage(error)
        {
            tracing::warn!(replica = %self.replica, %error, "the snapshot can't be looked at");
            return;
        }
        let machine = Arc::clone(&self.machine);
        // It was logged; if no other could be made, the next pass, or whoever sends it, tries again.
        let _ = tokio::task::spawn_blocking(move || machine.remake_snapshot(&why)).await;
    }

    async fn scan_snapshot(&self, pause: Duration) -> Result<(), StateError> {
        let machine = Arc::clone(&self.machine);
        let begun = tokio::task::spawn_blocking(move || SnapshotScan::begin(&machine)).await;
        let Some(mut scan) = begun.map_err(io::Error::other)?? else {
            return Ok(());
        };
        loop {
            let step = tokio::task::spawn_blocking(move || (scan.step(), scan)).await;
            let (has_more, next) = step.map_err(io::Error::other)?;
            if !has_more? || self.fence().is_set() {
                return Ok(());
            }
            scan = next;
            if !pause.is_zero() {
                self.machine.clock().sleep(pause.min(Duration::from_secs(1))).await;
            }
        }
    }
}

/// Whether an error tells of what lies on the disk, and not of the moment.
fn is_damage(error: &io::Error) -> bool {
    /// Linux: the device can't read it.
    const EIO: i32 = 5;
    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(EIO)
}

fn fault(file: &str, error: &io::Error) -> Fault {
    let (file, reason) = (file.to_owned(), error.to_string());
    if is_damage(error) { Fault::Damaged { file, reason } } else { Fault::Unknown { file, reason } }
}

fn log_fault(file: &str, error: LogError) -> Fault {
    match error {
        LogError::Damaged(reason) => Fault::Damaged { file: file.to_owned(), reason },
        LogError::Io(error) => fault(file, &error),
    }
}
