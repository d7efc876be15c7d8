//! The recovery that an operator began: started, watched, stopped, and what is held released.
//!
//! In: orders. Out: documents. What always holds: one runs at a time; its report stays until the next
//! begins. It names the objects that it could not bring back, to the operator and nobody else: not in
//! the log.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine::{
    Engine, IncompleteReason, RecoverError, RecoverFigures, RecoverMeter, RecoverProblem,
    RecoverRequest,
};
use model::command::{Command, Outcome};
use model::ids::DiskId;
use model::query::{Answer, Query};
use model::time::Timestamp;
use s3::date;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::clock::Clock;

use crate::admin::job::JobState;
use crate::admin::orders::OrderError;
use crate::payload::recovery_digests;

/// To `POST /metadata/recovery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverOrder {
    /// Disks that are lost for good and aren't waited for.
    #[serde(default)]
    pub lost_disks: Vec<u32>,
    /// The highest disk number that the cluster had; needed when there was no backup.
    #[serde(default)]
    pub disks: Option<u32>,
    /// At most so many bytes of bodies are read a second; 0 for as fast as the disks go.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// Whose the buckets are to be that have to be made.
    pub bucket_owner: String,
}

/// To `POST /metadata/recovery/release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrder {
    /// What `/status` tells as held: so that nothing is released that was never looked at.
    pub until: u64,
}

/// The answer to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Whether something was held.
    pub released: bool,
}

/// To `GET /metadata/recovery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverReport {
    /// Whether it runs.
    pub state: JobState,
    /// How far it is, in words.
    pub phase: String,
    /// Why it failed.
    pub error: Option<String>,
    /// When it began, ISO 8601.
    pub started: String,
    /// When it ended.
    pub ended: Option<String>,
    /// Placement groups that were found again.
    pub groups: u64,
    /// Slots that moved after the backup, and are where their shards were found.
    #[serde(default)]
    pub settled_slots: u64,
    /// Shards that were given to the disk of their slot.
    #[serde(default)]
    pub brought_home: u64,
    /// Shards that lie where no slot of theirs is.
    pub misplaced_shards: u64,
    /// Extents on the disks that the tables may not know.
    pub extents: u64,
    /// Those of them that they know.
    pub known_extents: u64,
    /// Extents whose owner couldn't be read.
    pub ownerless_extents: u64,
    /// Whole bodies and records that were found.
    pub bodies: u64,
    /// Objects that were adopted.
    pub adopted: u64,
    /// Their bytes.
    pub adopted_bytes: u64,
    /// Parts of uploads under way that were adopted.
    pub adopted_parts: u64,
    /// Bodies of keys that have a newer one.
    pub superseded: u64,
    /// Bodies that aren't whole.
    pub incomplete: u64,
    /// Bodies and records that couldn't be read.
    pub unreadable: u64,
    /// Objects that were adopted without their headers.
    pub without_headers: u64,
    /// Uploads whose completion isn't recorded.
    pub unfinished_uploads: u64,
    /// Objects and parts that the metadata refused.
    pub refused: u64,
    /// What wasn't recovered, or not wholly, in words: the first thousand.
    pub problems: Vec<String>,
}

/// The recovery of this run of the gateway.
pub struct Recovery {
    engine: Engine,
    clock: Arc<dyn Clock>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    run: Option<Run>,
    /// The server stops: nothing new begins.
    is_closed: bool,
}

