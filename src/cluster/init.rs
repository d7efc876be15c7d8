//! `drystone cluster init`: makes the first host of a cluster.
//!
//! In: where its host directory is to be, its address, and perhaps the directories of a store that
//! is to become the cluster's first host. Out: a host directory with a certificate authority of the
//! cluster's own. Nothing of an existing store is changed; its next start opens it to other hosts.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use metadata::limits::CERTIFICATE_LIFETIME;
use model::coding::Coding;
use model::durability::Topology;
use model::ids::{ClusterId, NodeId, NodeUuid};
use model::membership::Members;
use model::node::{Node, Roles};
use model::placement::default_coding;
use wire::tls::{Authority, Identity, NodeKey};

use super::{check_address, host_name, parse_roles};
use crate::directories::{self, Content, Secrets};
use crate::host::directory::{HostDirectory, HostIdentity, NewHost};
use crate::process::Doors;

/// The number of the first node, and so of the disks' node of a store that becomes a cluster.
const FIRST: NodeId = NodeId(1);

/// Disks that may be expected: the choice is the same for more.
const EXPECTED_MAX: i64 = 10_000;

/// Flags of `drystone cluster init`.
#[derive(Args, Debug)]
pub struct InitArguments {
    /// Where to keep what this host knows of itself: an empty directory, or none yet.
    #[arg(long, value_name = "DIR", env = "DRYSTONE_HOST_DIRECTORY")]
    host_directory: PathBuf,

    /// Host and port at which the other hosts reach this one's internal listener.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,

    /// What this host will do; all three for `drystone server` [default: metadata; with --from,
    /// metadata,storage-node,gateway].
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles)]
    roles: Option<Roles>,

    /// Its name, for people [default: the host's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The rack that it stands in.
    #[arg(long, value_name = "RACK", default_value = "")]
    rack: String,

    /// The zone that the rack is in.
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,

    /// Data and parity shards of each stripe [default: by the --expect flags, or 4+2; with --from, as
    /// the store has it].
    #[arg(long, value_name = "K+M", value_parser = Coding::parse)]
    coding: Option<Coding>,

    /// Disks that the cluster will have in all once its hosts have joined: the coding is chosen for
    /// them, and why is told.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=EXPECTED_MAX),
        conflicts_with_all = ["coding", "from"]
    )]
    expect_disks: Option<u32>,

    /// Hosts with disks that it will have [default: one for each disk].
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=EXPECTED_MAX),
        requires = "expect_disks"
    )]
    expect_nodes: Option<u32>,

    /// Racks that they will stand in.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=EXPECTED_MAX),
        requires = "expect_nodes",
        default_value_t = 1
    )]
    expect_racks: u32,

    /// The directories of a `drystone server` that is to become the first host of the cluster.
    /// They are only read; stop the server first.
    #[arg(long, value_name = "DIR", value_delimiter = ',', num_args = 1..)]
    from: Vec<PathBuf>,
}

/// Whose cluster it is to be.
struct Origin {
    cluster: ClusterId,
    secrets: Secrets,
    coding: Coding,
    roles: Roles,
    /// Whether the cluster's metadata is yet to be made.
    is_new: bool,
}

/// Makes the host directory.
pub fn run(arguments: &InitArguments) -> Result<ExitCode> {
    check_address(&arguments.address)?;
    let doors = Doors::of_the_machine();
    let origin = if arguments.from.is_empty() {
        new_cluster(arguments, &doors)?
    } else {
        existing_store(arguments, &doors)?
    };
    let now = doors.clock.now();
    let authority = Authority::create(origin.cluster, now)?;
    let key = NodeKey::generate()?;
    let identity = Identity { cluster: origin.cluster, node: FIRST, roles: origin.roles };
    let certificate = authority.issue(
        &key.certificate_request()?,
        &identity,
        std::slice::from_ref(&arguments.address),
        now,
        CERTIFICATE_LIFETIME,
    )?;
    let host = HostIdentity {
        cluster: origin.cluster,
        node: FIRST,
        uuid: NodeUuid(doors.entropy.id()),
        name: arguments.name.clone().unwrap_or_else(host_name),
        address: arguments.address.clone(),
        roles: origin.roles,
        rack: arguments.rack.clone(),
        zone: arguments.zone.clone(),
        founds: origin.is_new.then_some(origin.coding),
    };
    let node = Node::new(FIRST, host.registration());
    HostDirectory::create(
        &arguments.host_directory,
        &NewHost {
            identity: &host,
            key: key.der(),
            certificate: &certificate,
            authority: authority.certificate(),
            authority_key: Some(authority.key()),
            secrets: Some(&origin.secrets.with_authority_seal_key(&*doors.entropy)),
            members: &Members { nodes: vec![node], ..Members::default() },
        },
    )?;
    println!(
        "Cluster {} has its first host in {}.",
        origin.cluster,
        arguments.host_directory.display()
    );
    let role = if origin.roles == Roles::ALL { "server" } else { "metadata" };
    let place = arguments.host_directory.display();
    println!("Start it with: drystone {role} --host-directory {place} …");
    Ok(ExitCode::SUCCESS)
}

