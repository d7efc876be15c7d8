//! The transport between processes, over real sockets.

mod certificates;
mod cut;
mod hostile;
mod identity;
mod lanes;
mod raw;
mod removed;
mod round_trip;
mod stopping;
mod world;
