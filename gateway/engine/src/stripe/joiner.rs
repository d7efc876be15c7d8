//! Which stripes, and which ranges of which data shards, make up a byte range of a body. Pure.

use std::ops::Range;
use std::sync::Arc;

use model::coding::StripeGeometry;
use model::limits::STRIPE_BYTES_MAX;
use model::query::PlannedExtent;

/// A range of one stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Index into the planned extents.
    pub(crate) extent: usize,
    /// The stripe.
    pub(crate) stripe: u16,
    /// The bytes of it; never empty.
    pub(crate) range: Range<u32>,
}

impl Window {
    /// Bytes of the window.
    pub(crate) fn bytes(&self) -> u32 {
        self.range.end - self.range.start
    }
}

/// Walks over a range of a body, stripe by stripe.
#[derive(Debug)]
pub(crate) struct Windows {
    extents: Arc<[PlannedExtent]>,
    /// The extent that `next` lies in, or one before it.
    at: usize,
    next: u64,
    end: u64,
}

impl Windows {
    /// Over `range` of the body; the extents are in order and cover it.
    pub(crate) fn new(extents: Arc<[PlannedExtent]>, range: Range<u64>) -> Self {
        Self { extents, at: 0, next: range.start, end: range.end }
    }

    /// Whether nothing is left.
    pub(crate) fn is_done(&self) -> bool {
        self.next >= self.end
    }

    /// The next window without taking it: at most `bytes_max`, and never over the end of a stripe.
    /// `Err` when no extent holds the next byte.
    pub(crate) fn peek(&mut self, bytes_max: u32) -> Result<Option<Window>, NoSuchByte> {
        if self.is_done() {
            return Ok(None);
        }
        loop {
            let planned = self.extents.get(self.at).ok_or(NoSuchByte)?;
            let begin = self.next.checked_sub(planned.offset).ok_or(NoSuchByte)?;
            if begin >= planned.extent.length {
                self.at += 1;
                continue;
            }
            let stripe_max = u64::from(STRIPE_BYTES_MAX);
            let stripe = u16::try_from(begin / stripe_max).map_err(|_| NoSuchByte)?;
            let first = (begin % stripe_max) as u32;
            let here = u64::from(planned.extent.stripe_bytes(stripe) - first);
            let bytes = here.min(u64::from(bytes_max)).min(self.end - self.next) as u32;
            return Ok(Some(Window { extent: self.at, stripe, range: first..first + bytes }));
        }
    }

    /// Whether nothing follows a window that was peeked.
    pub(crate) fn ends_with(&self, window: &Window) -> bool {
        self.next + u64::from(window.bytes()) >= self.end
    }

    /// Goes on behind a window that was peeked.
    pub(crate) fn advance(&mut self, window: &Window) {
        self.next += u64::from(window.bytes());
    }
}

/// The plan doesn't hold a byte that is in its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoSuchByte;

/// The ranges of data shards that hold `range` of a stripe, in order: slot, and range in the shard.
pub(crate) fn shard_ranges(geometry: &StripeGeometry, range: &Range<u32>) -> Vec<(u8, Range<u32>)> {
    (0..geometry.data_shards())
        .filter_map(|slot| {
            let shard = geometry.data_range(slot)?;
            let start = range.start.max(shard.start);
            let end = range.end.min(shard.end);
            (start < end).then(|| (slot, start - shard.start..end - shard.start))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::extent::{Extent, SlotSet};
    use model::ids::ExtentId;
    use proptest::prelude::*;

    use super::*;

    fn extents(lengths: &[u64]) -> Arc<[PlannedExtent]> {
        let mut offset = 0;
        lengths
            .iter()
            .map(|length| {
                let coding = Coding::parse("4+2").expect("valid");
                let id = ExtentId::default();
                let extent =
                    Extent { id, coding, length: *length, missing: SlotSet::default(), epoch: 0 };
                let planned = PlannedExtent { offset, extent };
                offset += length;
                planned
            })
            .collect()
    }

    proptest! {
        #[test]
        fn windows_cover_the_range_once_and_in_order(
            lengths in proptest::collection::vec(1u64..12_000_000, 1..5),
            from in 0.0f64..1.0, to in 0.0f64..1.0, bytes_max in 100_000u32..5_000_000,
        ) {
            let total: u64 = lengths.iter().sum();
            let point = |share: f64| (share * total as f64) as u64;
            let range = point(from.min(to))..point(from.max(to));
            let planned = extents(&lengths);
            let mut windows = Windows::new(Arc::clone(&planned), range.clone());
            let mut next = range.start;
            while let Some(window) = windows.peek(bytes_max).expect("covered") {
                windows.advance(&window);
                let extent = &planned[window.extent];
                let stripe_start = u64::from(window.stripe) * u64::from(STRIPE_BYTES_MAX);
                prop_assert_eq!(extent.offset + stripe_start + u64::from(window.range.start), next);
                prop_assert!(window.range.end <= extent.extent.stripe_bytes(window.stripe));
                prop_assert!(window.bytes() > 0 && window.bytes() <= bytes_max);
                next += u64::from(window.bytes());
            }
            prop_assert_eq!(next, range.end);
        }

        #[test]
        fn shard_ranges_cover_the_range_once_and_in_order(
            k in 1u8..=16, bytes in 1u32..=STRIPE_BYTES_MAX, from in 0.0f64..1.0, to in 0.0f64..1.0,
        ) {
            let coding = Coding::new(k, 2).expect("valid");
            let geometry = StripeGeometry::new(coding, bytes).expect("valid");
            let point = |share: f64| (share * f64::from(bytes)) as u32;
            let range = point(from.min(to))..point(from.max(to)) + 1;
            let mut next = range.start;
            for (slot, part) in shard_ranges(&geometry, &range) {
                let shard = geometry.data_range(slot).expect("in use");
                prop_assert_eq!(shard.start + part.start, next);
                prop_assert!(part.end <= geometry.stored_bytes(slot));
                next = shard.start + part.end;
            }
            prop_assert_eq!(next, range.end);
        }
    }

    #[test]
    fn a_plan_with_a_hole_is_an_error() {
        let mut windows = Windows::new(extents(&[10]), 5..20);
        let window = windows.peek(100).expect("there").expect("one");
        assert_eq!(window, Window { extent: 0, stripe: 0, range: 5..10 });
        windows.advance(&window);
        assert_eq!(windows.peek(100), Err(NoSuchByte));
    }
}
