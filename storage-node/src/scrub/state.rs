//! What scrub remembers: how far the passes are and when the last whole one was.
//!
//! It is saved with every checkpoint of the index (FORMAT.md, "Scrub state"), after the damage
//! that it has found: a cursor never lies behind damage that could be forgotten.

use model::shard::{LogPosition, ScrubReport};
use model::time::Timestamp;
use twox_hash::XxHash3_64;

/// A pass over the log, as it was long when the pass began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// When it began.
    pub(crate) began: Timestamp,
    /// The log position at which it ends: what was durable when it began.
    pub(crate) until: LogPosition,
    /// The segment that it has come to.
    pub(crate) segment: u64,
    /// The first byte in that segment that it hasn't verified.
    pub(crate) offset: u64,
    /// Bytes that it has verified.
    pub(crate) verified_bytes: u64,
    /// Bytes that it has to verify, those included that it has.
    pub(crate) total_bytes: u64,
}

/// The passes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScrubState {
    /// The pass that comes round by itself.
    pub(crate) paced: Option<Pass>,
    /// The pass that somebody asked for, and at how many bytes a second (0: no limit).
    pub(crate) asked: Option<(Pass, u64)>,
    /// When the last whole pass began; 0 when there was none.
    pub(crate) last_began: Timestamp,
    /// When it ended.
    pub(crate) last_ended: Timestamp,
}

impl ScrubState {
    /// Bytes of the saved form.
    pub(crate) const BYTES: usize = 8 * Self::WORDS + 8;
    const WORDS: usize = 16;
    const VERSION: u32 = 1;
    const HAS_PACED: u32 = 1;
    const HAS_ASKED: u32 = 2;

    /// The pass to go on with: one that was asked for goes first.
    pub(crate) fn current(&self) -> Option<&Pass> {
        self.asked.as_ref().map(|(pass, _)| pass).or(self.paced.as_ref())
    }

    /// The same, to be moved on.
    pub(crate) fn current_mut(&mut self) -> Option<&mut Pass> {
        self.asked.as_mut().map(|(pass, _)| pass).or(self.paced.as_mut())
    }

    /// The current pass is through.
    pub(crate) fn finish(&mut self, now: Timestamp) {
        let Some(pass) = self.current().copied() else {
            return;
        };
        self.last_began = pass.began;
        self.last_ended = now;
        // Whatever the paced one had still to do has been done by the one asked for, if that
        // began later; and it always did.
        self.asked = None;
        self.paced = None;
    }

    /// What the disk reports.
    pub(crate) fn report(&self) -> ScrubReport {
        let pass = self.current().copied().unwrap_or_default();
        ScrubReport {
            began: pass.began,
            verified_bytes: pass.verified_bytes,
            total_bytes: pass.total_bytes,
            last_began: self.last_began,
            last_ended: self.last_ended,
            on_demand: self.asked.is_some(),
        }
    }

    /// The saved form.
    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut flags = 0;
        if self.paced.is_some() {
            flags |= Self::HAS_PACED;
        }
        if self.asked.is_some() {
            flags |= Self::HAS_ASKED;
        }
        let (asked, rate) = self.asked.unwrap_or_default();
        let mut words = [0u64; Self::WORDS];
        words[0] = u64::from(Self::VERSION) | u64::from(flags) << 32;
        words[1..7].copy_from_slice(&pass_words(&self.paced.unwrap_or_default()));
        words[7..13].copy_from_slice(&pass_words(&asked));
        words[13..].copy_from_slice(&[rate, self.last_began.0, self.last_ended.0]);
        let mut out = [0u8; Self::BYTES];
        for (place, word) in out.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let checksum = XxHash3_64::oneshot(&out[..8 * Self::WORDS]);
        out[8 * Self::WORDS..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The inverse of [`ScrubState::encode`]; `None` when the bytes are no sound state of this
    /// version. The answer to that is to begin anew: nothing but progress is lost.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (body, checksum) = bytes.split_at(8 * Self::WORDS);
        if checksum != XxHash3_64::oneshot(body).to_le_bytes() {
            return None;
        }
        let mut words = [0u64; Self::WORDS];
        for (word, place) in words.iter_mut().zip(body.chunks_exact(8)) {
            *word = u64::from_le_bytes(place.try_into().ok()?);
        }
        let (version, flags) = (words[0] as u32, (words[0] >> 32) as u32);
        if version != Self::VERSION {
            return None;
        }
        let paced = pass_of(words.get(1..7)?)?;
        let asked = pass_of(words.get(7..13)?)?;
        Some(Self {
            paced: (flags & Self::HAS_PACED != 0).then_some(paced),
            asked: (flags & Self::HAS_ASKED != 0).then_some((asked, words[13])),
            last_began: Timestamp(words[14]),
            last_ended: Timestamp(words[15]),
        })
    }
}

fn pass_words(pass: &Pass) -> [u64; 6] {
    let Pass { began, until, segment, offset, verified_bytes, total_bytes } = *pass;
    [began.0, until, segment, offset, verified_bytes, total_bytes]
}

fn pass_of(words: &[u64]) -> Option<Pass> {
    let [began, until, segment, offset, verified_bytes, total_bytes] = *words else {
        return None;
    };
    Some(Pass { began: Timestamp(began), until, segment, offset, verified_bytes, total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(base: u64) -> Pass {
        Pass {
            began: Timestamp(base),
            until: base + 1,
            segment: base + 2,
            offset: base + 3,
            verified_bytes: base + 4,
            total_bytes: base + 5,
        }
    }

    fn example() -> ScrubState {
        ScrubState {
            paced: Some(pass(0x10)),
            asked: Some((pass(0x20), 0x30)),
            last_began: Timestamp(0x31),
            last_ended: Timestamp(0x32),
        }
    }

    #[test]
    fn the_bytes_of_version_1_never_change() {
        let words: Vec<u64> = [1 | 3 << 32]
            .into_iter()
            .chain(0x10..0x16)
            .chain(0x20..0x26)
            .chain(0x30..0x33)
            .collect();
        let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let bytes = example().encode();
        assert_eq!(bytes[..128], expected);
        assert_eq!(bytes[128..], XxHash3_64::oneshot(&expected).to_le_bytes());
        assert_eq!(bytes.len(), 136);
    }

    #[test]
    fn it_reads_back_and_every_flipped_bit_is_seen() {
        for state in [
            ScrubState::default(),
            ScrubState { asked: None, ..example() },
            ScrubState { paced: None, ..example() },
            example(),
        ] {
            let bytes = state.encode();
            assert_eq!(ScrubState::decode(&bytes), Some(state));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(ScrubState::decode(&bad), None, "bit {bit}");
            }
        }
        for length in 0..ScrubState::BYTES {
            assert_eq!(ScrubState::decode(&example().encode()[..length]), None);
        }
    }

    #[test]
    fn a_pass_that_was_asked_for_goes_first_and_leaves_the_paced_one_where_it_was() {
        let mut state = example();
        assert_eq!(state.current(), Some(&pass(0x20)));
        state.asked = None;
        assert_eq!(state.current(), Some(&pass(0x10)));
        assert!(!state.report().on_demand);
        state.finish(Timestamp(0x99));
        assert_eq!((state.last_began, state.last_ended), (Timestamp(0x10), Timestamp(0x99)));
        assert_eq!(state.current(), None);
        assert_eq!(state.report().began, Timestamp(0));
    }
}
