//! Slots move to other disks: drained, lost, added ones; with everything that may go wrong meanwhile.
//! Every scenario is watched: what could be read can be read ever after (I-12).

mod crashes;
mod failures;
mod growth;
mod museum;
mod random;
pub mod scene;
mod strays;
mod writers;
