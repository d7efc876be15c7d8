//! Scenarios of one disk and of a node, on simulated and real directories.

mod crashes;
mod damage;
mod faults;
mod node;
mod operations;
mod world;
