//! How long the engine waits for the metadata.
//!
//! In: the metadata's door. Out: the same door, with an end to every wait. An election takes up to
//! three seconds, and a leader that hangs takes some more to be given up: whoever asks meanwhile
//! waits rather than fails. Once the metadata has been silent for longer than that, everybody is
//! told at once, so that clients get their 503 in time and requests don't pile up; only the one
//! that keeps the cluster map goes on asking, and its first answer ends the silence.
//!
//! What always holds: a command that was sent is never called undone (I-5); its wait is the
//! client's own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::command::{Command, Outcome};
use model::ids::{ExtentId, PgId, SessionId};
use model::query::{Answer, MetadataError, Query};
use wire::BoxFuture;
use wire::clock::{Clock, timeout};

use crate::metadata_door::Metadata;

/// The metadata, asked with limited patience.
pub(crate) struct PatientMetadata {
    inner: Arc<dyn Metadata>,
    clock: Arc<dyn Clock>,
    patience: Duration,
    heard: Mutex<Heard>,
}

/// When the metadata was last heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// By the monotonic clock; at first, when the engine began.
    at: Duration,
    /// Whether a call that began after that brought no answer.
    is_silent: bool,
}

impl PatientMetadata {
    pub(crate) fn new(inner: Arc<dyn Metadata>, clock: Arc<dyn Clock>, patience: Duration) -> Self {
        let heard = Mutex::new(Heard { at: clock.monotonic(), is_silent: false });
        Self { inner, clock, patience, heard }
    }

