//! Fills stripes from the chunks of a body: the one copy between socket and disk.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use model::limits::STRIPE_BYTES_MAX;
use tokio::sync::OwnedSemaphorePermit;

use crate::buffers::{BufferPool, PooledBuffer};

/// A stripe that is complete, with the share of the write budget that it and its parity hold.
#[derive(Debug)]
pub(crate) struct Stripe {
    pub(crate) data: Bytes,
    /// Given back when the stripe has settled.
    _permit: OwnedSemaphorePermit,
}

impl Stripe {
    /// Bytes of the stripe.
    pub(crate) fn bytes(&self) -> u32 {
        self.data.len() as u32
    }
}

/// A stripe being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    content: Content,
    permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Content {
    /// A chunk that is all of a small body so far: not copied.
    Borrowed(Bytes),
    Copied(PooledBuffer),
}

impl Filling {
    /// A stripe that is expected to hold `expected` bytes of which `chunk` has the first. Takes
    /// what fits out of `chunk`.
    pub(crate) fn begin(
        chunk: &mut Bytes,
        expected: usize,
        permit: OwnedSemaphorePermit,
        pool: &Arc<BufferPool>,
    ) -> Self {
        if chunk.len() == expected {
            let content = Content::Borrowed(std::mem::take(chunk));
            return Self { content, permit };
        }
        let content = Content::Copied(pool.take(expected));
        let mut filling = Self { content, permit };
        filling.fill(chunk, pool);
        filling
    }

    /// Takes what fits out of `chunk`.
    pub(crate) fn fill(&mut self, chunk: &mut Bytes, pool: &Arc<BufferPool>) {
        let room = STRIPE_BYTES_MAX as usize - self.length();
        let taken = chunk.len().min(room);
        if taken == 0 {
            return;
        }
        if let Content::Borrowed(first) = &self.content {
            // The body is longer than was announced.
            let mut buffer = pool.take(STRIPE_BYTES_MAX as usize);
            buffer.data.extend_from_slice(first);
            self.content = Content::Copied(buffer);
        }
        if let Content::Copied(buffer) = &mut self.content {
            buffer.data.extend_from_slice(&chunk[..taken]);
        }
        chunk.advance(taken);
    }

    /// Whether nothing more fits.
    pub(crate) fn is_full(&self) -> bool {
        self.length() == STRIPE_BYTES_MAX as usize
    }

    /// The stripe.
    pub(crate) fn cut(self) -> Stripe {
        let data = match self.content {
            Content::Borrowed(bytes) => bytes,
            Content::Copied(buffer) => buffer.freeze(),
        };
        Stripe { data, _permit: self.permit }
    }

    fn length(&self) -> usize {
        match &self.content {
            Content::Borrowed(bytes) => bytes.len(),
            Content::Copied(buffer) => buffer.data.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Budget;

    fn cut(chunks: &[usize], expected: usize) -> Vec<usize> {
        let pool = Arc::default();
        let budget = Budget::new(1 << 30);
        let permit = || budget.try_acquire(1).expect("room");
        let mut filling: Option<Filling> = None;
        let mut stripes = Vec::new();
        for size in chunks {
            let mut chunk = Bytes::from(vec![1u8; *size]);
            while !chunk.is_empty() {
                match &mut filling {
                    None => filling = Some(Filling::begin(&mut chunk, expected, permit(), &pool)),
                    Some(filling) => filling.fill(&mut chunk, &pool),
                }
                if let Some(full) = filling.take_if(|filling| filling.is_full()) {
                    stripes.push(full.cut().data.len());
                }
            }
        }
        stripes.extend(filling.map(|filling| filling.cut().data.len()));
        stripes
    }

    #[test]
    fn stripes_are_full_but_the_last() {
        let full = STRIPE_BYTES_MAX as usize;
        assert_eq!(cut(&[10, 20], 30), [30]);
        assert_eq!(cut(&[30], 30), [30]);
        // Longer than announced.
        assert_eq!(cut(&[30, 5], 30), [35]);
        assert_eq!(cut(&[full - 1, 3, full], full), [full, full, 2]);
        assert_eq!(cut(&[full * 2], full), [full, full]);
        assert_eq!(cut(&[], full), [0usize; 0]);
    }
}
