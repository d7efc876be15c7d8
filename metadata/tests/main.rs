//! Integration tests of the metadata service.

mod backup;
mod cluster;
mod failing_disk;
mod harness;
mod hosts;
mod listing;
mod log_crash;
mod log_suite;
mod model_apply;
mod model_held;
mod model_nodes;
mod records;
mod replica_crash;
mod restore;
mod scheduled;
mod snapshots;
mod taking_over;
mod upkeep;
