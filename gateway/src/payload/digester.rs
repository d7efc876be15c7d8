//! Hashes a body while it is received and written.
//!
//! In: the body's bytes in order. Out: its digests. A small body is hashed where it is received. A
//! large one is hashed in batches on the threads for blocking work, one batch at a time, while the
//! next one comes in; no thread is held while there is nothing to hash. Memory is bounded by the
//! batches that may wait.

use bytes::Bytes;
use s3::checksum::{BodyDigests, Digests};
use s3::{S3Error, S3ErrorCode};
use tokio::task::JoinHandle;

use crate::limits::{DIGEST_BATCH_BYTES, DIGEST_BATCHES_MAX, INLINE_DIGEST_BYTES_MAX};

/// Hashes a body.
pub struct Digester {
    state: State,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    inline: bool,
}

enum State {
    Idle(Box<BodyDigests>),
    Hashing(JoinHandle<Box<BodyDigests>>),
    /// A batch was lost: the runtime is shutting down, or hashing panicked.
    Lost,
}

impl Digester {
    /// For a body of `length` bytes.
    pub fn new(digests: BodyDigests, length: u64) -> Self {
        Self {
            state: State::Idle(Box::new(digests)),
            waiting: Vec::new(),
            waiting_bytes: 0,
            inline: length <= INLINE_DIGEST_BYTES_MAX,
        }
    }

    /// Whether the digests are there as soon as the body is.
    pub fn is_inline(&self) -> bool {
        self.inline
    }

    /// Takes the next bytes. Waits when hashing is too far behind.
    pub async fn update(&mut self, bytes: &Bytes) {
        if self.inline {
            if let State::Idle(digests) = &mut self.state {
                digests.update(bytes);
            }
            return;
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes.clone());
        if self.waiting_bytes < DIGEST_BATCH_BYTES {
            return;
        }
        let behind = self.waiting_bytes >= DIGEST_BATCH_BYTES * DIGEST_BATCHES_MAX;
        let hashing = matches!(&self.state, State::Hashing(batch) if !batch.is_finished());
        if behind || !hashing {
            self.settle().await;
            self.hash_waiting();
        }
    }

    /// The digests of everything.
    pub async fn finish(mut self) -> Result<Digests, S3Error> {
        self.settle().await;
        if !self.waiting.is_empty() {
            self.hash_waiting();
            self.settle().await;
        }
        match self.state {
            State::Idle(digests) => Ok(digests.finish()),
            State::Hashing(_) | State::Lost => Err(S3Error::new(S3ErrorCode::InternalError)),
        }
    }

    /// Waits for the batch that is being hashed.
    async fn settle(&mut self) {
        if let State::Hashing(batch) = &mut self.state {
            let digests = batch.await;
            self.state = digests.map_or(State::Lost, State::Idle);
        }
    }

    fn hash_waiting(&mut self) {
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::Idle(mut digests) => State::Hashing(tokio::task::spawn_blocking(move || {
                for bytes in &batch {
                    digests.update(bytes);
                }
                digests
            })),
            state @ (State::Hashing(_) | State::Lost) => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn digest(pieces: &[Bytes], length: u64) -> Digests {
        let mut digester = Digester::new(BodyDigests::of_copy(None), length);
        for piece in pieces {
            digester.update(piece).await;
        }
        digester.finish().await.expect("hashed")
    }

    #[tokio::test]
    async fn batches_give_the_digests_of_the_whole() {
        let whole = Bytes::from((0..5_000_000u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let expected = digest(std::slice::from_ref(&whole), 1).await;
        for piece_bytes in [1 << 14, 100_003, 3_000_000] {
            let pieces: Vec<Bytes> =
                whole.chunks(piece_bytes).map(|piece| whole.slice_ref(piece)).collect();
            assert_eq!(digest(&pieces, whole.len() as u64).await, expected, "{piece_bytes}");
        }
    }
}
