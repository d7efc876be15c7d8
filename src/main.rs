//! `drystone`: the command line, and the composition of the roles.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod admin_client;
mod cluster;
mod config;
mod directories;
mod durability;
mod host;
mod logging;
mod process;
mod roles;
mod server;
mod settings;
mod storage_node;

/// An S3-compatible object store that cuts objects into Reed-Solomon shards and keeps them on
/// many disks, so that losing some of them loses nothing.
#[derive(Parser)]
#[command(name = "drystone", version, about, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Run all roles in one process over a list of directories.
    Server(Box<settings::ServerArguments>),
    /// Show and check the settings of a role.
    Config(Box<config::ConfigArguments>),
    /// Look after a running server.
    Admin(admin_client::AdminArguments),
    /// Run a storage node of a cluster, or look into the disks of one that isn't running.
    StorageNode(Box<storage_node::StorageNodeArguments>),
    /// Run a metadata node of a cluster.
    Metadata(Box<settings::MetadataArguments>),
    /// Run an S3 gateway of a cluster.
    Gateway(Box<settings::GatewayArguments>),
    /// Make a cluster of many hosts, or bring this host into one.
    Cluster(cluster::ClusterArguments),
    /// Tell how likely a cluster is to lose data, before it is bought.
    ///
    /// A Markov chain of disks that fail and are rebuilt, set beside other codings, copies and scrub
    /// intervals; --simulate checks it on the same cluster with the placement that it would have.
    Durability(Box<durability::DurabilityArguments>),
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().role {
        Role::Server(arguments) => server::run(&arguments),
        Role::Config(arguments) => config::run(&arguments),
        Role::Admin(arguments) => admin_client::run(&arguments),
        Role::StorageNode(arguments) => storage_node::run(&arguments),
        Role::Metadata(arguments) => host::run_metadata(&arguments),
        Role::Gateway(arguments) => host::run_gateway(&arguments),
        Role::Cluster(arguments) => cluster::run(&arguments),
        Role::Durability(arguments) => durability::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("drystone: {error:#}");
            ExitCode::FAILURE
        }
    }
}
