//! A process of a cluster: its host directory, its link to the other nodes, and the roles that it
//! plays.

mod authority;
mod book;
mod certificate;
pub mod directory;
mod link;
mod metadata;
mod of_sender;
mod orders;
mod pem;
mod run;
pub mod told;

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
