//! The real binary as an operator meets it: starting, refusing, stopping.

mod harness;
mod refusals;
mod starting;
