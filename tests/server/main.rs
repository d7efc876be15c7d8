//! The real binary as an operator meets it: starting, refusing, stopping.

mod deploy;
mod harness;
mod offline;
mod refusals;
mod settings;
mod starting;