fn new_cluster(arguments: &InitArguments, doors: &Doors) -> Result<Origin> {
    let roles = arguments.roles.unwrap_or(Roles::METADATA);
    ensure!(
        roles.contains(Roles::METADATA),
        "the first host of a cluster keeps its metadata: --roles must contain metadata"
    );
    let mut secrets = Secrets::generate(&*doors.entropy);
    let root = secrets.generate_root(&*doors.entropy);
    let coding = chosen_coding(arguments)?;
    println!(
        "Root credentials of the new cluster, for the S3 clients; they are kept in the host directories of metadata nodes and gateways:"
    );
    println!("  export AWS_ACCESS_KEY_ID={}", root.access_key);
    println!("  export AWS_SECRET_ACCESS_KEY={}", root.secret_key);
    let cluster = ClusterId(doors.entropy.id());
    Ok(Origin { cluster, secrets, coding, roles, is_new: true })
}

/// The coding of a new cluster. Its disks come later, one host after another: what would be right
/// for the first few is wrong for all of them, so it isn't left to them.
fn chosen_coding(arguments: &InitArguments) -> Result<Coding> {
    if let Some(coding) = arguments.coding {
        return Ok(coding);
    }
    let Some(topology) = expected(arguments)? else {
        let coding = Coding::new(4, 2).context("4+2 is a coding")?;
        println!(
            "Coding {coding}, which suits most clusters; with --expect-disks and --expect-nodes, it is chosen for yours. `drystone durability` compares."
        );
        return Ok(coding);
    };
    let disks = topology.map(Coding::new(1, 0)?).disks;
    let (coding, why) = default_coding(&disks).context("there is no coding for so many disks")?;
    println!("Coding {why}.");
    Ok(coding)
}

/// The disks that the cluster is to have, where that was told.
fn expected(arguments: &InitArguments) -> Result<Option<Topology>> {
    let Some(disks) = arguments.expect_disks else { return Ok(None) };
    let (nodes, racks) = (arguments.expect_nodes.unwrap_or(disks), arguments.expect_racks);
    ensure!(nodes <= disks, "{nodes} hosts can't share {disks} disks: --expect-disks counts all");
    ensure!(racks <= nodes, "{nodes} hosts can't stand in {racks} racks");
    Ok(Some(Topology { disks, nodes, racks }))
}

fn existing_store(arguments: &InitArguments, doors: &Doors) -> Result<Origin> {
    let roles = arguments.roles.unwrap_or(Roles::ALL);
    ensure!(
        roles == Roles::ALL,
        "a store of `drystone server` has all roles: leave --roles out with --from"
    );
    let found = directories::inspect(&arguments.from)?;
    for directory in &found {
        ensure!(
            matches!(directory.content, Content::Formatted(_) | Content::Damaged(_)),
            "{} is no directory of a store; give those that `drystone server` runs on",
            directory.path.display()
        );
    }
    // Whoever runs on them would not hear of the cluster before its next start.
    let locks: Vec<_> =
        found.iter().map(|directory| directories::lock(&directory.path)).collect::<Result<_>>()?;
    let plan = directories::decide(found, arguments.coding, &*doors.entropy)?;
    drop(locks);
    ensure!(plan.founded, "this store was never started to the end; start `drystone server` first");
    let secrets = plan.secrets.context("the store has no secrets")?;
    Ok(Origin { cluster: plan.cluster, secrets, coding: plan.coding, roles, is_new: false })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        init: InitArguments,
    }

    fn chosen(flags: &str) -> Result<String, String> {
        let flags = format!("init --host-directory h --address a:1 {flags}");
        let line = Line::try_parse_from(flags.split_whitespace());
        let line = line.map_err(|error| error.kind().to_string())?;
        let coding = chosen_coding(&line.init).map_err(|error| error.to_string())?;
        Ok(coding.to_string())
    }

    #[test]
    fn the_coding_suits_the_disks_that_are_expected() {
        let check = |flags, expected: &str| assert_eq!(chosen(flags).as_deref(), Ok(expected));
        check("", "4+2");
        check("--coding 6+3", "6+3");
        check("--expect-disks 3", "2+1");
        check("--expect-disks 12 --expect-nodes 3", "4+2");
        check("--expect-disks 144 --expect-nodes 12", "8+4");
        check("--expect-disks 144 --expect-nodes 12 --expect-racks 3", "6+3");
        check("--expect-disks 40 --expect-nodes 2", "4+2");
    }

    #[test]
    fn what_makes_no_cluster_is_refused() {
        let check = |flags, expected: &str| {
            let error = chosen(flags).expect_err("refused");
            assert!(error.contains(expected), "{flags}: {error}");
        };
        check("--expect-disks 3 --expect-nodes 4", "4 hosts can't share 3 disks");
        check("--expect-disks 9 --expect-nodes 3 --expect-racks 4", "3 hosts can't stand in 4");
        check("--expect-disks 3 --coding 2+1", "cannot be used with");
        check("--expect-disks 3 --from d1", "cannot be used with");
        check("--expect-nodes 3", "required arguments");
        check("--expect-disks 0", "");
    }
}
