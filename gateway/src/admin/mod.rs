//! What the operator sees: `/metrics`, `/health/live`, `/health/ready`, `/status`, `/nodes` and
//! `/jobs`; and what the operator can have done: scrubs, and orders to the cluster ([`orders`]).
//!
//! A listener of its own, plain HTTP, on loopback unless the operator says otherwise. It changes no
//! object and shows no secret or key; the name of an object only to who asked to scrub that object, or
//! for a recovery that could not bring it back.

mod answers;
mod backup;
pub mod gather;
mod gauges;
pub mod handler;
pub mod health;
pub mod job;
pub mod jobs;
mod order_routes;
pub mod orders;
pub mod recovery;
pub mod render;
mod render_cluster;
pub mod status;

pub use gather::{Process, ReplicaPlace, StatusGatherer};
pub use handler::{AdminHandler, AdminParts, MetricsText};
pub use jobs::ScrubJobs;
pub use orders::{AdminOrders, OrderError};