struct Run {
    meter: Arc<RecoverMeter>,
    started: Timestamp,
    end: Arc<OnceLock<(Timestamp, Result<(), RecoverError>)>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Recovery {
    /// None began yet.
    pub fn new(engine: Engine, clock: Arc<dyn Clock>) -> Self {
        Self { engine, clock, current: Mutex::default() }
    }

    /// Begins one, unless one runs. Must be called in a tokio runtime.
    pub fn begin(&self, order: RecoverOrder) -> Result<RecoverReport, OrderError> {
        if order.bucket_owner.is_empty() {
            return Err(OrderError::Invalid("The owner of new buckets has no name.".to_owned()));
        }
        let mut current = self.current();
        if current.is_closed {
            return Err(OrderError::Unavailable("The gateway stops.".to_owned()));
        }
        if current.is_running() {
            return Err(OrderError::Refused("A recovery runs already.".to_owned()));
        }
        let request = RecoverRequest {
            bucket_owner: order.bucket_owner,
            lost_disks: order.lost_disks.into_iter().map(DiskId).collect(),
            disks: order.disks,
            bytes_per_second: order.bytes_per_second,
            digests: recovery_digests(),
        };
        let (meter, end) = (Arc::new(RecoverMeter::default()), Arc::new(OnceLock::new()));
        let (stop, stopping) = watch::channel(false);
        let started = self.clock.now();
        let task = {
            let (engine, clock) = (self.engine.clone(), Arc::clone(&self.clock));
            let (meter, end) = (Arc::clone(&meter), Arc::clone(&end));
            tokio::spawn(async move {
                let result = engine.recover(&request, &meter, stopping).await;
                log(&meter.figures(), result);
                let _only_once = end.set((clock.now(), result));
            })
        };
        let run = Run { meter, started, end, stop, task };
        let report = run.report();
        current.run = Some(run);
        Ok(report)
    }

    /// The one that began last.
    pub fn report(&self) -> Option<RecoverReport> {
        self.current().run.as_ref().map(Run::report)
    }

    /// Tells it to stop.
    pub fn stop(&self) -> Option<RecoverReport> {
        let current = self.current();
        let run = current.run.as_ref()?;
        run.stop.send_replace(true);
        Some(run.report())
    }

    /// Holds nothing any more: what wasn't adopted is collected from now on.
    pub async fn release(&self, order: ReleaseOrder) -> Result<Released, OrderError> {
        if self.current().is_running() {
            return Err(OrderError::Refused("A recovery runs.".to_owned()));
        }
        let unavailable = || OrderError::Unavailable("The metadata can't be asked.".to_owned());
        let metadata = self.engine.metadata();
        let until = match metadata.query(Query::Held).await.map_err(|_| unavailable())? {
            Answer::Held(Some(held)) => held.until(),
            Answer::Held(None) => return Ok(Released { released: false }),
            _ => return Err(unavailable()),
        };
        if until.0 != order.until {
            let text = format!("What is held now is held up to session {until}; look at it again.");
            return Err(OrderError::Refused(text));
        }
        match metadata.propose(Command::ReleaseHeld { until }).await.map_err(|_| unavailable())? {
            Outcome::Done => Ok(Released { released: true }),
            Outcome::Refused(refusal) => Err(OrderError::Refused(format!("{refusal}."))),
            _ => Err(unavailable()),
        }
    }

    /// Stops it, and waits for its end: it stops wherever it is.
    pub async fn end(&self) {
        let run = {
            let mut current = self.current();
            current.is_closed = true;
            current.run.take()
        };
        if let Some(run) = run {
            run.stop.send_replace(true);
            let _ended = run.task.await;
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn is_running(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_running)
    }
}

impl Run {
    fn is_running(&self) -> bool {
        self.end.get().is_none() && !self.task.is_finished()
    }

    fn report(&self) -> RecoverReport {
        let end = self.end.get();
        let (state, error) = match end.map(|(_, result)| result) {
            Some(Ok(())) => (JobState::Done, None),
            Some(Err(RecoverError::Stopped)) => (JobState::Stopped, None),
            Some(Err(error)) => (JobState::Failed, Some(error.to_string())),
            None if self.is_running() => (JobState::Running, None),
            None => (JobState::Failed, Some("it ended unexpectedly".to_owned())),
        };
        let figures = self.meter.figures();
        RecoverReport {
            state,
            phase: figures.phase.as_str().to_owned(),
            error,
            started: date::iso8601(self.started),
            ended: end.map(|(at, _)| date::iso8601(*at)),
            groups: figures.groups,
            settled_slots: figures.settled_slots,
            brought_home: figures.brought_home,
            misplaced_shards: figures.misplaced_shards,
            extents: figures.extents,
            known_extents: figures.known_extents,
            ownerless_extents: figures.ownerless_extents,
            bodies: figures.bodies,
            adopted: figures.adopted,
            adopted_bytes: figures.adopted_bytes,
            adopted_parts: figures.adopted_parts,
            superseded: figures.superseded,
            incomplete: figures.incomplete,
            unreadable: figures.unreadable,
            without_headers: figures.without_headers,
            unfinished_uploads: figures.unfinished_uploads,
            refused: figures.refused,
            problems: figures.problems.iter().map(sentence).collect(),
        }
    }
}

impl RecoverReport {
    /// Bodies that are dealt with, at the least.
    pub fn handled(&self) -> u64 {
        let adopted = self.adopted + self.adopted_parts;
        (adopted + self.unreadable + self.refused).min(self.bodies)
    }

    /// Whether it came to its end, and everything that was found is recovered.
    pub fn is_whole(&self) -> bool {
        self.state == JobState::Done && self.problems.is_empty() && self.ownerless_extents == 0
    }
}

/// A problem in words.
fn sentence(problem: &RecoverProblem) -> String {
    match problem {
        RecoverProblem::DiskUnreached(disk) => format!("disk {disk} could not be listed"),
        RecoverProblem::Misplaced { disk, pg, shards } => {
            format!(
                "disk {disk} has {shards} shards of group {pg}, which is on other disks: recover \
                 again, once those take what they lack, before what is held is released"
            )
        }
        RecoverProblem::Incomplete { bucket, key, part: 0, reason } => {
            format!("{bucket}/{key} is not whole: {}", why(*reason))
        }
        RecoverProblem::Incomplete { bucket, key, part, reason } => {
            format!("part {part} of an upload to {bucket}/{key} is not whole: {}", why(*reason))
        }
        RecoverProblem::Unreadable { bucket, key } => format!("{bucket}/{key} can't be read"),
        RecoverProblem::WithoutHeaders { bucket, key } => {
            format!("{bucket}/{key} was recovered without its headers and user metadata")
        }
        RecoverProblem::UploadUnfinished { bucket, key, upload, parts } => {
            format!("upload {upload} to {bucket}/{key} was not completed; it had {parts} parts")
        }
        RecoverProblem::Refused { bucket, key, refusal } => {
            format!("{bucket}/{key} was refused: {refusal}")
        }
        RecoverProblem::InvalidName { bucket, key } => {
            format!("{bucket}/{key} has a name that can't be one")
        }
    }
}

fn why(reason: IncompleteReason) -> &'static str {
    match reason {
        IncompleteReason::NoEnd => "its end was never written, or is lost",
        IncompleteReason::Lost => "too many of its shards are lost",
    }
}

/// Says in the log what it came to, without the names of objects.
fn log(figures: &RecoverFigures, result: Result<(), RecoverError>) {
    let RecoverFigures { adopted, adopted_parts, incomplete, unreadable, refused, .. } = *figures;
    match result {
        Ok(()) => tracing::info!(
            adopted,
            adopted_parts,
            incomplete,
            unreadable,
            refused,
            "a recovery is done"
        ),
        Err(error) => tracing::warn!(adopted, %error, "a recovery did not come to its end"),
    }
}
