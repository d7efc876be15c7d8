//! `/health/ready`, answered at once from what is known.
//!
//! In: looks at the cluster, one at a time, each begun by whoever asks. Out: whether clients can be
//! served, and why not. What always holds: no answer waits for longer than [`ANSWER_WITHIN`] where
//! somebody asked in the last [`FINDINGS_AGE_MAX`]; a look that takes longer, as in an election, tells
//! the next one who asks. Whoever asks seldom waits for the look, which takes a few seconds at most: what
//! was found long ago says nothing.
//!
//! Metadata that is silent for a moment is no reason to send clients elsewhere: requests wait out an
//! election. So what was true before it is answered for a while yet. Metadata that was never heard
//! is a reason from the start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wire::clock::timeout;

use super::{Found, FoundMap, QUESTION_DEADLINE, StatusGatherer};
use crate::admin::health::{Health, Repairs};

/// How long an answer waits for a look: many times what one takes when all is well.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// What was found longer ago answers nobody: several times what is between two probes.
const FINDINGS_AGE_MAX: Duration = Duration::from_secs(30);

/// How long the metadata may be silent before that is in clients' way: longer than an election.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// No look takes longer: all of its questions are asked at once.
const LOOK_MAX: Duration = QUESTION_DEADLINE.saturating_mul(2);

/// The looks at the cluster.
#[derive(Default)]
pub(super) struct Looks {
    ended: watch::Sender<Ended>,
    is_looking: AtomicBool,
    /// When the first look began that brought no answer yet, after one that did.
    unanswered_since: Mutex<Option<Duration>>,
}

/// What the looks found that have ended.
#[derive(Clone, Default)]
struct Ended {
    /// How many.
    looks: u64,
    /// The last one.
    last: Option<Arc<Found>>,
    /// The last one that the metadata answered.
    answered: Option<Arc<Found>>,
    /// When that one was begun, by the monotonic clock.
    answered_at: Duration,
}

/// Lets the next look begin, however this one ends.
struct Looking(Arc<Looks>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.is_looking.store(false, Ordering::Release);
    }
}

impl StatusGatherer {
    /// Whether clients can be served, or the process' other work be done.
    pub async fn health(&self) -> Health {
        let mut ended = self.looks.ended.subscribe();
        let clock = &**self.client.clock();
        let (before, is_old) = {
            let known = ended.borrow_and_update();
            let age = clock.monotonic().saturating_sub(known.answered_at);
            // Nothing was found yet, though the metadata is there: so it will be.
            let is_first = known.answered.is_none() && self.engine_hears();
            (known.looks, is_first || (known.answered.is_some() && age > FINDINGS_AGE_MAX))
        };
        self.look();
        // What doesn't end in time is known to the next one who asks.
        let patience = if is_old { LOOK_MAX } else { ANSWER_WITHIN };
        let _in_time = timeout(clock, patience, ended.changed()).await;
        let known = ended.borrow().clone();
        let is_fresh = known.looks > before;
        let silence = self.silence();
        let found = match (&known.last, &known.answered) {
            (Some(last), _) if is_fresh && last.is_answered() => Arc::clone(last),
            (_, Some(answered)) if silence <= self.silence_max => Arc::clone(answered),
            (last, _) => Arc::new(Found {
                // What the replicas said while the metadata answered is out of date.
                replicas: last
                    .as_ref()
                    .filter(|last| !last.is_answered())
                    .map(|last| last.replicas.clone())
                    .unwrap_or_default(),
                map: FoundMap::Silence,
                unused: Vec::new(),
                held: None,
                silence,
                repairs: Repairs::default(),
                clocks_ahead_ms: Vec::new(),
            }),
        };
        self.health_of(&found)
    }

    /// Begins a look, unless one is under way.
    fn look(&self) {
        if self.looks.is_looking.swap(true, Ordering::Acquire) {
            return;
        }
        let looking = Looking(Arc::clone(&self.looks));
        let now = self.client.clock().monotonic();
        self.unanswered().get_or_insert(now);
        let gatherer = self.clone();
        // It ends of itself: each of its questions has a deadline.
        tokio::spawn(async move {
            let found = Arc::new(gatherer.find().await);
            if found.is_answered() {
                *gatherer.unanswered() = None;
            }
            drop(looking);
            gatherer.looks.ended.send_modify(|ended| {
                ended.looks += 1;
                if found.is_answered() {
                    ended.answered = Some(Arc::clone(&found));
                    ended.answered_at = now;
                }
                ended.last = Some(found);
            });
        });
    }

    /// For how long nobody here has heard the metadata. A gateway asks all the time; elsewhere only
    /// looks tell.
    fn silence(&self) -> Duration {
        let now = self.client.clock().monotonic();
        let Some(engine) = &self.process.engine else {
            return now.saturating_sub(self.unanswered().unwrap_or(now));
        };
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = now.saturating_sub(heard);
        engine.map_age().map_or(heard, |age| age.min(heard))
    }

    /// Whether this is a gateway that hears the metadata.
    fn engine_hears(&self) -> bool {
        let age = self.process.engine.as_ref().and_then(engine::Engine::map_age);
        age.is_some_and(|age| age <= self.silence_max)
    }

    fn unanswered(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        self.looks.unanswered_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// Whether the metadata answered.
    const fn is_answered(&self) -> bool {
        !matches!(self.map, FoundMap::Silence)
    }
}
