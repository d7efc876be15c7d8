//! `drystone config …`: shows and checks the settings of a role without running it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::settings::{GatewayArguments, MetadataArguments, ServerArguments, StorageNodeArguments};

mod check;
mod look;
mod show;

/// Flags of `drystone config`.
#[derive(Args, Debug)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the settings that a role would run with, as TOML; secrets as ***.
    ///
    /// Takes the role's own flags, and the environment and file that it would read.
    Show {
        /// Tell where each value comes from.
        #[arg(long, global = true)]
        origin: bool,

        #[command(subcommand)]
        role: RoleArguments,
    },
    /// Check the settings that a role would run with: "ok" and status 0, or every mistake and
    /// status 1.
    ///
    /// Takes the role's own flags, and the environment and file that it would read. Looks at the
    /// directories and files of this host too, and changes nothing.
    Check {
        /// Check the settings by themselves, without looking at this host: for a file that is
        /// meant for another one.
        #[arg(long, global = true)]
        elsewhere: bool,

        #[command(subcommand)]
        role: RoleArguments,
    },
}

#[derive(Debug, Subcommand)]
enum RoleArguments {
    /// The settings of `drystone server`.
    Server(ServerArguments),
    /// The settings of `drystone metadata`.
    Metadata(MetadataArguments),
    /// The settings of `drystone storage-node`.
    StorageNode(StorageNodeArguments),
    /// The settings of `drystone gateway`.
    Gateway(GatewayArguments),
}

/// Carries out a config command.
pub fn run(arguments: &ConfigArguments) -> Result<ExitCode> {
    match &arguments.command {
        ConfigCommand::Show { origin, role } => {
            let (effective, mistakes) = match role {
                RoleArguments::Server(arguments) => arguments.effective(),
                RoleArguments::Metadata(arguments) => arguments.effective(),
                RoleArguments::StorageNode(arguments) => arguments.effective(),
                RoleArguments::Gateway(arguments) => arguments.effective(),
            };
            show::run(&effective, &mistakes, *origin)
        }
        ConfigCommand::Check { elsewhere, role } => Ok(match role {
            RoleArguments::Server(arguments) => check::run(arguments, *elsewhere),
            RoleArguments::Metadata(arguments) => check::run(arguments, *elsewhere),
            RoleArguments::StorageNode(arguments) => check::run(arguments, *elsewhere),
            RoleArguments::Gateway(arguments) => check::run(arguments, *elsewhere),
        }),
    }
}
