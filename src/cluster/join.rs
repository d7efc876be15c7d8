//! `drystone cluster join`: brings a host into a cluster.
//!
//! In: a token and what the host is to be. Out: a host directory with a certificate of the cluster.
//! The cluster is known again by the pin of its authority, which the token carries, before the
//! token's secret is shown to anybody.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use model::ids::NodeUuid;
use model::membership::{Joined, MembershipError, MembershipRequest, MembershipResponse};
use model::node::{FEATURE_LEVEL, NodeRegistration, Roles};
use wire::rpc::call_anonymous;
use wire::tls::NodeKey;

use super::ticket::Ticket;
use super::{check_address, host_name, parse_roles};
use crate::directories::decode_secrets;
use crate::host::directory::{HostDirectory, HostIdentity, NewHost};
use crate::process::Doors;

/// How long one metadata node may take to let a host in: an election may be under way.
const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// Flags of `drystone cluster join`.
#[derive(Args, Debug)]
pub struct JoinArguments {
    /// Where to keep what this host knows of itself: an empty directory, or none yet.
    #[arg(long, value_name = "DIR", env = "DRYSTONE_HOST_DIRECTORY")]
    host_directory: PathBuf,

    /// The token that `drystone cluster token create` printed; best given by the environment, where
    /// other users of the machine can't see it.
    #[arg(long, value_name = "TOKEN", env = "DRYSTONE_JOIN_TOKEN", hide_env_values = true)]
    token: String,

    /// Host and port at which the other hosts reach this one's internal listener.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,

    /// What this host will do: metadata, storage-node, gateway; all three for `drystone server`.
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles)]
    roles: Roles,

    /// Its name, for people [default: the host's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The rack that it stands in.
    #[arg(long, value_name = "RACK", default_value = "")]
    rack: String,

    /// The zone that the rack is in.
    #[arg(long, value_name = "ZONE", default_value = "")]
    zone: String,
}

/// Joins, and makes the host directory.
pub fn run(arguments: &JoinArguments) -> Result<ExitCode> {
    check_address(&arguments.address)?;
    let ticket = Ticket::decode(&arguments.token)?;
    if HostDirectory::exists(&arguments.host_directory) {
        bail!("{} is a host directory already", arguments.host_directory.display());
    }
    let doors = Doors::of_the_machine();
    let key = NodeKey::generate()?;
    let registration = NodeRegistration {
        uuid: NodeUuid(doors.entropy.id()),
        name: arguments.name.clone().unwrap_or_else(host_name),
        address: arguments.address.clone(),
        roles: arguments.roles,
        rack: arguments.rack.clone(),
        zone: arguments.zone.clone(),
        level: FEATURE_LEVEL,
    };
    let request = MembershipRequest::Join {
        token: ticket.id,
        secret: ticket.secret.to_vec().into(),
        node: registration.clone(),
        certificate_request: key.certificate_request()?.into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (joined, authority) = runtime.block_on(ask(&ticket, &request))?;
    if *joined.authority != authority {
        bail!("the cluster answered with another certificate authority than its own");
    }
    let secrets = match &joined.secrets {
        Some(text) => Some(
            decode_secrets(text).context("the cluster's secrets arrived damaged; join again")?,
        ),
        None => None,
    };
    let identity = HostIdentity {
        cluster: joined.cluster,
        node: joined.node,
        uuid: registration.uuid,
        name: registration.name,
        address: registration.address,
        roles: registration.roles,
        rack: registration.rack,
        zone: registration.zone,
        founds: None,
    };
    HostDirectory::create(
        &arguments.host_directory,
        &NewHost {
            identity: &identity,
            key: key.der(),
            certificate: &joined.certificate,
            authority: &authority,
            authority_key: None,
            secrets: secrets.as_ref(),
            members: &joined.members,
        },
    )?;
    println!("This host is node {} of cluster {}.", identity.node, identity.cluster);
    Ok(ExitCode::SUCCESS)
}

/// Asks the metadata nodes that the token names, one after the other.
async fn ask(ticket: &Ticket, request: &MembershipRequest) -> Result<(Box<Joined>, Vec<u8>)> {
    let mut reasons = Vec::new();
    for address in &ticket.addresses {
        let call = call_anonymous(address, ticket.pin, request.clone(), JOIN_DEADLINE);
        match call.await {
            Ok((MembershipResponse::Joined(joined), authority)) => return Ok((joined, authority)),
            Ok((MembershipResponse::Failed(MembershipError::Unavailable), _)) => {
                reasons.push(format!("{address}: {}", MembershipError::Unavailable));
            }
            Ok((MembershipResponse::Failed(error), _)) => {
                return Err(error).context("the cluster doesn't let this host in");
            }
            Ok(_) => reasons.push(format!("{address}: the answer makes no sense")),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    bail!("no metadata node lets this host in: {}", reasons.join("; "))
}
