//! Scenarios of one disk and of a node, on simulated and real directories.

mod compaction;
mod damage;
mod faults;
mod full;
mod killed;
mod lethal;
mod node;
mod operations;
mod scrub;
mod sectors;
mod stalls;
mod torture;
mod unruly;
mod world;
