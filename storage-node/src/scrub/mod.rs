//! Scrub: reads every record of a disk again and again, and tells what has rotted.
//!
//! [`plan`] decides what is read next and how fast, [`walk`] reads and verifies a segment,
//! [`state`] is what a pass remembers across restarts, [`control`] is how others see and steer
//! it, [`run`] is the thread that does the work.
//!
//! What always holds: only bytes that are on stable storage are judged, from the device and not
//! from the page cache, and what fails is read a second time before it is called damaged. Nothing
//! is ever written over or deleted here: a damaged record stays where it is, is never served, and
//! is told of.

mod control;
mod plan;
mod reads;
mod run;
mod state;
mod walk;

pub(crate) use control::ScrubControl;
pub(crate) use run::{Neighbours, start};
