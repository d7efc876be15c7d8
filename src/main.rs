//! `drystone`: the command line, and the composition of the roles.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod admin_client;
mod directories;
mod logging;
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
    /// Look after a running server.
    Admin(admin_client::AdminArguments),
    /// Look into the disks of a storage node that isn't running.
    StorageNode(storage_node::StorageNodeArguments),
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().role {
        Role::Server(arguments) => server::run(&arguments),
        Role::Admin(arguments) => admin_client::run(&arguments),
        Role::StorageNode(arguments) => storage_node::run(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("drystone: {error:#}");
            ExitCode::FAILURE
        }
    }
}
