//! A process of a cluster: its host directory, its link to the other nodes, and the roles that it
//! plays.

mod book;
pub mod directory;
mod link;
mod metadata;
mod orders;
mod pem;
mod run;

use std::process::ExitCode;

use anyhow::Result;

pub use run::{HostParts, run};

use crate::settings::{GatewayArguments, MetadataArguments};

/// `drystone metadata`.
pub fn run_metadata(arguments: &MetadataArguments) -> Result<ExitCode> {
    run(arguments.resolve()?.into())
}

/// `drystone gateway`.
pub fn run_gateway(arguments: &GatewayArguments) -> Result<ExitCode> {
    run(arguments.resolve()?.into())
}
