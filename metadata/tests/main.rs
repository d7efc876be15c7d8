//! Integration tests of the metadata service.

mod cluster;
mod harness;
mod listing;
mod log_crash;
mod log_suite;
mod model_apply;
mod snapshots;
mod upkeep;
