//! Loops that must run at the speed of the hardware: hashing and coding.
//!
//! In: bytes in memory. Out: bytes in memory; nothing here waits, allocates without need or knows
//! what the bytes are. Each task has a portable kernel and faster ones, chosen at run time by what
//! the processor has; all of them give the same bytes, which tests prove kernel by kernel.
//!
//! This is the one crate of the workspace with `unsafe` code: calls of functions compiled for
//! features that were just detected, loads and stores of vectors, and inline assembly without
//! side effects. Every such place has its reason beside it.

pub mod linear;
pub mod md5;
pub mod sha256;
mod stream;
