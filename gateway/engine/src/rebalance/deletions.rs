//! Which deletions of left-over shards may still be on their way.
//!
//! In: deletions that are asked for, and answered, and when a move was first seen. Out: the time from
//! which a disk surely deletes nothing more of a group. What always holds: whoever asks notes it down
//! before he looks at the map for the last time; so a move that was begun meanwhile either is in that
//! map, or finds the note. A deletion has run its course so long after that look; where another process
//! asks for them, that is waited for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::ids::{DiskId, PgId};
use tokio::sync::Notify;

use crate::shared::Shared;

/// The deletions of this process, and when it took over from another.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Since when this process is the one that asks: another may have asked for deletions just before.
    since: Option<Duration>,
    /// Those without an answer, and when they were begun.
    unanswered: BTreeMap<(DiskId, PgId), Duration>,
}

impl Deletions {
    /// This process is the one that asks from now on.
    pub(super) fn take_over(&self, now: Duration) {
        self.state().since = Some(now);
    }

    /// It isn't any more.
    pub(super) fn hand_over(&self) {
        self.state().since = None;
    }

    /// A deletion is about to be asked for.
    pub(super) fn begun(&self, disk: DiskId, pg: PgId, now: Duration) {
        self.state().unanswered.insert((disk, pg), now);
    }

    /// It was answered, or not asked for after all.
    pub(super) fn answered(&self, disk: DiskId, pg: PgId) {
        self.state().unanswered.remove(&(disk, pg));
        self.answered.notify_waiters();
    }

    /// Waits until no deletion of this group can reach the disk any more that was asked for before a
    /// move was `seen`.
    pub(super) async fn over(&self, shared: &Shared, disk: DiskId, pg: PgId, seen: Duration) {
        let lasts = shared.options.delete_deadline;
        loop {
            let answered = self.answered.notified();
            let now = shared.clock.monotonic();
            let Some(wait) = self.wait(disk, pg, seen, now, lasts) else { return };
            tokio::select! {
                () = answered => {}
                () = shared.clock.sleep(wait) => {}
            }
        }
    }

    /// How long to wait; a deletion has run its course `lasts` after it was begun.
    fn wait(
        &self,
        disk: DiskId,
        pg: PgId,
        seen: Duration,
        now: Duration,
        lasts: Duration,
    ) -> Option<Duration> {
        let mut state = self.state();
        state.unanswered.retain(|_, begun| now < *begun + lasts);
        let own = state.unanswered.get(&(disk, pg)).copied().unwrap_or_default();
        let last = state.since.map_or(seen, |since| since.max(own).min(seen));
        (last + lasts).checked_sub(now).filter(|wait| !wait.is_zero())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_on_its_way_is_waited_for() {
        let (deletions, second) = (Deletions::default(), Duration::from_secs);
        let wait_for = |pg, seen, now| {
            deletions.wait(DiskId(1), PgId(pg), second(seen), second(now), second(30))
        };
        assert_eq!((wait_for(1, 90, 100), wait_for(1, 90, 120)), (Some(second(20)), None));
        let wait = |pg, now| wait_for(pg, now, now);
        deletions.take_over(second(100));
        assert_eq!((wait(1, 110), wait(1, 130)), (Some(second(20)), None));
        deletions.begun(DiskId(1), PgId(1), second(140));
        assert_eq!((wait(1, 150), wait(2, 150)), (Some(second(20)), None));
        deletions.answered(DiskId(1), PgId(1));
        assert_eq!(wait(1, 150), None);
        deletions.begun(DiskId(1), PgId(1), second(160));
        assert_eq!((wait(1, 189), wait(1, 190)), (Some(second(1)), None));
        deletions.hand_over();
        assert_eq!((wait(2, 500), wait_for(2, 470, 500)), (Some(second(30)), None));
    }
}
