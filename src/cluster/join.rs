//! `drystone cluster join`: brings a host into a cluster.
//!
//! In: a token and what the host is to be. Out: a host directory with a certificate of the cluster.
//! With the host directory of a node that was off for longer than its certificate lasts, that node
//! comes back under its number. The cluster is known again by the pin of its authority, which the
//! token carries, before the token's secret is shown to anybody.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use model::ids::NodeUuid;
use model::membership::{Joined, MembershipError, MembershipRequest, MembershipResponse};
use model::node::{FEATURE_LEVEL, NodeRegistration, Roles};
use wire::rpc::call_anonymous;
use wire::tls::{Authority, NodeKey};

use super::ticket::Ticket;
use super::{check_address, host_name, parse_roles};
use crate::directories::{Secrets, decode_secrets};
use crate::host::directory::{HostDirectory, HostIdentity, NewHost, Returned};
use crate::process::Doors;

/// How long one metadata node may take to let a host in: an election may be under way.
const JOIN_DEADLINE: Duration = Duration::from_secs(20);

/// Flags of `drystone cluster join`.
#[derive(Args, Debug)]
pub struct JoinArguments {
    /// Where to keep what this host knows of itself: an empty directory, or none yet. With the host
    /// directory of a node, that node comes back: it keeps its number and gets a new certificate.
    #[arg(long, value_name = "DIR", env = "DRYSTONE_HOST_DIRECTORY")]
    host_directory: PathBuf,

    /// The token that `drystone cluster token create` printed; best given by the environment, where
    /// other users of the machine can't see it.
    #[arg(long, value_name = "TOKEN", env = "DRYSTONE_JOIN_TOKEN", hide_env_values = true)]
    token: TokenText,

    /// Host and port at which the other hosts reach this one's internal listener; needed by a new
    /// host.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,

    /// What this host will do: metadata, storage-node, gateway; all three for `drystone server`.
    /// Needed by a new host.
    #[arg(long, value_name = "ROLE,…", value_parser = parse_roles)]
    roles: Option<Roles>,

    /// Its name, for people [default: the host's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The rack that it stands in [default: none].
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,

    /// The zone that the rack is in [default: none].
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

/// A join token as it was given: whoever has it can join.
#[derive(Clone)]
struct TokenText(String);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(redacted)")
    }
}

impl From<&str> for TokenText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Joins, and makes the host directory; or comes back, and renews it.
pub fn run(arguments: &JoinArguments) -> Result<ExitCode> {
    if let Some(address) = &arguments.address {
        check_address(address)?;
    }
    let ticket = Ticket::decode(&arguments.token.0)?;
    if HostDirectory::exists(&arguments.host_directory) {
        come_back(arguments, &ticket)
    } else {
        join(arguments, &ticket)
    }
}

/// A host that was never in the cluster.
fn join(arguments: &JoinArguments, ticket: &Ticket) -> Result<ExitCode> {
    let doors = Doors::of_the_machine();
    let key = NodeKey::generate()?;
    let registration = NodeRegistration {
        uuid: NodeUuid(doors.entropy.id()),
        name: arguments.name.clone().unwrap_or_else(host_name),
        address: arguments.address.clone().context("a new host needs --address")?,
        roles: arguments.roles.context("a new host needs --roles")?,
        rack: arguments.rack.clone().unwrap_or_default(),
        zone: arguments.zone.clone().unwrap_or_default(),
        level: FEATURE_LEVEL,
    };
    let (joined, secrets) = let_in(ticket, &registration, &key, None)?;
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
            authority: &joined.authority,
            authority_key: None,
            secrets: secrets.as_ref(),
            members: &joined.members,
        },
    )?;
    println!("This host is node {} of cluster {}.", identity.node, identity.cluster);
    Ok(ExitCode::SUCCESS)
}

/// A node whose certificate ended while it was away, or is about to. It proves by the certificate
/// and the key that it has which node it is; the token, that an operator wants it back.
fn come_back(arguments: &JoinArguments, ticket: &Ticket) -> Result<ExitCode> {
    let place = arguments.host_directory.display();
    // Locked: a process that runs on it renews its certificate by itself.
    let mut directory = HostDirectory::open(&arguments.host_directory)?;
    let known = directory.identity().clone();
    if known.founds.is_some() {
        bail!("{place} is of the first host of a cluster; start it, it needs no token");
    }
    if arguments.roles.is_some_and(|roles| roles != known.roles) {
        bail!(
            "node {} in {place} has the roles {}; it comes back with these, so leave --roles out, or join as a new node with an empty host directory",
            known.node,
            known.roles
        );
    }
    // The token's secret is shown to this node's own cluster only.
    if Authority::pin(&directory.authority()?) != ticket.pin {
        bail!("the token is of another cluster than the host directory {place}");
    }
    let identity = HostIdentity {
        name: arguments.name.clone().unwrap_or(known.name),
        address: arguments.address.clone().unwrap_or(known.address),
        rack: arguments.rack.clone().unwrap_or(known.rack),
        zone: arguments.zone.clone().unwrap_or(known.zone),
        ..directory.identity().clone()
    };
    let key = NodeKey::from_der(&directory.key()?)?;
    let certificate = directory.certificate()?;
    let registration = identity.registration();
    let (joined, secrets) = let_in(ticket, &registration, &key, Some(certificate))?;
    if joined.cluster != identity.cluster || joined.node != identity.node {
        bail!(
            "the cluster knows this host as node {} of cluster {}, and not as {place} does; nothing was changed",
            joined.node,
            joined.cluster
        );
    }
    let (node, cluster) = (identity.node, identity.cluster);
    let fresh = Returned {
        certificate: &joined.certificate,
        secrets: secrets.as_ref(),
        members: &joined.members,
    };
    directory.come_back(identity, &fresh)?;
    println!("This host is node {node} of cluster {cluster} again, with a new certificate.");
    Ok(ExitCode::SUCCESS)
}

/// Asks the cluster to let this host in.
fn let_in(
    ticket: &Ticket,
    registration: &NodeRegistration,
    key: &NodeKey,
    certificate: Option<Vec<u8>>,
) -> Result<(Box<Joined>, Option<Secrets>)> {
    let request = MembershipRequest::Join {
        token: ticket.id,
        secret: ticket.secret.to_vec().into(),
        node: registration.clone(),
        certificate_request: key.certificate_request()?.into(),
        certificate: certificate.map(Into::into),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (joined, authority) = runtime.block_on(ask(ticket, &request))?;
    if *joined.authority != authority {
        bail!("the cluster answered with another certificate authority than its own");
    }
    let secrets = match &joined.secrets {
        Some(text) => Some(
            decode_secrets(text).context("the cluster's secrets arrived damaged; join again")?,
        ),
        None => None,
    };
    Ok((joined, secrets))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let token = TokenText::from("drystone-join-canary");
        assert_eq!(format!("{token:?}"), "TokenText(redacted)");
    }
}
