//! `drystone cluster readdress`: tells a host the new addresses of itself and of others.
//!
//! In: the host directory of a host that is stopped, and addresses. Out: a host that calls the others
//! there at its next start, and tells the cluster where it is itself. A node that changes its address
//! alone needs no more than its own; when those of metadata nodes change while they are all stopped,
//! each host has to be told where they are, as no one can be asked.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use model::ids::NodeId;
use model::membership::Members;

use super::check_address;
use crate::host::directory::HostDirectory;

/// Flags of `drystone cluster readdress`.
#[derive(Args, Debug)]
pub struct ReaddressArguments {
    /// The directory in which the host keeps what it knows of itself; stop its process first.
    #[arg(long, value_name = "DIR", env = "DRYSTONE_HOST_DIRECTORY")]
    host_directory: PathBuf,

    /// Host and port at which the other hosts reach this one's internal listener from now on.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "node")]
    address: Option<String>,

    /// Where another node is now, by its number in `drystone admin status`; may be given several times.
    /// It counts until the cluster says where the node is.
    #[arg(long, value_name = "N=HOST:PORT")]
    node: Vec<NodeAddress>,
}

/// `2=10.0.0.2:9002`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NodeAddress {
    node: NodeId,
    address: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(node, address)| {
            let node = node.parse().ok().map(NodeId)?;
            Some(Self { node, address: address.to_owned() })
        });
        parts.ok_or_else(|| "a node's number and its address, such as 2=10.0.0.2:9002".to_owned())
    }
}

/// Writes the addresses down.
pub fn run(arguments: &ReaddressArguments) -> Result<ExitCode> {
    for address in arguments.address.iter().chain(arguments.node.iter().map(|one| &one.address)) {
        check_address(address)?;
    }
    let mut directory = HostDirectory::open(&arguments.host_directory)
        .context("is the host's process stopped, and is this its host directory?")?;
    let own = directory.identity().node;
    let members = directory.members();
    let mut told = directory.told_addresses()?;
    let mut said = Vec::new();
    for NodeAddress { node, address } in &arguments.node {
        ensure!(*node != own, "node {node} is this host: give its address by --address");
        if members.nodes.iter().all(|known| known.id != *node) {
            bail!("this host knows no node {node}; it knows {}", known(&members, own));
        }
        let is_news = told.tell(&members, *node, address);
        let how = if is_news { "is called at" } else { "is known to be at" };
        said.push(format!("Node {node} {how} {address}."));
    }
    directory.write_told_addresses(&told)?;
    if let Some(address) = &arguments.address {
        let before = directory.identity().address.clone();
        directory.readdress(address)?;
        said.push(format!(
            "This host, node {own}, is at {address}, and was at {before}; the cluster hears of it at the next start."
        ));
    }
    for sentence in said {
        println!("{sentence}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The nodes that may be meant.
fn known(members: &Members, own: NodeId) -> String {
    let others = members.nodes.iter().filter(|node| node.id != own);
    let words: Vec<String> =
        others.map(|node| format!("{} at {}", node.id, node.registration.address)).collect();
    if words.is_empty() { "no other".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_its_address_are_parsed() {
        let (node, address) = (NodeId(2), "host2:9002".to_owned());
        assert_eq!("2=host2:9002".parse(), Ok(NodeAddress { node, address }));
        for bad in ["", "2", "host2:9002", "x=host2:9002", "-1=a:1"] {
            assert!(bad.parse::<NodeAddress>().is_err(), "{bad}");
        }
    }
}
