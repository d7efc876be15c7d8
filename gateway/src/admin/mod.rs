//! What the operator sees: `/metrics`, `/health/live`, `/health/ready`, `/status` and `/jobs`; and
//! what the operator can have done: `POST /scrub`, `POST /jobs/ID/stop`.
//!
//! A listener of its own, plain HTTP, on loopback unless the operator says otherwise. It changes no
//! object and shows no secret or key; the name of an object only to who asked to scrub that object.

pub mod gather;
mod gauges;
pub mod handler;
pub mod health;
pub mod job;
pub mod jobs;
pub mod render;
pub mod status;

pub use gather::{ReplicaPlace, StatusGatherer};
pub use handler::{AdminHandler, MetricsText};
pub use jobs::ScrubJobs;
