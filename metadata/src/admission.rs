//! Admission: lets nodes into the cluster, renews their certificates, and takes note of where they
//! are.
//!
//! In: requests of membership, with who sent them. Out: certificates and members. What always holds:
//! nobody gets a certificate for another node or for other roles than the cluster map has; a token is
//! checked and counted down by one command, whatever node is asked; who guesses at tokens is soon
//! not answered any more. Any metadata node answers, by way of the leader.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use minicbor::bytes::ByteVec;
use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, Refusal};
use model::ids::{ClusterId, NodeId, TokenId};
use model::membership::{Joined, Members, MembershipError, MembershipRequest, MembershipResponse};
use model::node::{Node, NodeRegistration, Roles};
use model::query::{Answer, Query};
use sha2::{Digest as _, Sha256};
use wire::BoxFuture;
use wire::clock::Clock;
use wire::rpc::{Caller, CallerService};
use wire::tls::{Authority, Identity};

use crate::authority_seal::{self, SealKeys};
use crate::client::MetadataClient;
use crate::limits::{
    CERTIFICATE_LIFETIME, JOIN_ADDRESSES_MAX, JOIN_FAILURES_MAX, JOIN_FAILURES_WINDOW,
};

type Answered<T> = Result<T, MembershipError>;

/// What admission works with.
pub struct AdmissionParts {
    /// The cluster.
    pub cluster: ClusterId,
    /// The way to the metadata.
    pub client: Arc<MetadataClient>,
    /// Open the authority's key.
    pub seal_keys: SealKeys,
    /// What metadata nodes get to know: the content of a secrets file.
    pub secrets: String,
    /// What gateways get to know: the same without the key that opens the authority's key.
    pub gateway_secrets: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Answers requests of membership.
pub struct Admission {
    parts: AdmissionParts,
    failures: Mutex<BTreeMap<IpAddr, Failures>>,
}

/// Who wants to come in, or back.
struct Coming {
    token: TokenId,
    secret: ByteVec,
    node: NodeRegistration,
    certificate_request: ByteVec,
    certificate: Option<ByteVec>,
}

/// Joins that failed, from one address.
struct Failures {
    /// When the first of them came.
    since: Duration,
    count: u32,
}

impl Admission {
    /// Admission to this cluster.
    pub fn new(parts: AdmissionParts) -> Self {
        Self { parts, failures: Mutex::default() }
    }

    /// Answers one request.
    pub async fn answer(&self, caller: Caller, request: MembershipRequest) -> MembershipResponse {
        let answered = match request {
            MembershipRequest::Join { token, secret, node, certificate_request, certificate } => {
                let coming = Coming { token, secret, node, certificate_request, certificate };
                let joined = self.join(caller.address.ip(), coming).await;
                joined.map(|joined| MembershipResponse::Joined(Box::new(joined)))
            }
            MembershipRequest::Renew { certificate_request } => {
                let renewed = self.renew(caller.identity, &certificate_request).await;
                renewed.map(|certificate| MembershipResponse::Renewed(certificate.into()))
            }
            MembershipRequest::Register { node } => {
                let registered = self.register(caller.identity, node).await;
                registered.map(|members| MembershipResponse::Registered(Box::new(members)))
            }
        };
        answered.unwrap_or_else(MembershipResponse::Failed)
    }

