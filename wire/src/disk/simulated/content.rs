//! The content of one simulated file: what is seen, what is durable, and what lies in between.
//!
//! A crash keeps, of what wasn't synced, nothing, everything, a prefix that may end inside of a
//! write, or for each 512-byte sector the state that it had at a moment of its own. The length is
//! one more thing that has its own moment. A sector is never a mix of moments: the page cache
//! writes it as a whole.

use std::collections::BTreeMap;

use crate::entropy::{Entropy, SeededEntropy};

/// What a crash can tear apart: the sector that devices promise to write as one.
pub(super) const SECTOR_BYTES: usize = 512;

/// One file.
#[derive(Default)]
pub(super) struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync, oldest first.
    pending: Vec<Change>,
    /// Whether a failed sync has made `current` and `durable` differ for good.
    parted: bool,
}

enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => write(bytes, *offset, data),
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Content {
    /// What a process sees.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.current
    }

    pub(super) fn write(&mut self, offset: u64, data: Vec<u8>) {
        self.change(Change::Write(offset as usize, data));
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.change(Change::Length(length as usize));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Makes everything durable that no failed sync has dropped.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed, of which nothing reached the device: the kernel has marked the pages
    /// clean, still shows them, and will not write them again. Cuts and reservations are the file
    /// system's own records: it keeps them, for a later sync.
    pub(super) fn drop_unsynced(&mut self) {
        let before = self.pending.len();
        self.pending.retain(|change| matches!(change, Change::Length(_)));
        self.parted |= self.pending.len() < before;
    }

    /// A sync that failed, of which a part reached the device. With `evicted` the rest is no
    /// longer seen either.
    pub(super) fn lose_unsynced(&mut self, entropy: &SeededEntropy, evicted: bool) {
        tear(&mut self.durable, &self.pending, entropy);
        self.drop_unsynced();
        if evicted {
            self.current.clone_from(&self.durable);
            self.pending.iter().for_each(|change| change.apply(&mut self.current));
        }
    }

    /// The power fails.
    pub(super) fn crash(&mut self, entropy: &SeededEntropy) {
        if self.pending.is_empty() && !self.parted {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        tear(&mut self.durable, &pending, entropy);
        self.current.clone_from(&self.durable);
        self.parted = false;
    }

    /// Flips a bit of what is seen and of what is durable.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        for bytes in [&mut self.current, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(offset as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

/// Applies what survives of `pending`: the ways in which caches lose.
fn tear(durable: &mut Vec<u8>, pending: &[Change], entropy: &SeededEntropy) {
    if pending.is_empty() {
        return;
    }
    match entropy.below(4) {
        0 => {}
        1 => pending.iter().for_each(|change| change.apply(durable)),
        2 => keep_prefix(durable, pending, entropy),
        _ => keep_sectors(durable, pending, entropy),
    }
}

/// The first changes survive, and of the one behind them the first sectors.
fn keep_prefix(durable: &mut Vec<u8>, pending: &[Change], entropy: &SeededEntropy) {
    let kept = entropy.below(pending.len() as u64 + 1) as usize;
    pending[..kept].iter().for_each(|change| change.apply(durable));
    if let Some(Change::Write(offset, data)) = pending.get(kept) {
        let end = offset + entropy.below(data.len() as u64 + 1) as usize;
        let end = end / SECTOR_BYTES * SECTOR_BYTES;
        if end > *offset {
            write(durable, *offset, &data[..end - offset]);
        }
    }
}

/// Each sector, and the length, survives as it was at a moment of its own.
fn keep_sectors(durable: &mut Vec<u8>, pending: &[Change], entropy: &SeededEntropy) {
    let mut lengths = vec![durable.len()];
    let mut reach = durable.len();
    for change in pending {
        let before = lengths.last().copied().unwrap_or_default();
        let after = match change {
            Change::Write(offset, data) => before.max(offset + data.len()),
            Change::Length(length) => *length,
        };
        reach = reach.max(after);
        lengths.push(after);
    }
    durable.resize(reach, 0);
    let changes = pending.len() as u64;
    let mut moments: BTreeMap<usize, u64> = BTreeMap::new();
    for (number, change) in (0u64..).zip(pending) {
        let (from, to, data) = match change {
            Change::Write(offset, data) => (*offset, offset + data.len(), Some(data)),
            // What lies behind a cut is zero from then on.
            Change::Length(length) => (*length, reach, None),
        };
        let mut at = from;
        while at < to {
            let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(to);
            let moment =
                moments.entry(at / SECTOR_BYTES).or_insert_with(|| entropy.below(changes + 1));
            if number < *moment {
                match data {
                    Some(data) => durable[at..end].copy_from_slice(&data[at - from..end - from]),
                    None => durable[at..end].fill(0),
                }
            }
            at = end;
        }
    }
    // Sizes are often kept by a journal of their own: the last one, or any on the way.
    let length = match entropy.below(2) {
        0 => lengths.last().copied(),
        _ => lengths.get(entropy.below(lengths.len() as u64) as usize).copied(),
    };
    durable.truncate(length.unwrap_or_default());
    durable.resize(length.unwrap_or_default(), 0);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every outcome of a crash after `work` on a file that holds `before`.
    fn outcomes(before: &[u8], work: impl Fn(&mut Content)) -> BTreeSet<Vec<u8>> {
        let entropy = SeededEntropy::new(1);
        let outcome = |_| {
            let mut content = Content::default();
            content.write(0, before.to_vec());
            content.sync();
            work(&mut content);
            content.crash(&entropy);
            assert_eq!(content.current, content.durable);
            content.current
        };
        (0..2000).map(outcome).collect()
    }

    /// One letter for each sector, and what is over.
    fn letters(bytes: &[u8]) -> String {
        bytes.chunks(SECTOR_BYTES).map(|sector| char::from(sector[0] | b'@')).collect()
    }

    fn sectors(text: &str) -> Vec<u8> {
        text.bytes().flat_map(|letter| [letter; SECTOR_BYTES]).collect()
    }

    #[test]
    fn any_sectors_of_an_overwrite_survive() {
        let found = outcomes(&sectors("aaa"), |content| content.write(0, sectors("bbb")));
        let found: BTreeSet<String> = found.iter().map(|bytes| letters(bytes)).collect();
        let all = ["aaa", "aab", "aba", "abb", "baa", "bab", "bba", "bbb"];
        assert_eq!(found, all.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn a_sector_is_of_one_moment_and_never_a_mix() {
        let found = outcomes(&[b'a'; 20], |content| {
            content.write(0, vec![b'b'; 10]);
            content.write(10, vec![b'c'; 10]);
        });
        let text = |bytes: &Vec<u8>| format!("{}{}", bytes[0] as char, bytes[19] as char);
        let found: BTreeSet<String> = found.iter().map(text).collect();
        assert_eq!(found, ["aa", "ba", "bc"].iter().map(ToString::to_string).collect());
    }

    #[test]
    fn an_append_survives_with_any_of_its_sectors_and_any_length() {
        let found = outcomes(&sectors("a"), |content| {
            content.write(512, sectors("b"));
            content.write(1024, sectors("c"));
        });
        let found: BTreeSet<String> = found.iter().map(|bytes| letters(bytes)).collect();
        // @ is a sector of zeros.
        let all = ["a", "a@", "ab", "a@@", "a@c", "ab@", "abc"];
        assert_eq!(found, all.iter().map(ToString::to_string).collect());
    }

    #[test]
    fn a_cut_and_a_reservation_survive_or_not_apart_from_what_is_written_after_them() {
        let found = outcomes(&sectors("aaa"), |content| {
            content.set_length(512);
            content.set_length(1536);
            content.write(512, sectors("b"));
        });
        let found: BTreeSet<String> = found.iter().map(|bytes| letters(bytes)).collect();
        for expected in ["aaa", "a", "a@@", "ab@", "aba", "a@a"] {
            assert!(found.contains(expected), "{expected} is not in {found:?}");
        }
    }

    #[test]
    fn a_failed_sync_drops_for_good_and_later_writes_are_apart() {
        let mut content = Content::default();
        content.write(0, vec![1; 600]);
        content.sync();
        content.write(0, vec![2; 300]);
        content.drop_unsynced();
        assert_eq!(content.bytes()[0], 2, "the page cache shows it");
        content.write(512, vec![3; 88]);
        content.sync();
        content.crash(&SeededEntropy::new(1));
        assert_eq!((content.bytes()[0], content.bytes()[512]), (1, 3));
    }

    #[test]
    fn a_failed_sync_loses_no_cut() {
        let mut content = Content::default();
        content.write(0, vec![1; 600]);
        content.sync();
        content.write(600, vec![2; 100]);
        content.set_length(500);
        content.drop_unsynced();
        content.sync();
        content.crash(&SeededEntropy::new(1));
        assert_eq!(content.bytes(), [1; 500]);
    }

    #[test]
    fn a_failed_sync_in_part_may_show_or_forget_what_it_lost() {
        for (evicted, shown) in [(false, vec![b'b'; 4]), (true, vec![])] {
            let entropy = SeededEntropy::new(5);
            let seen: BTreeSet<Vec<u8>> = (0..200)
                .map(|_| {
                    let mut content = Content::default();
                    content.write(0, vec![b'b'; 4]);
                    content.lose_unsynced(&entropy, evicted);
                    content.current
                })
                .collect();
            assert!(seen.contains(&shown));
            // Nothing, its length alone, or all of it.
            assert_eq!(seen.len(), if evicted { 3 } else { 1 });
        }
    }
}
