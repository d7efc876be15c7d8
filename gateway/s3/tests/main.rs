//! The protocol against AWS's published examples, AWS's own signer, and random input.

mod chunks;
mod signatures;
