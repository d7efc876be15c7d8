//! Orders to the cluster, carried out by proposals to its metadata.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gateway::admin::orders::{
    AddReplicaOrder, CheckReport, CheckedReplica, Leadership, NewToken, RemoveReplicaOrder,
    Replica, Token, TokenOrder, TransferOrder,
};
use gateway::admin::{AdminOrders, OrderError};
use metadata::check::{Check, ReplicaCheck};
use metadata::client::MetadataClient;
use model::cluster_map::ClusterMap;
use model::command::{Command, Outcome, Refusal};
use model::ids::{NodeId, ReplicaId, TokenId};
use model::node::{JoinToken, ReplicaPlace, Roles};
use model::query::{Answer, MetadataError, MetadataStatus, Query, Trust};
use model::time::Timestamp;
use sha2::{Digest as _, Sha256};
use wire::BoxFuture;
use wire::clock::timeout;

use crate::cluster::ticket::{SECRET_BYTES, Ticket};
use crate::process::Doors;

/// How long a change of the replicas may take: a snapshot may have to travel.
const CHANGE_PATIENCE: Duration = Duration::from_mins(2);

/// How long one replica may take to say how it is.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two looks at whether a change is done.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// The longest that a token may be good for.
const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(30 * 24);

type Ordered<T> = Result<T, OrderError>;

/// Carries out orders.
pub struct Orders {
    client: Arc<MetadataClient>,
    authority_pin: [u8; 32],
    doors: Doors,
}

impl Orders {
    /// Orders by this client; tokens pin this authority.
    pub fn new(client: Arc<MetadataClient>, authority_pin: [u8; 32], doors: &Doors) -> Self {
        Self { client, authority_pin, doors: doors.clone() }
    }

    async fn map(&self) -> Ordered<ClusterMap> {
        match self.client.query(Query::ClusterMap { known_epoch: 0 }).await.map_err(unavailable)? {
            Answer::ClusterMap(Some(map)) => Ok(map),
            _ => Err(OrderError::Unavailable("the cluster isn't made yet".to_owned())),
        }
    }

    async fn trust(&self) -> Ordered<Trust> {
        match self.client.query(Query::Trust).await.map_err(unavailable)? {
            Answer::Trust(trust) => Ok(*trust),
            Answer::Refused(refusal) => Err(refused(refusal)),
            _ => Err(OrderError::Failed("the metadata's answer makes no sense".to_owned())),
        }
    }

    async fn propose(&self, command: Command) -> Ordered<Outcome> {
        match self.client.propose_one(command).await.map_err(unavailable)? {
            Outcome::Refused(refusal) => Err(refused(refusal)),
            outcome => Ok(outcome),
        }
    }

    /// What the leader tells of itself.
    async fn leader(&self) -> Option<MetadataStatus> {
        for replica in self.client.book().replicas() {
            if let Ok(status) = self.client.status(replica).await
                && status.state == "leader"
            {
                return Some(status);
            }
        }
        None
    }

