//! The engine against a fake cluster: disks in memory that fail on demand, and metadata in memory.

mod cluster;
mod collecting;
mod copying;
mod failing_writes;
mod inspecting;
mod leasing;
mod limits;
mod lost_shards;
mod moving;
mod rebalancing;
mod recoding;
mod reconciling;
mod recovering;
mod repairing;
mod restoring;
mod roundtrip;
mod scrubbing;
mod slow_disks;
