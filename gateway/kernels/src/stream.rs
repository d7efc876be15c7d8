//! Streams that are hashed in blocks of 64 bytes, one at a time or several side by side.
//!
//! In: pieces of any length. Out: calls of a compression function with whole blocks. What doesn't
//! fill a block is kept for the next piece.

/// Bytes of a block.
pub(crate) const BLOCK_BYTES: usize = 64;

/// Bytes at the end of the last block that hold the length.
const LENGTH_BYTES: usize = 8;

pub(crate) type Block = [u8; BLOCK_BYTES];

/// A stream's state, and blocks to run.
pub(crate) struct Strand<'a, S> {
    pub(crate) state: &'a mut S,
    pub(crate) blocks: &'a [Block],
}

/// A stream with the state `S` of its hash.
#[derive(Clone)]
pub(crate) struct Stream<S> {
    state: S,
    /// The beginning of a block whose end hasn't come yet.
    begun: Block,
    begun_bytes: usize,
    bytes: u64,
}

impl<S> Stream<S> {
    pub(crate) const fn new(start: S) -> Self {
        Self { state: start, begun: [0; BLOCK_BYTES], begun_bytes: 0, bytes: 0 }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8], compress: impl Fn(&mut S, &[Block])) {
        let bytes = self.fill_begun(bytes);
        if self.begun_bytes == BLOCK_BYTES {
            compress(&mut self.state, &[self.begun]);
            self.begun_bytes = 0;
        }
        let (blocks, rest) = bytes.as_chunks();
        compress(&mut self.state, blocks);
        self.bytes += (blocks.len() * BLOCK_BYTES) as u64;
        self.fill_begun(rest);
    }

    /// The state after the end: a bit that is set, zeros, and the length in bits, modulo 2^64, as
    /// `length` writes it.
    pub(crate) fn finish(
        mut self,
        length: impl Fn(u64) -> [u8; LENGTH_BYTES],
        compress: impl Fn(&mut S, &[Block]),
    ) -> S {
        self.begun[self.begun_bytes] = 0x80;
        self.begun[self.begun_bytes + 1..].fill(0);
        if self.begun_bytes >= BLOCK_BYTES - LENGTH_BYTES {
            compress(&mut self.state, &[self.begun]);
            self.begun.fill(0);
        }
        let bits = length(self.bytes.wrapping_mul(8));
        self.begun[BLOCK_BYTES - LENGTH_BYTES..].copy_from_slice(&bits);
        compress(&mut self.state, &[self.begun]);
        self.state
    }

    /// Adds to a block that is begun, or begins one with less than a block; gives what is left.
    /// May leave the block full.
    fn fill_begun<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.begun_bytes == 0 && bytes.len() >= BLOCK_BYTES {
            return bytes;
        }
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.begun_bytes));
        self.begun[self.begun_bytes..self.begun_bytes + taken.len()].copy_from_slice(taken);
        self.begun_bytes += taken.len();
        self.bytes += taken.len() as u64;
        rest
    }
}

/// Takes all bytes of all streams: calls `compress` with those that have blocks left, and a number of
/// blocks that all of these have.
pub(crate) fn update_together<'a, S: 'a, B: AsRef<[u8]> + 'a>(
    streams: impl Iterator<Item = (&'a mut Stream<S>, &'a [B])>,
    compress: impl Fn(&mut [Strand<'_, S>], usize),
) {
    let mut cursors: Vec<Cursor<'_, S, B>> =
        streams.map(|(stream, pieces)| Cursor { stream, pieces, taken: 0 }).collect();
    loop {
        cursors.retain_mut(Cursor::find_blocks);
        let Some(count) = cursors.iter().map(Cursor::blocks_left).min() else { return };
        let mut strands: Vec<Strand<'_, S>> = cursors.iter_mut().map(Cursor::strand).collect();
        compress(&mut strands, count);
        for cursor in &mut cursors {
            cursor.advance(count);
        }
    }
}

/// Where a stream is in its pieces.
struct Cursor<'a, S, B> {
    stream: &'a mut Stream<S>,
    pieces: &'a [B],
    /// Bytes of the first piece that were taken.
    taken: usize,
}

impl<S, B: AsRef<[u8]>> Cursor<'_, S, B> {
    /// Goes on to where there is a block to run, filling up a begun one: that one, or blocks of a
    /// piece. False when all pieces are taken.
    fn find_blocks(&mut self) -> bool {
        while self.stream.begun_bytes < BLOCK_BYTES {
            let Some(piece) = self.pieces.first() else { return false };
            let left = &piece.as_ref()[self.taken..];
            let rest = self.stream.fill_begun(left);
            self.taken += left.len() - rest.len();
            if self.stream.begun_bytes == 0 && rest.len() >= BLOCK_BYTES {
                return true;
            }
            if rest.is_empty() {
                self.pieces = &self.pieces[1..];
                self.taken = 0;
            }
        }
        true
    }

    fn blocks_left(&self) -> usize {
        match (self.stream.begun_bytes, self.pieces.first()) {
            (BLOCK_BYTES, _) => 1,
            (_, Some(piece)) => (piece.as_ref().len() - self.taken) / BLOCK_BYTES,
            (_, None) => 0,
        }
    }

    fn strand(&mut self) -> Strand<'_, S> {
        let blocks: &[Block] = if self.stream.begun_bytes == BLOCK_BYTES {
            std::slice::from_ref(&self.stream.begun)
        } else {
            self.pieces.first().map_or(&[], |piece| piece.as_ref()[self.taken..].as_chunks().0)
        };
        Strand { state: &mut self.stream.state, blocks }
    }

    fn advance(&mut self, blocks: usize) {
        if self.stream.begun_bytes == BLOCK_BYTES {
            self.stream.begun_bytes = 0;
            return;
        }
        self.taken += blocks * BLOCK_BYTES;
        self.stream.bytes += (blocks * BLOCK_BYTES) as u64;
    }
}
