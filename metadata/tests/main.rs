//! Integration tests of the metadata service.

mod admission;
mod backup;
mod cluster;
mod failing_disk;
mod harness;
mod hosts;
mod levels;
mod listing;
mod log_crash;
mod log_suite;
mod model_apply;
mod model_classes;
mod model_held;
mod model_moves;
mod model_nodes;
mod node_replicas;
mod random_moves;
mod records;
mod replica_crash;
mod restore;
mod running_damage;
mod scheduled;
mod snapshots;
mod taking_over;
mod upkeep;
