//! What the operator sees: `/metrics`, `/health`, `/health/live`, `/health/ready`, `/status`, `/nodes` and
//! `/jobs`; and what the operator can have done: scrubs, orders to the cluster ([`orders`]), and to its
//! disks, nodes and moves ([`upkeep`]).
//!
//! A listener of its own, plain HTTP, on loopback unless the operator says otherwise. It changes no
//! object and shows no secret or key; the name of an object only to who asked to scrub that object, or
//! for a recovery that could not bring it back.

mod answers;
mod backup;
pub mod backup_targets;
pub mod classes;
pub mod figures;
pub mod gather;
mod gauges;
pub mod handler;
pub mod health;
pub mod inspect;
pub mod job;
pub mod jobs;
mod order_routes;
pub mod orders;
pub mod recovery;
pub mod render;
mod render_cluster;
pub mod render_health;
pub mod render_repair;
pub mod repair;
mod repair_routes;
pub mod standing;
pub mod status;
pub mod upkeep;
pub mod why;

pub use gather::{Process, ReplicaPlace, StatusGatherer};
pub use handler::{AdminHandler, AdminParts, MetricsText};
pub use jobs::ScrubJobs;
pub use orders::{AdminOrders, OrderError};
pub use repair_routes::object_path;
