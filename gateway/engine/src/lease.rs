//! Leases: work in the background that one gateway at a time does for the whole cluster.
//!
//! In: the jobs that this gateway would do. Out: whether it is the one to do them now. A keeper
//! takes each wanted job's lease for this gateway's writer session and renews it at a third of its
//! time; the work stops when two thirds have gone by without a renewal, by the monotonic clock and
//! counted from before the renewal was sent, so well before anybody else can have the lease. A
//! lease ends with its session, so that a gateway that comes back has its jobs again at once; one
//! that stops in order gives them back.
//!
//! Two gateways at one job would only do some of it twice: shards are deleted by names that are
//! never used again, and a repaired shard is the same whoever wrote it. So a clock that is wrong
//! costs work, never data.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use model::command::{Command, Outcome};
use model::ids::NodeId;
use model::node::Job;
use tokio::sync::{Notify, watch};
use wire::clock::{Clock, timeout};

use crate::shared::Shared;

/// Renewals in the time of a lease.
const RENEWALS_PER_LEASE: u32 = 3;

/// After a failure it is tried again this many times sooner than it would be renewed.
const HASTE: u32 = 10;

/// How long giving a lease back may take when the engine stops.
const GIVE_BACK_PATIENCE: Duration = Duration::from_secs(1);

/// The word used in metrics, logs and `/status`.
pub(crate) const fn job_word(job: Job) -> &'static str {
    match job {
        Job::Collect => "collect",
        Job::Repair => "repair",
        Job::Reconcile => "reconcile",
        Job::Backup => "backup",
        Job::Move => "move",
        Job::Recode => "recode",
        Job::Fill => "fill",
    }
}

/// A job, and the node that it is about, where each node's is a job of its own.
pub(crate) type Duty = (Job, Option<NodeId>);

/// The leases of this gateway.
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    /// Jobs that are this gateway's, each with the time up to which it works on them.
    held: watch::Sender<BTreeMap<Duty, Duration>>,
    /// How many would work on each job.
    wanted: Mutex<BTreeMap<Duty, usize>>,
    asked: Notify,
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let held = watch::Sender::new(BTreeMap::new());
        Arc::new(Self { clock, held, wanted: Mutex::default(), asked: Notify::new() })
    }

    /// Has the keeper take the lease of `job` for as long as the answer lives.
    pub(crate) fn want(self: &Arc<Self>, job: Job) -> JobLease {
        self.want_duty((job, None))
    }

    /// The same for a job that is done for each node by itself.
    pub(crate) fn want_for(self: &Arc<Self>, job: Job, node: NodeId) -> JobLease {
        self.want_duty((job, Some(node)))
    }

    fn want_duty(self: &Arc<Self>, duty: Duty) -> JobLease {
        *self.wanted().entry(duty).or_default() += 1;
        self.asked.notify_one();
        JobLease { leases: Arc::clone(self), duty, held: self.held.subscribe() }
    }

    /// Hears of jobs that come and go.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<Duty, Duration>> {
        self.held.subscribe()
    }

    /// The jobs that are this gateway's now, each once.
    pub(crate) fn held_jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.held_duties().into_iter().map(|(job, _)| job).collect();
        jobs.dedup();
        jobs
    }

    fn held_duties(&self) -> Vec<Duty> {
        let now = self.clock.monotonic();
        let held = self.held.borrow();
        held.iter().filter(|(_, until)| **until > now).map(|(duty, _)| *duty).collect()
    }

    /// What is held and nobody here wants any more.
    fn unwanted(&self) -> Vec<Duty> {
        let wanted = self.wanted();
        self.held_duties().into_iter().filter(|duty| !wanted.contains_key(duty)).collect()
    }

    fn wanted_duties(&self) -> Vec<Duty> {
        self.wanted().keys().copied().collect()
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, BTreeMap<Duty, usize>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease is ours: work on it until then.
    fn hold(&self, duty: Duty, until: Duration) {
        let now = self.clock.monotonic();
        let known = self.held.borrow().get(&duty).copied();
        if known.is_none_or(|known| known <= now) {
            let (job, node) = (job_word(duty.0), duty.1.map(|node| node.0));
            tracing::info!(job, node, "this gateway does the job from now on");
            metrics::counter!("drystone_leases_taken_total", "job" => job).increment(1);
        }
        self.held.send_modify(|held| {
            held.insert(duty, until);
        });
        self.tell(duty.0);
    }

    /// The lease is another's.
    fn lose(&self, duty: Duty) {
        let was_held = self.held.send_if_modified(|held| held.remove(&duty).is_some());
        if was_held {
            let (job, node) = (job_word(duty.0), duty.1.map(|node| node.0));
            tracing::info!(job, node, "this gateway no longer does the job");
        }
        self.tell(duty.0);
    }

    /// Of how many nodes this gateway has the job; at most one where it is one for all.
    fn tell(&self, job: Job) {
        let count = self.held_duties().iter().filter(|held| held.0 == job).count();
        metrics::gauge!("drystone_lease_held", "job" => job_word(job)).set(count as f64);
    }
}

/// One job's lease, as its worker sees it. The lease is kept for as long as one of these lives.
pub struct JobLease {
    leases: Arc<Leases>,
    duty: Duty,
    held: watch::Receiver<BTreeMap<Duty, Duration>>,
}

impl JobLease {
    /// Whether the job is this gateway's now.
    pub fn is_held(&self) -> bool {
        self.time_left().is_some()
    }

