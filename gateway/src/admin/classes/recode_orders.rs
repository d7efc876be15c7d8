//! The buckets that are being recoded, as the last walk through all buckets found them.
//!
//! In: what a walk found, and how long it took. Out: the same, for those who ask later. What always
//! holds: one walk at a time, since it takes a [`Turn`]; where there are so many buckets that a walk
//! takes long, the next one waits, so that walking takes a third of the time at most, however many
//! watch.

use std::sync::Arc;
use std::time::Duration;

use model::class::RecodeOrder;
use model::names::BucketName;
use tokio::sync::{Mutex, MutexGuard};

/// What a walk that took longer than this found is kept for a while.
const LONG: Duration = Duration::from_millis(200);

/// For so many times as long as it took.
const KEPT_FACTOR: u32 = 2;

/// Buckets with orders.
pub(super) type Ordered = Arc<Vec<(BucketName, RecodeOrder)>>;

/// What the last walk found.
#[derive(Debug, Default)]
pub struct RecodeOrders {
    last: Mutex<Option<Walk>>,
}

#[derive(Debug)]
struct Walk {
    found: Ordered,
    ended: Duration,
    took: Duration,
}

/// The right to walk.
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Walk>>);

impl RecodeOrders {
    /// Waits for whoever walks.
    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn(self.last.lock().await)
    }
}

impl Turn<'_> {
    /// What was found, if that isn't old at `now`.
    pub(super) fn recent(&self, now: Duration) -> Option<Ordered> {
        let walk = self.0.as_ref()?;
        let is_kept = walk.took >= LONG && now < walk.ended + walk.took * KEPT_FACTOR;
        is_kept.then(|| Arc::clone(&walk.found))
    }

    /// Keeps what was found from `began` to `ended`.
    pub(super) fn keep(
        &mut self,
        found: Vec<(BucketName, RecodeOrder)>,
        began: Duration,
        ended: Duration,
    ) -> Ordered {
        let (found, took) = (Arc::new(found), ended.saturating_sub(began));
        *self.0 = Some(Walk { found: Arc::clone(&found), ended, took });
        found
    }

    /// What was found is out of date: an order was given here, or taken back.
    pub(super) fn forget(&mut self) {
        *self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_long_walk_found_is_told_for_a_while() {
        let orders = RecodeOrders::default();
        let at = Duration::from_secs;
        assert_eq!(orders.turn().await.recent(at(0)), None);
        orders.turn().await.keep(Vec::new(), at(10), at(13));
        let turn = orders.turn().await;
        assert!(turn.recent(at(13)).is_some() && turn.recent(at(18)).is_some());
        assert_eq!(turn.recent(at(19)), None, "twice as long as it took");
        drop(turn);
        orders.turn().await.forget();
        assert_eq!(orders.turn().await.recent(at(13)), None, "an order was given");
    }

    #[tokio::test]
    async fn what_a_short_walk_found_is_not_kept() {
        let orders = RecodeOrders::default();
        let at = Duration::from_millis;
        orders.turn().await.keep(Vec::new(), at(0), at(199));
        assert_eq!(orders.turn().await.recent(at(199)), None);
        orders.turn().await.keep(Vec::new(), at(0), at(200));
        assert!(orders.turn().await.recent(at(200)).is_some());
    }
}
