//! The scrub jobs that operators began, and the recovery: started, watched and stopped by number.
//!
//! In: orders. Out: documents. What always holds: at most [`RUNNING_MAX`] run and [`KEPT_MAX`] are
//! remembered, the oldest ended one forgotten first; every task is stopped and joined at the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use engine::{Engine, ScrubError, ScrubMeter, ScrubRequest, ScrubScope};
use model::time::Timestamp;
use s3::date;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use wire::clock::{Clock, timeout};

use crate::admin::job::{Job, JobState, Scope, ScrubOrder};
use crate::admin::recovery::Recovery;

/// Jobs that run at once: each keeps disks busy.
const RUNNING_MAX: usize = 4;

/// Jobs that are remembered, running ones included.
const KEPT_MAX: usize = 64;

/// How long the jobs may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The jobs of this run of the server.
pub struct ScrubJobs {
    engine: Engine,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    recovery: Recovery,
}

#[derive(Default)]
struct Table {
    last: u64,
    jobs: VecDeque<Entry>,
    /// The server stops: nothing new begins.
    is_closed: bool,
}

struct Entry {
    id: u64,
    scope: Scope,
    request: ScrubRequest,
    meter: Arc<ScrubMeter>,
    started: Timestamp,
    end: Arc<OnceLock<End>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

struct End {
    at: Timestamp,
    result: Result<(), ScrubError>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is a new job.
    New(Job),
    /// Such a job runs already.
    Running(Job),
    /// A name in it can't be one.
    Invalid,
    /// Too many jobs run, or the server stops.
    Busy,
}

impl ScrubJobs {
    /// No jobs yet.
    pub fn new(engine: Engine, clock: Arc<dyn Clock>) -> Self {
        let recovery = Recovery::new(engine.clone(), Arc::clone(&clock));
        Self { engine, clock, table: Mutex::default(), recovery }
    }

    /// The recovery, which is a job of its own.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Begins a job, unless one of the same scope runs. Must be called in a tokio runtime.
    pub fn begin(&self, order: ScrubOrder) -> Begun {
        let Some(scope) = order.scope.parse() else { return Begun::Invalid };
        let mut table = self.table();
        let mut running = table.jobs.iter().filter(|entry| entry.is_running());
        if let Some(same) = running.find(|entry| entry.scope == order.scope) {
            return Begun::Running(same.job());
        }
        if table.is_closed || table.running() >= RUNNING_MAX {
            return Begun::Busy;
        }
        table.last += 1;
        let entry = self.spawn(table.last, order, scope);
        let job = entry.job();
        table.jobs.push_back(entry);
        table.forget_old();
        Begun::New(job)
    }

    /// A job by its number.
    pub fn get(&self, id: u64) -> Option<Job> {
        self.table().jobs.iter().find(|entry| entry.id == id).map(Entry::job)
    }

    /// All that are remembered, the oldest first.
    pub fn list(&self) -> Vec<Job> {
        self.table().jobs.iter().map(Entry::job).collect()
    }

    /// Tells a job to stop; `None` when there is no such job.
    pub fn stop(&self, id: u64) -> Option<Job> {
        let table = self.table();
        let entry = table.jobs.iter().find(|entry| entry.id == id)?;
        entry.stop.send_replace(true);
        Some(entry.job())
    }

    /// Stops all jobs and waits for their end.
    pub async fn stop_all(&self) {
        self.recovery.end().await;
        let tasks: Vec<JoinHandle<()>> = {
            let mut table = self.table();
            table.is_closed = true;
            table.jobs.iter_mut().filter_map(Entry::take_task).collect()
        };
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = futures_util::future::join_all(tasks);
        if timeout(&*self.clock, STOP_PATIENCE, all).await.is_err() {
            for task in aborts {
                task.abort();
            }
        }
    }

    fn spawn(&self, id: u64, order: ScrubOrder, scope: ScrubScope) -> Entry {
        let request = ScrubRequest { scope, bytes_per_second: order.bytes_per_second };
        let meter = Arc::new(ScrubMeter::default());
        let end = Arc::new(OnceLock::new());
        let (stop, stopping) = watch::channel(false);
        let started = self.clock.now();
        let task = {
            let (engine, clock) = (self.engine.clone(), Arc::clone(&self.clock));
            let (request, meter, end) = (request.clone(), Arc::clone(&meter), Arc::clone(&end));
            tokio::spawn(async move {
                let result = engine.scrub(&request, &meter, stopping).await;
                report(&request.scope, &meter, &result);
                let _only_once = end.set(End { at: clock.now(), result });
            })
        };
        let task = Some(task);
        Entry { id, scope: order.scope, request, meter, started, end, stop, task }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn running(&self) -> usize {
        self.jobs.iter().filter(|entry| entry.is_running()).count()
    }

    fn forget_old(&mut self) {
        while self.jobs.len() > KEPT_MAX
            && let Some(at) = self.jobs.iter().position(|entry| !entry.is_running())
        {
            self.jobs.remove(at);
        }
    }
}

impl Entry {
    fn is_running(&self) -> bool {
        self.end.get().is_none() && !self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn take_task(&mut self) -> Option<JoinHandle<()>> {
        self.stop.send_replace(true);
        self.task.take()
    }

    fn job(&self) -> Job {
        let end = self.end.get();
        let (state, error) = match end.map(|end| &end.result) {
            Some(Ok(())) => (JobState::Done, None),
            Some(Err(ScrubError::Stopped)) => (JobState::Stopped, None),
            Some(Err(error)) => (JobState::Failed, Some(error.to_string())),
            None if self.is_running() => (JobState::Running, None),
            None => (JobState::Failed, Some("it ended unexpectedly".to_owned())),
        };
        let job = Job {
            id: self.id,
            scope: self.scope.clone(),
            state,
            error,
            started: date::iso8601(self.started),
            ended: end.map(|end| date::iso8601(end.at)),
            done: 0,
            total: 0,
            unit: self.request.scope.unit().to_owned(),
            sound: 0,
            damaged: 0,
            missing: 0,
            unreached: 0,
            queued: 0,
        };
        job.with_figures(self.meter.figures())
    }
}

/// Says in the log what a scrub came to, without the names of objects.
fn report(scope: &ScrubScope, meter: &ScrubMeter, result: &Result<(), ScrubError>) {
    let figures = meter.figures();
    let scope = match scope {
        ScrubScope::Disk(disk) => format!("disk {disk}"),
        ScrubScope::Pg(pg) => format!("placement group {pg}"),
        ScrubScope::Bucket(_) => "a bucket".to_owned(),
        ScrubScope::Object(..) => "an object".to_owned(),
        ScrubScope::All => "all placement groups".to_owned(),
    };
    let (sound, damaged, missing) = (figures.sound, figures.damaged, figures.missing);
    let unreached = figures.unreached;
    match result {
        Ok(()) => tracing::info!(scope, sound, damaged, missing, unreached, "a scrub is done"),
        Err(error) => tracing::warn!(scope, %error, "a scrub did not come to its end"),
    }
}