    /// Ends when the job is this gateway's.
    pub async fn held(&mut self) {
        while !self.is_held() {
            if self.held.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends when the job isn't this gateway's any more.
    pub async fn lost(&mut self) {
        while let Some(left) = self.time_left() {
            tokio::select! {
                changed = self.held.changed() => if changed.is_err() {
                    return;
                },
                () = self.leases.clock.sleep(left) => {}
            }
        }
        self.leases.tell(self.duty.0);
    }

    fn time_left(&self) -> Option<Duration> {
        let until = *self.held.borrow().get(&self.duty)?;
        until.checked_sub(self.leases.clock.monotonic()).filter(|left| !left.is_zero())
    }
}

impl Drop for JobLease {
    fn drop(&mut self) {
        let mut wanted = self.leases.wanted();
        if let Some(count) = wanted.get_mut(&self.duty) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.duty);
                self.leases.asked.notify_one();
            }
        }
    }
}

/// Does `work` whenever the job is this gateway's, and drops it when it no longer is; until told to
/// stop.
pub(crate) async fn work_while_held<W: Future<Output = ()>>(
    mut lease: JobLease,
    mut stopping: watch::Receiver<bool>,
    work: impl Fn(watch::Receiver<bool>) -> W,
) {
    let for_work = stopping.clone();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = lease.held() => {}
        }
        tokio::select! {
            // The work hears of the order to stop by itself.
            () = work(for_work.clone()) => return,
            () = lease.lost() => {}
        }
    }
}

/// Takes and renews the leases that are wanted, until told to stop; then gives them back.
pub(crate) async fn keep(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        let pause = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            pause = take_all(&shared) => pause,
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => break,
            () = shared.clock.sleep(pause) => {}
            () = shared.leases.asked.notified() => {}
        }
    }
    give_back(&shared, shared.leases.held_duties()).await;
}

/// What isn't given back ends by itself.
async fn give_back(shared: &Shared, held: Vec<Duty>) {
    for duty in &held {
        shared.leases.lose(*duty);
    }
    let give_back = join_all(held.into_iter().map(|(job, node)| async move {
        let holder = shared.metadata.holder().await?;
        shared.metadata.propose(Command::TakeLease { job, holder, duration_ms: 0, node }).await
    }));
    let _best_effort = timeout(&*shared.clock, GIVE_BACK_PATIENCE, give_back).await;
}

/// Gives back what nobody wants any more, and takes or renews every wanted lease; how long to wait
/// until the next time.
async fn take_all(shared: &Shared) -> Duration {
    let unwanted = shared.leases.unwanted();
    if !unwanted.is_empty() {
        give_back(shared, unwanted).await;
    }
    let renewal = shared.options.lease_duration / RENEWALS_PER_LEASE;
    let taken = join_all(shared.leases.wanted_duties().into_iter().map(|duty| take(shared, duty)));
    let all_answered = taken.await.into_iter().all(|answered| answered);
    if all_answered { renewal } else { renewal / HASTE }
}

/// Takes or renews one lease; whether the metadata said whose it is.
async fn take(shared: &Shared, duty: Duty) -> bool {
    let (job, node) = duty;
    let began = shared.clock.monotonic();
    let duration = shared.options.lease_duration;
    let duration_ms = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let asked = async {
        let holder = shared.metadata.holder().await?;
        let command = Command::TakeLease { job, holder, duration_ms, node };
        shared.metadata.propose(command).await.map(|outcome| (holder, outcome))
    };
    match asked.await {
        Ok((holder, Outcome::Leased(lease))) if (lease.job, lease.node) == duty => {
            if lease.holder == holder {
                shared
                    .leases
                    .hold(duty, began + duration * (RENEWALS_PER_LEASE - 1) / RENEWALS_PER_LEASE);
            } else {
                shared.leases.lose(duty);
            }
            true
        }
        Ok((_, outcome)) => {
            tracing::debug!(job = job_word(job), ?outcome, "no lease is given");
            shared.leases.lose(duty);
            false
        }
        // It may have been renewed all the same; until that is known the old time counts.
        Err(error) => {
            tracing::debug!(job = job_word(job), %error, "a lease is taken later");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::clock::SimulatedClock;

    use super::*;

    #[tokio::test]
    async fn a_lease_that_is_not_renewed_runs_out() {
        let clock = Arc::new(SimulatedClock::new());
        let leases = Leases::new(clock.clone());
        let mut lease = leases.want(Job::Repair);
        let duty = (Job::Repair, None);
        assert_eq!((lease.is_held(), leases.wanted_duties()), (false, vec![duty]));
        leases.hold(duty, clock.monotonic() + Duration::from_secs(20));
        lease.held().await;
        assert_eq!(leases.held_jobs(), [Job::Repair]);
        {
            let lost = lease.lost();
            let mut lost = std::pin::pin!(lost);
            clock.advance(Duration::from_secs(19));
            assert!(futures_util::poll!(&mut lost).is_pending());
            // Renewed: nothing is lost when the first time is up.
            leases.hold(duty, clock.monotonic() + Duration::from_secs(20));
            clock.advance(Duration::from_secs(19));
            assert!(futures_util::poll!(&mut lost).is_pending());
            clock.advance(Duration::from_secs(1));
            lost.await;
        }
        assert!(!lease.is_held());
        assert!(leases.held_jobs().is_empty());
        drop(lease);
        assert!(leases.wanted_duties().is_empty());
    }
}
