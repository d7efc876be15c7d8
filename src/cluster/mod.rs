//! `drystone cluster …`: makes a cluster of many hosts, and brings hosts in.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use model::node::Roles;

use crate::admin_client::{TokenArguments, run_token};

mod init;
mod join;
mod readdress;
pub mod ticket;

/// Flags of `drystone cluster`.
#[derive(Args, Debug)]
pub struct ClusterArguments {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Make the first host of a cluster: a new one, or one that a `drystone server` grows into.
    Init(Box<init::InitArguments>),
    /// Bring this host into a cluster, by a token.
    Join(Box<join::JoinArguments>),
    /// Tell a stopped host the new addresses of itself or of others, when hosts got new ones.
    Readdress(readdress::ReaddressArguments),
    /// Make, list and revoke the tokens that let hosts in.
    Token(TokenArguments),
}

/// Carries out a command.
pub fn run(arguments: &ClusterArguments) -> Result<ExitCode> {
    match &arguments.command {
        ClusterCommand::Init(arguments) => init::run(arguments),
        ClusterCommand::Join(arguments) => join::run(arguments),
        ClusterCommand::Readdress(arguments) => readdress::run(arguments),
        ClusterCommand::Token(arguments) => run_token(arguments),
    }
}

/// Whether others can be told to connect to it.
fn check_address(address: &str) -> Result<()> {
    let parts = address.rsplit_once(':');
    let is_good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    ensure!(
        is_good,
        "an address is host and port, such as 10.0.0.1:9002 or host1.example.net:9002, not {address}"
    );
    ensure!(
        !address.starts_with("0.0.0.0:") && !address.starts_with("[::]:"),
        "an address is what the other hosts connect to; {address} is no host of theirs"
    );
    Ok(())
}

fn parse_roles(text: &str) -> Result<Roles, String> {
    if text == "server" {
        return Ok(Roles::ALL);
    }
    Roles::parse(text).ok_or_else(|| {
        "roles are metadata, storage-node and gateway, with commas between".to_owned()
    })
}

/// The machine's own name.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_nobody_can_reach_are_refused() {
        for good in ["10.0.0.1:9002", "host1:1", "[fe80::1]:9002"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.1", ":9002", "host:0", "host:99999", "0.0.0.0:9002", "[::]:1"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