    /// Looks again and again until `done` says what came of a change.
    async fn until<'a>(
        &'a self,
        what: &str,
        done: impl Fn() -> BoxFuture<'a, Option<Replica>> + Send + Sync,
    ) -> Ordered<Replica> {
        let clock = &*self.doors.clock;
        let look = async {
            loop {
                if let Some(replica) = done().await {
                    return replica;
                }
                clock.sleep(LOOK_PAUSE).await;
            }
        };
        timeout(clock, CHANGE_PATIENCE, look).await.map_err(|_| {
            OrderError::Unavailable(format!(
                "{what} was ordered and goes on; it wasn't done within {} s",
                CHANGE_PATIENCE.as_secs()
            ))
        })
    }

    async fn transferred(&self, order: TransferOrder) -> Ordered<Leadership> {
        let map = self.map().await?;
        let on_node = |node: u32| {
            let place = map.replicas.iter().find(|place| place.node == NodeId(node));
            place.map(|place| place.replica).ok_or_else(|| {
                OrderError::NotFound(format!("node {node} keeps no metadata replica"))
            })
        };
        let to = match (order.replica, order.node) {
            (None, None) => None,
            (None, Some(node)) => Some(on_node(node)?),
            (Some(replica), node) => {
                let place = map.replicas.iter().find(|place| place.replica == ReplicaId(replica));
                let place = place.ok_or_else(|| {
                    OrderError::NotFound(format!("there is no metadata replica {replica}"))
                })?;
                if node.is_some_and(|node| place.node != NodeId(node)) {
                    let text = format!("replica {replica} is on node {}", place.node);
                    return Err(OrderError::Invalid(text));
                }
                Some(place.replica)
            }
        };
        let leader = self.client.transfer(to).await.map_err(unavailable)?;
        let term = self.client.status(leader).await.map_or(0, |status| status.term);
        Ok(Leadership { leader: leader.0, node: node_of(&map, leader), term })
    }

    async fn added(&self, order: AddReplicaOrder) -> Ordered<Replica> {
        let map = self.map().await?;
        let node = NodeId(order.node);
        let Some(known) = map.node(node) else {
            return Err(OrderError::NotFound(format!("there is no node {node}")));
        };
        if !known.registration.roles.contains(Roles::METADATA) {
            let text = format!("node {node} hasn't the role metadata; let it join with that role");
            return Err(OrderError::Refused(text));
        }
        if map.replicas.iter().all(|place| place.node != node) {
            let Outcome::ReplicaAllocated(replica) = self.propose(Command::AllocateReplica).await?
            else {
                return Err(OrderError::Failed("no replica id was given out".to_owned()));
            };
            self.propose(Command::PlaceReplica(ReplicaPlace { replica, node })).await?;
        }
        // It has all that there was when it was ordered.
        let wanted = self.leader().await.map_or(0, |leader| leader.last_applied_index);
        self.until("the new replica", || {
            Box::pin(async move {
                let (map, leader) = (self.map().await.ok()?, self.leader().await?);
                let replica = map.replicas.iter().find(|place| place.node == node)?.replica;
                let status = self.client.status(replica).await.ok()?;
                let follows = status.leader.is_some() && status.last_applied_index >= wanted;
                follows.then(|| answer(&map, replica, Some(node), &leader))
            })
        })
        .await
    }

    async fn removed(&self, order: RemoveReplicaOrder) -> Ordered<Replica> {
        let map = self.map().await?;
        let replica = ReplicaId(order.replica);
        let Some(place) = map.replicas.iter().find(|place| place.replica == replica) else {
            return Err(OrderError::NotFound(format!("there is no metadata replica {replica}")));
        };
        if map.replicas.len() == 1 {
            let text = "it is the last metadata replica; add another before".to_owned();
            return Err(OrderError::Refused(text));
        }
        let left = map.replicas.iter().filter(|place| place.replica != replica);
        let statuses = left.map(|place| {
            timeout(&*self.doors.clock, LOOK_PATIENCE, self.client.status(place.replica))
        });
        let statuses = join_all(statuses).await;
        let well = statuses.iter().filter(|status| matches!(status, Ok(Ok(_)))).count();
        if 2 * well <= statuses.len() {
            let text = format!(
                "of the {} replicas that would be left only {well} answer, which is no majority; bring them back, or remove those that are lost first",
                statuses.len()
            );
            return Err(OrderError::Refused(text));
        }
        let node = place.node;
        // Its node makes no other by itself, unless a node of an older release is still there: that
        // one doesn't know how to keep to it.
        let forget = |taken_from| Command::ForgetReplica { replica, taken_from };
        let taken_from = Some(node).filter(|_| map.allows(&forget(Some(node))));
        self.propose(forget(taken_from)).await?;
        self.until("the removal", || {
            Box::pin(async move {
                let (map, leader) = (self.map().await.ok()?, self.leader().await?);
                let is_gone = !leader.voters.contains(&replica);
                is_gone.then(|| answer(&map, replica, Some(node), &leader))
            })
        })
        .await
    }

    async fn checked(&self) -> Ordered<CheckReport> {
        let check = self.client.check().await.map_err(unavailable)?;
        let map = self.map().await?;
        let reference = check.replicas.iter().find_map(|one| one.found.as_ref().ok());
        let of_one = |one: &ReplicaCheck| match &one.found {
            Err(error) => CheckedReplica {
                replica: one.replica.0,
                node: node_of(&map, one.replica),
                problems: vec![error.to_string()],
                ..CheckedReplica::default()
            },
            Ok(digest) => CheckedReplica {
                replica: one.replica.0,
                node: node_of(&map, one.replica),
                identical: reference.map(|reference| {
                    let tables = |of: &model::query::ReplicaDigest| {
                        let known = of.tables.iter();
                        known.map(|one| one.digest.clone()).collect::<Vec<_>>()
                    };
                    (reference.term, reference.index) == (digest.term, digest.index)
                        && tables(reference) == tables(digest)
                }),
                rows: Some(digest.tables.iter().map(|table| table.digest.rows).sum()),
                problems: digest
                    .tables
                    .iter()
                    .filter_map(|table| {
                        let damage = table.damage.as_ref()?;
                        Some(format!("table {}: {damage}", table.digest.table))
                    })
                    .collect(),
            },
        };
        let Check { index, .. } = check;
        let replicas = check.replicas.iter().map(of_one).collect();
        Ok(CheckReport { ok: check.is_clean(), index, replicas })
    }

    async fn token_created(&self, order: TokenOrder) -> Ordered<NewToken> {
        let roles = Roles::parse(&order.roles).ok_or_else(|| {
            OrderError::Invalid("roles are metadata, storage-node and gateway".to_owned())
        })?;
        let lifetime = Duration::from_secs(order.expires_seconds);
        if order.uses == 0 || lifetime.is_zero() || lifetime > TOKEN_LIFETIME_MAX {
            let text =
                "a token is good for at least one node and one second, and for at most 30 days";
            return Err(OrderError::Invalid(text.to_owned()));
        }
        if self.trust().await?.authority.is_none() {
            let text =
                "this store was never opened to other hosts; see `drystone cluster init --from`";
            return Err(OrderError::Refused(text.to_owned()));
        }
        let map = self.map().await?;
        let keeps = |node: &&model::node::Node| node.registration.roles.contains(Roles::METADATA);
        let addresses =
            map.nodes.iter().filter(keeps).map(|node| node.registration.address.clone()).collect();
        let mut secret = [0u8; SECRET_BYTES];
        self.doors.entropy.fill(&mut secret);
        let expires = self.doors.clock.now().plus_nanos(lifetime.as_nanos() as u64);
        let token = JoinToken {
            id: TokenId(self.doors.entropy.id()),
            secret_sha256: Sha256::digest(secret).to_vec().into(),
            roles,
            expires,
            uses_left: order.uses,
        };
        self.propose(Command::CreateToken(token.clone())).await?;
        let ticket = Ticket { addresses, pin: self.authority_pin, id: token.id, secret };
        let secret = ticket.encode().map_err(|error| OrderError::Failed(error.to_string()))?;
        Ok(NewToken { secret, token: shown(&token) })
    }

    async fn token_revoked(&self, id: &str) -> Ordered<()> {
        let token = TokenId::parse(id)
            .ok_or_else(|| OrderError::Invalid("a token's id has 32 hex digits".to_owned()))?;
        self.propose(Command::RevokeToken { token }).await.map(|_| ())
    }
}

