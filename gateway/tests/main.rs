//! The gateway as its clients see it.

mod admin;
mod backups;
mod buckets;
mod cluster_orders;
mod connections;
mod copies;
mod draining;
mod https;
mod objects;
mod outages;
mod payloads;
mod recovery;
mod uploads;
mod world;
