//! What the operator sees: `/metrics`, `/health/live`, `/health/ready` and `/status`.
//!
//! A listener of its own, plain HTTP, on loopback unless the operator says otherwise. It changes
//! nothing and shows no secret, key or name of an object.

pub mod gather;
mod gauges;
pub mod handler;
pub mod health;
pub mod render;
pub mod status;

pub use gather::{ReplicaPlace, StatusGatherer};
pub use handler::{AdminHandler, MetricsText};