impl AdminOrders for Orders {
    fn transfer(&self, order: TransferOrder) -> BoxFuture<'_, Ordered<Leadership>> {
        Box::pin(self.transferred(order))
    }

    fn add_replica(&self, order: AddReplicaOrder) -> BoxFuture<'_, Ordered<Replica>> {
        Box::pin(self.added(order))
    }

    fn remove_replica(&self, order: RemoveReplicaOrder) -> BoxFuture<'_, Ordered<Replica>> {
        Box::pin(self.removed(order))
    }

    fn check(&self) -> BoxFuture<'_, Ordered<CheckReport>> {
        Box::pin(self.checked())
    }

    fn create_token(&self, order: TokenOrder) -> BoxFuture<'_, Ordered<NewToken>> {
        Box::pin(self.token_created(order))
    }

    fn tokens(&self) -> BoxFuture<'_, Ordered<Vec<Token>>> {
        Box::pin(async {
            let now = self.doors.clock.now();
            let tokens = self.trust().await?.tokens;
            Ok(tokens.iter().filter(|token| token.expires > now).map(shown).collect())
        })
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'_, Ordered<()>> {
        Box::pin(async move { self.token_revoked(&id).await })
    }

    fn remove_node(&self, node: u32) -> BoxFuture<'_, Ordered<()>> {
        Box::pin(async move {
            self.propose(Command::RemoveNode { node: NodeId(node) }).await.map(|_| ())
        })
    }
}

fn answer(
    map: &ClusterMap,
    replica: ReplicaId,
    node: Option<NodeId>,
    leader: &MetadataStatus,
) -> Replica {
    Replica {
        replica: replica.0,
        node: node.map(|node| node.0).or_else(|| node_of(map, replica)),
        voters: leader.voters.iter().map(|id| id.0).collect(),
    }
}

fn node_of(map: &ClusterMap, replica: ReplicaId) -> Option<u32> {
    map.node_of(replica).map(|node| node.id.0)
}

fn shown(token: &JoinToken) -> Token {
    Token {
        id: token.id.to_string(),
        roles: token.roles.to_string(),
        expires: iso(token.expires),
        uses_left: token.uses_left,
    }
}

fn iso(time: Timestamp) -> String {
    let time = i64::try_from(time.as_seconds())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.to_string())
}

fn unavailable(error: MetadataError) -> OrderError {
    OrderError::Unavailable(error.to_string())
}

fn refused(refusal: Refusal) -> OrderError {
    let text = match refusal {
        Refusal::NoSuchNode => return OrderError::NotFound("there is no such node".to_owned()),
        Refusal::NodeInUse => {
            "the node keeps a metadata replica, or disks that are neither out nor drained and empty: drain it and remove its replica first"
        }
        Refusal::NoCluster => "the cluster isn't made yet",
        _ => return OrderError::Failed(refusal.to_string()),
    };
    OrderError::Refused(text.to_owned())
}
