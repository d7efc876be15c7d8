//! The door to randomness.

use std::sync::Mutex;

/// A source of random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` at random.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random 16-byte identifier.
    fn id(&self) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound`; 0 when `bound` is 0. The bias is below `bound / 2^64`.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// How many random bytes are drawn from the kernel at a time: one system call for many ids.
const POOL_BYTES: usize = 4096;

/// The operating system's generator, behind a small pool.
#[derive(Debug)]
pub struct SystemEntropy {
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    bytes: Box<[u8; POOL_BYTES]>,
    used: usize,
}

impl SystemEntropy {
    /// A generator with an empty pool.
    pub fn new() -> Self {
        Self { pool: Mutex::new(Pool { bytes: Box::new([0; POOL_BYTES]), used: POOL_BYTES }) }
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > POOL_BYTES / 4 {
            draw(bytes);
            return;
        }
        let mut pool = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pool.used + bytes.len() > POOL_BYTES {
            draw(&mut pool.bytes[..]);
            pool.used = 0;
        }
        let start = pool.used;
        let taken = &mut pool.bytes[start..start + bytes.len()];
        bytes.copy_from_slice(taken);
        // What was given out must not be found in memory later: it may become a key.
        taken.fill(0);
        pool.used += bytes.len();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door that the rule points to")]
fn draw(bytes: &mut [u8]) {
    // Without randomness no id is unique and no nonce is safe: there is nothing to go on with.
    assert!(getrandom::fill(bytes).is_ok(), "the operating system gives no random bytes");
}

/// A generator that repeats itself for the same seed (SplitMix64, Steele et al., OOPSLA 2014).
#[derive(Debug)]
pub struct SeededEntropy {
    state: Mutex<u64>,
}

impl SeededEntropy {
    /// A generator that is fully determined by `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            let word = mixed.to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let draw = |seed| SeededEntropy::new(seed).id();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn system_ids_differ_across_the_pool_border() {
        let entropy = SystemEntropy::new();
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| entropy.id()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn below_stays_below() {
        let entropy = SeededEntropy::new(1);
        assert!((0..1000).all(|_| entropy.below(3) < 3));
        assert_eq!(entropy.below(0), 0);
    }
}