    async fn join(&self, from: IpAddr, coming: Coming) -> Answered<Joined> {
        let Coming { token, secret, node, certificate_request, certificate } = coming;
        if self.is_guessing(from) {
            tracing::warn!(%from, "too many joins failed; this one isn't looked at");
            let text = "too many attempts failed; wait a minute".to_owned();
            return Err(MembershipError::Invalid(text));
        }
        check_level(&self.map().await?, &node)?;
        // Before anything is changed: a request that can't be certified would use up the token and
        // leave a node behind that never comes. Whose number it is issued for isn't known yet.
        let authority = self.authority().await?;
        let checked = self
            .issue(&authority, &certificate_request, NodeId(0), &node)
            .and_then(|_| proven(&authority, certificate.as_ref(), &certificate_request));
        let proven = match checked {
            Ok(proven) => proven,
            Err(error) => {
                tracing::warn!(%from, %token, %error, "a node was not let in");
                self.note_failure(from);
                return Err(error);
            }
        };
        let secret_sha256 = Sha256::digest(&*secret).to_vec().into();
        let command = Command::JoinNode { token, secret_sha256, node: node.clone(), proven };
        let id = match self.propose(command).await? {
            Outcome::NodeRegistered(id) => id,
            Outcome::Refused(refusal) => {
                tracing::warn!(%from, %token, %refusal, "a node was not let in");
                self.note_failure(from);
                return Err(match refusal {
                    Refusal::TokenInvalid => MembershipError::TokenInvalid,
                    // One that has proven to be a node, and is none: it was removed long ago.
                    Refusal::NoSuchNode | Refusal::NotHeld => MembershipError::Removed,
                    other => MembershipError::Invalid(other.to_string()),
                });
            }
            other => return Err(MembershipError::Invalid(format!("{other:?}"))),
        };
        // Roles that the node had before are in the map; it gets what it asked for now.
        let certificate = self.issue(&authority, &certificate_request, id, &node)?;
        let map = self.map().await?;
        tracing::info!(node = %id, name = node.name, roles = %node.roles, %from, "a node joined");
        Ok(Joined {
            cluster: self.parts.cluster,
            node: id,
            certificate: certificate.into(),
            authority: authority.certificate().to_vec().into(),
            secrets: self.secrets_for(node.roles),
            members: Members::from(&map),
        })
    }

    /// What a node with these roles gets to know.
    fn secrets_for(&self, roles: Roles) -> Option<String> {
        if roles.contains(Roles::METADATA) {
            Some(self.parts.secrets.clone())
        } else if roles.contains(Roles::GATEWAY) {
            Some(self.parts.gateway_secrets.clone())
        } else {
            None
        }
    }

    async fn renew(&self, sender: Option<Identity>, request: &[u8]) -> Answered<Vec<u8>> {
        let map = self.map().await?;
        let known = known(&map, sender.as_ref())?;
        self.issue(&self.authority().await?, request, known.0, known.1)
    }

    async fn register(
        &self,
        sender: Option<Identity>,
        node: NodeRegistration,
    ) -> Answered<Members> {
        let mut map = self.map().await?;
        if known(&map, sender.as_ref()).is_err() {
            self.adopt(sender.as_ref(), &node).await?;
            map = self.map().await?;
        }
        let (_, before) = known(&map, sender.as_ref())?;
        if before.uuid != node.uuid || before.roles != node.roles {
            let text = "a node can't become another, or take on other roles, without a token";
            return Err(MembershipError::Invalid(text.to_owned()));
        }
        if *before == node {
            return Ok(Members::from(&map));
        }
        check_level(&map, &node)?;
        match self.propose(Command::RegisterNode(node)).await? {
            Outcome::NodeRegistered(_) => Ok(Members::from(&self.map().await?)),
            Outcome::Refused(Refusal::NoSuchNode) => Err(MembershipError::Removed),
            Outcome::Refused(refusal) => Err(MembershipError::Invalid(refusal.to_string())),
            other => Err(MembershipError::Invalid(format!("{other:?}"))),
        }
    }

    /// Enters a node that was in the cluster before its metadata was put back, or rebuilt.
    async fn adopt(
        &self,
        sender: Option<&Identity>,
        registration: &NodeRegistration,
    ) -> Answered<()> {
        let sender = sender.ok_or(MembershipError::TokenInvalid)?;
        if sender.roles != registration.roles {
            return Err(MembershipError::Removed);
        }
        let node = Node::new(sender.node, registration.clone());
        match self.propose(Command::AdoptNode(node)).await? {
            Outcome::NodeRegistered(id) if id == sender.node => Ok(()),
            _ => Err(MembershipError::Removed),
        }
    }

