//! The doors: the only ways by which the world enters Drystone.
//!
//! Each door is a trait with a real and a simulated implementation, so that a whole cluster can
//! run in one deterministic process:
//!
//! | door | real | simulated |
//! | --- | --- | --- |
//! | [`disk::Disk`] | [`disk::RealDisk`] | [`disk::SimulatedDisk`] |
//! | [`network::Network`] | [`network::InProcess`], [`rpc::RpcNetwork`] | [`network::SimulatedNetwork`] |
//! | [`clock::Clock`] | [`clock::SystemClock`] | [`clock::SimulatedClock`] |
//! | [`entropy::Entropy`] | [`entropy::SystemEntropy`] | [`entropy::SeededEntropy`] |
//!
//! This crate knows no S3, no table and no segment.

use std::future::Future;
use std::pin::Pin;

pub mod clock;
pub mod disk;
pub mod entropy;
pub mod network;
pub mod rpc;
pub mod tls;

/// A boxed future, for the methods of trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