    /// How long the metadata hasn't answered; `None` while it does.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let heard = self.heard();
        heard.is_silent.then(|| self.clock.monotonic().saturating_sub(heard.at))
    }

    /// As [`Metadata::query`], and also while everybody else is refused.
    pub(crate) async fn probe(&self, query: Query) -> Result<Answer, MetadataError> {
        let began = self.clock.monotonic();
        let answer = timeout(&*self.clock, self.patience, self.inner.query(query)).await;
        self.note(began, answer.unwrap_or(Err(MetadataError::Unavailable)))
    }

    /// Nothing is sent to who has been silent for too long.
    fn admit(&self) -> Result<(), MetadataError> {
        match self.silence() {
            Some(silence) if silence >= self.patience => Err(MetadataError::Unavailable),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes note of how a call ended that began at `began`.
    fn note<T>(
        &self,
        began: Duration,
        result: Result<T, MetadataError>,
    ) -> Result<T, MetadataError> {
        let mut heard = self.heard();
        match &result {
            // That it has too much to do is an answer.
            Ok(_) | Err(MetadataError::Overloaded) => {
                *heard = Heard { at: self.clock.monotonic(), is_silent: false };
            }
            // What began before the last answer tells nothing about the time since.
            Err(_) if began < heard.at => {}
            Err(_) => heard.is_silent = true,
        }
        result
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something that changes nothing.
    async fn wait<T>(
        &self,
        call: BoxFuture<'_, Result<T, MetadataError>>,
    ) -> Result<T, MetadataError> {
        self.admit()?;
        let began = self.clock.monotonic();
        let answer = timeout(&*self.clock, self.patience, call).await;
        self.note(began, answer.unwrap_or(Err(MetadataError::Unavailable)))
    }
}

impl Metadata for PatientMetadata {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(self.wait(self.inner.query(query)))
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            self.admit()?;
            let began = self.clock.monotonic();
            // Its client has a limit of its own, and knows what may have been done by then.
            self.note(began, self.inner.propose(command).await)
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        // Mostly a number out of memory, which says nothing about the metadata.
        Box::pin(async move {
            let named = timeout(&*self.clock, self.patience, self.inner.next_extent(pg)).await;
            named.unwrap_or(Err(MetadataError::Unavailable))
        })
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        Box::pin(async move {
            let holder = timeout(&*self.clock, self.patience, self.inner.holder()).await;
            holder.unwrap_or(Err(MetadataError::Unavailable))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use wire::clock::SimulatedClock;

    use super::*;

    /// Answers what it is told to, or nothing.
    #[derive(Default)]
    struct Fake {
        answer: Mutex<Option<Result<(), MetadataError>>>,
        calls: AtomicUsize,
    }

    impl Fake {
        fn say(&self, answer: Option<Result<(), MetadataError>>) {
            *self.answer.lock().expect("no panic") = answer;
        }

        async fn reply<T>(&self, value: T) -> Result<T, MetadataError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let answer = *self.answer.lock().expect("no panic");
            match answer {
                Some(answer) => answer.map(|()| value),
                None => std::future::pending().await,
            }
        }
    }

    impl Metadata for Fake {
        fn query(&self, _: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
            Box::pin(self.reply(Answer::ClusterMap(None)))
        }

        fn propose(&self, _: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
            Box::pin(self.reply(Outcome::Done))
        }

        fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
            Box::pin(self.reply(ExtentId { pg, ..ExtentId::default() }))
        }

        fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
            Box::pin(self.reply(SessionId(1)))
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);
    const QUERY: Query = Query::ClusterMap { known_epoch: 0 };

    fn world() -> (Arc<Fake>, Arc<SimulatedClock>, Arc<PatientMetadata>) {
        let (fake, clock) = (Arc::new(Fake::default()), Arc::new(SimulatedClock::new()));
        let patient = PatientMetadata::new(fake.clone(), clock.clone(), PATIENCE);
        (fake, clock, Arc::new(patient))
    }

    #[tokio::test]
    async fn a_question_waits_only_so_long_and_the_next_not_at_all() {
        let (fake, clock, patient) = world();
        let asked = tokio::spawn({
            let patient = Arc::clone(&patient);
            async move { patient.query(QUERY).await }
        });
        while fake.calls.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        clock.advance(PATIENCE);
        assert_eq!(asked.await.expect("joined"), Err(MetadataError::Unavailable));
        assert_eq!(patient.silence(), Some(PATIENCE));
        assert_eq!(patient.query(QUERY).await, Err(MetadataError::Unavailable));
        let command = Command::AllocateReplica;
        assert_eq!(patient.propose(command.clone()).await, Err(MetadataError::Unavailable));
        assert_eq!(fake.calls.load(Ordering::Relaxed), 1, "nothing more was sent");
        // The one that keeps the map goes on, and ends the silence for all.
        fake.say(Some(Ok(())));
        assert!(patient.probe(QUERY).await.is_ok());
        assert_eq!(patient.silence(), None);
        assert_eq!(patient.propose(command).await, Ok(Outcome::Done));
    }

    #[tokio::test]
    async fn a_late_failure_does_not_undo_a_later_answer() {
        let (fake, clock, patient) = world();
        let slow = patient.query(QUERY);
        let mut slow = std::pin::pin!(slow);
        assert!(futures_util::poll!(&mut slow).is_pending());
        clock.advance(Duration::from_secs(9));
        fake.say(Some(Ok(())));
        assert!(patient.query(QUERY).await.is_ok());
        clock.advance(Duration::from_secs(1));
        assert_eq!(slow.await, Err(MetadataError::Unavailable));
        assert_eq!(patient.silence(), None);
    }

    #[tokio::test]
    async fn being_overloaded_is_not_being_silent() {
        let (fake, clock, patient) = world();
        fake.say(Some(Err(MetadataError::Overloaded)));
        clock.advance(PATIENCE * 2);
        assert_eq!(patient.query(QUERY).await, Err(MetadataError::Overloaded));
        assert_eq!(patient.silence(), None);
        // A failure is waited out before it refuses anybody.
        fake.say(Some(Err(MetadataError::Unavailable)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(patient.query(QUERY).await, Err(MetadataError::Unavailable));
        assert_eq!(patient.silence(), Some(Duration::from_secs(1)));
        fake.say(Some(Ok(())));
        assert!(patient.query(QUERY).await.is_ok());
    }
}
