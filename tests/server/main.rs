//! The real binary as an operator meets it: starting, refusing, stopping.

mod harness;
mod offline;
mod refusals;
mod starting;
