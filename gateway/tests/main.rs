//! The gateway as its clients see it.

mod admin;
mod admin_upkeep;
mod backups;
mod buckets;
mod classes;
mod cluster_orders;
mod connections;
mod copies;
mod draining;
mod health;
mod https;
mod inspecting;
mod objects;
mod outages;
mod payloads;
mod proxy;
mod readiness;
mod recovery;
mod remote_backups;
mod uploads;
mod world;