    fn issue(
        &self,
        authority: &Authority,
        request: &[u8],
        node: NodeId,
        registration: &NodeRegistration,
    ) -> Answered<Vec<u8>> {
        let roles = registration.roles;
        let identity = Identity { cluster: self.parts.cluster, node, roles };
        let addresses = std::slice::from_ref(&registration.address);
        let now = self.parts.clock.now();
        authority
            .issue(request, &identity, addresses, now, CERTIFICATE_LIFETIME)
            .map_err(|error| MembershipError::Invalid(error.to_string()))
    }

    /// The authority, with its key opened.
    async fn authority(&self) -> Answered<Authority> {
        let Ok(Answer::Trust(trust)) = self.parts.client.query(Query::Trust).await else {
            return Err(MembershipError::Unavailable);
        };
        let authority = trust.authority.ok_or(MembershipError::NoAuthority)?;
        let (keys, cluster) = (&self.parts.seal_keys, self.parts.cluster);
        let key = authority_seal::open(keys, cluster, &authority.sealed_key);
        let opened = key.map_err(|error| error.to_string()).and_then(|key| {
            Authority::from_der(&authority.certificate, &key).map_err(|error| error.to_string())
        });
        opened.map_err(|error| {
            tracing::error!(error, "the cluster's certificate authority can't be used");
            MembershipError::NoAuthority
        })
    }

    async fn map(&self) -> Answered<ClusterMap> {
        match self.parts.client.query(Query::ClusterMap { known_epoch: 0 }).await {
            Ok(Answer::ClusterMap(Some(map))) => Ok(map),
            Ok(_) | Err(_) => Err(MembershipError::Unavailable),
        }
    }

    async fn propose(&self, command: Command) -> Answered<Outcome> {
        self.parts.client.propose_one(command).await.map_err(|_| MembershipError::Unavailable)
    }

    fn is_guessing(&self, from: IpAddr) -> bool {
        let now = self.parts.clock.monotonic();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, known| now.saturating_sub(known.since) < JOIN_FAILURES_WINDOW);
        // When so many addresses guess, nobody who isn't known yet is told from them.
        failures
            .get(&from)
            .map_or(failures.len() >= JOIN_ADDRESSES_MAX, |known| known.count >= JOIN_FAILURES_MAX)
    }

    fn note_failure(&self, from: IpAddr) {
        let since = self.parts.clock.monotonic();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.entry(from).or_insert(Failures { since, count: 0 }).count += 1;
    }
}

impl CallerService<MembershipRequest, MembershipResponse> for Admission {
    fn serve(
        &self,
        caller: Caller,
        request: MembershipRequest,
    ) -> BoxFuture<'_, MembershipResponse> {
        Box::pin(self.answer(caller, request))
    }
}

/// Whether the cluster uses nothing yet that the node's release doesn't know.
fn check_level(map: &ClusterMap, node: &NodeRegistration) -> Answered<()> {
    if node.level >= map.level {
        return Ok(());
    }
    let text = format!(
        "this release has feature level {}, and the cluster uses level {} by now: install a newer one",
        node.level, map.level
    );
    Err(MembershipError::Invalid(text))
}

/// The node that one who comes back has proven to be, by the certificate that it had.
fn proven(
    authority: &Authority,
    certificate: Option<&ByteVec>,
    request: &[u8],
) -> Answered<Option<NodeId>> {
    let Some(certificate) = certificate else { return Ok(None) };
    match authority.holder(certificate, request) {
        Ok(holder) => Ok(Some(holder.node)),
        Err(error) => Err(MembershipError::Invalid(error.to_string())),
    }
}

/// The node that its certificate says the sender is, as long as it is in the cluster.
fn known<'a>(
    map: &'a ClusterMap,
    sender: Option<&Identity>,
) -> Answered<(NodeId, &'a NodeRegistration)> {
    let sender = sender.ok_or(MembershipError::TokenInvalid)?;
    let node = map.node(sender.node).ok_or(MembershipError::Removed)?;
    Ok((node.id, &node.registration))
}
