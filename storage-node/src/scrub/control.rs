//! How the rest of the disk sees and steers its scrub: the state, orders, and the end.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

use model::shard::{ScrubOrder, ScrubReport};
use tokio::sync::Notify;

use super::state::ScrubState;
use crate::lock::lock;

/// An order that the thread hasn't taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Begin(u64),
    End,
}

/// The handle to a disk's scrub, in use before its thread runs and after it has ended.
pub(crate) struct ScrubControl {
    state: Mutex<Held>,
    /// Wakes the thread.
    pub(super) wake: Notify,
    stopped: AtomicBool,
}

struct Held {
    state: ScrubState,
    /// The latest counts: it takes the place of an earlier one.
    order: Option<Order>,
}

impl ScrubControl {
    /// Goes on from what a checkpoint has saved; without a sound state passes begin anew.
    pub(crate) fn new(saved: &[u8]) -> Self {
        let state = ScrubState::decode(saved).unwrap_or_default();
        let held = Held { state, order: None };
        Self { state: Mutex::new(held), wake: Notify::new(), stopped: AtomicBool::new(false) }
    }

    /// Has a pass begun, or the one that was asked for ended.
    pub(crate) fn order(&self, order: ScrubOrder) {
        lock(&self.state).order = Some(match order {
            ScrubOrder::Begin { bytes_per_second } => Order::Begin(bytes_per_second),
            ScrubOrder::End => Order::End,
        });
        self.wake.notify_one();
    }

    /// What the disk reports.
    pub(crate) fn report(&self) -> ScrubReport {
        let held = lock(&self.state);
        let mut report = held.state.report();
        // Whoever ordered it must not take it for ended before the thread has seen the order.
        report.on_demand |= matches!(held.order, Some(Order::Begin(_)));
        report
    }

    /// Ends the thread, after what it reads just now.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn take_order(&self) -> Option<Order> {
        lock(&self.state).order.take()
    }

    pub(super) fn has_order(&self) -> bool {
        lock(&self.state).order.is_some()
    }

    pub(super) fn get(&self) -> ScrubState {
        lock(&self.state).state
    }

    /// Changes the state, which only the thread does. Gives its saved form.
    pub(super) fn change(&self, work: impl FnOnce(&mut ScrubState)) -> Vec<u8> {
        let mut held = lock(&self.state);
        work(&mut held.state);
        held.state.encode().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Pass;
    use super::*;

    #[test]
    fn a_saved_state_goes_on_and_noise_begins_anew() {
        let control = ScrubControl::new(&[]);
        let pass = Pass { segment: 7, ..Pass::default() };
        let saved = control.change(|state| state.paced = Some(pass));
        assert_eq!(ScrubControl::new(&saved).get(), control.get());
        assert_eq!(ScrubControl::new(&saved[1..]).get(), ScrubState::default());
    }

    #[test]
    fn the_latest_order_counts() {
        let control = ScrubControl::new(&[]);
        control.order(ScrubOrder::Begin { bytes_per_second: 5 });
        assert_eq!(control.take_order(), Some(Order::Begin(5)));
        control.order(ScrubOrder::Begin { bytes_per_second: 5 });
        control.order(ScrubOrder::End);
        assert_eq!(control.take_order(), Some(Order::End));
        assert!(!control.has_order());
    }
}
