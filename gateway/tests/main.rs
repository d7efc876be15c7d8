//! The gateway as its clients see it.

mod admin;
mod buckets;
mod connections;
mod copies;
mod objects;
mod payloads;
mod uploads;
mod world;
