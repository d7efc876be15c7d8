//! Admission, against a metadata service of one node: who is let in, who comes back, and what each
//! of them gets to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metadata::admission::{Admission, AdmissionParts};
use metadata::authority_seal::{self, SealKeys};
use metadata::backup::{RestoreSettings, found_for_recovery};
use metadata::keeper::MayFound;
use metadata::replica::wipe;
use model::coding::Coding;
use model::command::{Command, Outcome};
use model::ids::{NodeId, TokenId};
use model::membership::{Joined, MembershipError, MembershipRequest, MembershipResponse};
use model::node::{self, JoinToken, NodeRegistration, Roles};
use model::query::{Answer, Query};
use model::time::Timestamp;
use sha2::{Digest as _, Sha256};
use wire::clock::{Clock, SystemClock};
use wire::disk::{Disk, RealDisk};
use wire::entropy::SystemEntropy;
use wire::rpc::Caller;
use wire::tls::{Authority, Identity, NodeKey};

use crate::harness::CLUSTER;
use crate::hosts::{Hosts, registration};

const SEAL_KEY: [u8; 32] = [5; 32];
const SECRET: [u8; 32] = [6; 32];
const HOUR: Duration = Duration::from_hours(1);

struct Door {
    hosts: Hosts,
    admission: Admission,
    authority: Authority,
    clock: SystemClock,
}

/// A node's key, and what it says of itself.
struct Guest {
    key: NodeKey,
    node: NodeRegistration,
}

impl Guest {
    fn new(number: u8, roles: Roles) -> Self {
        let level = node::FEATURE_LEVEL;
        let node = NodeRegistration { roles, level, ..registration(number) };
        Self { key: NodeKey::generate().expect("made"), node }
    }

    fn request(&self) -> Vec<u8> {
        self.key.certificate_request().expect("made")
    }
}

fn new_level(number: u8) -> NodeRegistration {
    NodeRegistration { level: node::FEATURE_LEVEL, ..registration(number) }
}

impl Door {
    /// Node 1, with an authority whose key is sealed by `seal`, and what opens it.
    async fn new() -> Self {
        let hosts = Hosts::found(1).await;
        let told = hosts.propose(Command::RegisterNode(new_level(1))).await;
        assert_eq!(told, Outcome::NodeRegistered(NodeId(1)));
        let clock = SystemClock::new();
        let authority = Authority::create(CLUSTER, clock.now()).expect("made");
        let door = Self { admission: admission(&hosts), hosts, authority, clock };
        door.give_authority().await;
        door
    }

    async fn give_authority(&self) {
        let key = self.authority.key();
        let sealed = authority_seal::seal(&SEAL_KEY, CLUSTER, key, &SystemEntropy::new());
        let authority = node::Authority {
            certificate: self.authority.certificate().to_vec().into(),
            sealed_key: sealed.expect("sealed").into(),
        };
        let told = self.hosts.propose(Command::SetAuthority(authority)).await;
        assert_eq!(told, Outcome::Done);
    }

    async fn token(&self, id: u8, roles: Roles, uses_left: u32) {
        let token = JoinToken {
            id: TokenId([id; 16]),
            secret_sha256: Sha256::digest(SECRET).to_vec().into(),
            roles,
            expires: Timestamp(u64::MAX),
            uses_left,
        };
        assert_eq!(self.hosts.propose(Command::CreateToken(token)).await, Outcome::Done);
    }

    async fn uses_left(&self, id: u8) -> u32 {
        let Ok(Answer::Trust(trust)) = self.hosts.client.query(Query::Trust).await else {
            panic!("answered")
        };
        let token = trust.tokens.iter().find(|token| token.id == TokenId([id; 16]));
        token.expect("it is listed as long as it lasts").uses_left
    }

    async fn join(
        &self,
        token: u8,
        guest: &Guest,
        certificate_request: Vec<u8>,
        certificate: Option<Vec<u8>>,
    ) -> Result<Joined, MembershipError> {
        let request = MembershipRequest::Join {
            token: TokenId([token; 16]),
            secret: SECRET.to_vec().into(),
            node: guest.node.clone(),
            certificate_request: certificate_request.into(),
            certificate: certificate.map(Into::into),
        };
        match self.admission.answer(caller(None), request).await {
            MembershipResponse::Joined(joined) => Ok(*joined),
            MembershipResponse::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    async fn register(
        &self,
        who: Identity,
        node: NodeRegistration,
    ) -> Result<u32, MembershipError> {
        let request = MembershipRequest::Register { node };
        match self.admission.answer(caller(Some(who)), request).await {
            MembershipResponse::Registered(members) => Ok(members.last_node.0),
            MembershipResponse::Failed(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// A certificate that ended an hour ago.
    fn ended(&self, authority: &Authority, guest: &Guest, node: u32) -> Vec<u8> {
        let began = Timestamp(self.clock.now().0 - 2 * HOUR.as_nanos() as u64);
        let who = identity(node, guest.node.roles);
        authority.issue(&guest.request(), &who, &[], began, HOUR).expect("issued")
    }
}

fn admission(hosts: &Hosts) -> Admission {
    Admission::new(AdmissionParts {
        cluster: CLUSTER,
        client: Arc::clone(&hosts.client),
        seal_keys: SealKeys { authority: Some(SEAL_KEY), cluster: [7; 32] },
        secrets: "all".to_owned(),
        gateway_secrets: "some".to_owned(),
        clock: Arc::new(SystemClock::new()),
    })
}

fn caller(identity: Option<Identity>) -> Caller {
    Caller { identity, address: SocketAddr::from(([127, 0, 0, 1], 7)) }
}

fn identity(node: u32, roles: Roles) -> Identity {
    Identity { cluster: CLUSTER, node: NodeId(node), roles }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_to_know_what_its_roles_need() {
    let door = Door::new().await;
    door.token(9, Roles::ALL, 4).await;
    let roles = [
        (Roles::METADATA, Some("all")),
        (Roles::GATEWAY, Some("some")),
        (Roles::STORAGE_NODE, None),
        (Roles::ALL, Some("all")),
    ];
    for (number, (roles, told)) in (2..).zip(roles) {
        let guest = Guest::new(number, roles);
        let joined = door.join(9, &guest, guest.request(), None).await.expect("let in");
        assert_eq!(joined.secrets.as_deref(), told, "{roles}");
        assert_eq!(joined.node, NodeId(u32::from(number)));
        assert_eq!(joined.members.last_node, joined.node);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_can_not_be_certified_uses_nothing_up() {
    let door = Door::new().await;
    door.token(9, Roles::ALL, 1).await;
    let guest = Guest::new(2, Roles::GATEWAY);
    let mut spoilt = guest.request();
    let last = spoilt.len() - 1;
    spoilt[last] ^= 1;
    let nowhere = Guest {
        node: NodeRegistration { address: "a b:1".to_owned(), ..guest.node.clone() },
        ..Guest::new(2, Roles::GATEWAY)
    };
    let stranger = Authority::create(CLUSTER, door.clock.now()).expect("made");
    let foreign = door.ended(&stranger, &guest, 1);
    let another = door.ended(&door.authority, &Guest::new(1, Roles::ALL), 1);
    let is_invalid = |told: &Result<Joined, MembershipError>| {
        let Err(MembershipError::Invalid(why)) = told else { panic!("{told:?}") };
        assert!(!why.contains("too many"), "it was looked at");
    };
    is_invalid(&door.join(9, &guest, Vec::new(), None).await);
    is_invalid(&door.join(9, &guest, spoilt, None).await);
    is_invalid(&door.join(9, &nowhere, nowhere.request(), None).await);
    // Certificates that prove nothing.
    let door = Door { admission: admission(&door.hosts), ..door };
    is_invalid(&door.join(9, &guest, guest.request(), Some(Vec::new())).await);
    is_invalid(&door.join(9, &guest, guest.request(), Some(foreign)).await);
    is_invalid(&door.join(9, &guest, guest.request(), Some(another)).await);
    assert_eq!((door.uses_left(9).await, door.hosts.map().await.nodes.len()), (1, 1));
    // The same token lets in who asks properly, and is listed as used up then.
    door.join(9, &guest, guest.request(), None).await.expect("let in");
    assert_eq!(door.uses_left(9).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_back_by_its_old_certificate_and_a_new_token() {
    let door = Door::new().await;
    door.token(8, Roles::ALL, 1).await;
    door.token(9, Roles::ALL, 2).await;
    let guest = Guest::new(2, Roles::GATEWAY);
    let first = door.join(8, &guest, guest.request(), None).await.expect("let in");
    let ended = door.ended(&door.authority, &guest, 2);
    // A thief with a good token, who knows the uuid and even the certificate, hasn't the key.
    let thief = Guest { key: NodeKey::generate().expect("made"), node: guest.node.clone() };
    let told = door.join(9, &thief, thief.request(), None).await;
    assert_eq!(told.expect_err("refused"), MembershipError::TokenInvalid);
    let told = door.join(9, &thief, thief.request(), Some(ended.clone())).await;
    assert!(matches!(told, Err(MembershipError::Invalid(_))), "{told:?}");
    // A node proves to be itself, and not another.
    let third = Guest::new(3, Roles::GATEWAY);
    door.join(9, &third, third.request(), None).await.expect("let in");
    let posing = Guest { node: guest.node.clone(), ..third };
    let proof = door.ended(&door.authority, &posing, 3);
    let told = door.join(9, &posing, posing.request(), Some(proof)).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);
    assert_eq!(door.uses_left(9).await, 1);

    let moved = NodeRegistration { address: "moved:7".to_owned(), ..guest.node.clone() };
    let guest = Guest { node: moved.clone(), ..guest };
    let back = door.join(9, &guest, guest.request(), Some(ended.clone())).await.expect("let in");
    assert_eq!(back.node, first.node);
    assert_ne!(back.certificate, first.certificate);
    let holder = door.authority.holder(&back.certificate, &guest.request()).expect("its own");
    assert_eq!(holder, identity(2, Roles::GATEWAY));
    let map = door.hosts.map().await;
    assert_eq!(map.node(NodeId(2)).expect("there").registration, moved);
    assert_eq!((map.nodes.len(), door.uses_left(9).await), (3, 0));

    // Once it is removed, no certificate and no token bring it back.
    assert_eq!(door.hosts.propose(Command::RemoveNode { node: NodeId(2) }).await, Outcome::Done);
    door.token(7, Roles::ALL, 1).await;
    let told = door.join(7, &guest, guest.request(), Some(ended)).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);
    let told = door.register(identity(2, Roles::GATEWAY), guest.node.clone()).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);
    assert_eq!(door.uses_left(7).await, 1);
}

/// Metadata that was rebuilt from nothing knows none of the nodes; their certificates tell.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_before_are_adopted_under_the_numbers_of_their_certificates() {
    let mut door = Door::new().await;
    let five = new_level(5);
    // As long as the metadata is what it always was, it knows its nodes.
    let told = door.register(identity(5, Roles::ALL), five.clone()).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);

    door.hosts.stop(1).await;
    let disk: Arc<dyn Disk> =
        Arc::new(RealDisk::open(&door.hosts.directory(1, 0)).expect("opened"));
    wipe(&*disk).expect("wiped");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let settings = RestoreSettings { cluster: CLUSTER, node: Some(NodeId(1)), clock };
    let coding = Coding::parse("4+2").expect("valid");
    let made = found_for_recovery(coding, &disk, &settings).await.expect("founded");
    drop(disk);
    door.hosts.client.book().set(vec![made.replica]);
    door.hosts.start(1, 1, MayFound::No).await;
    let query = || Query::ClusterMap { known_epoch: 0 };
    door.hosts.until("a leader", async |hosts| hosts.client.query(query()).await.is_ok()).await;

    // Of itself only, with the roles of its certificate.
    let told = door.register(identity(5, Roles::GATEWAY), five.clone()).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);
    let last = door.register(identity(5, Roles::ALL), five.clone()).await.expect("adopted");
    assert!(last >= 5, "{last}");
    let again = door.register(identity(5, Roles::ALL), five.clone()).await;
    assert_eq!(again, Ok(last), "a retry");
    let found = door.hosts.map().await;
    assert_eq!(found.node(NodeId(5)).expect("there").registration, five);
    // Its number is taken, and so is its uuid.
    let told = door.register(identity(5, Roles::ALL), new_level(6)).await;
    assert!(told.is_err(), "{told:?}");
    let told = door.register(identity(4, Roles::ALL), five).await;
    assert_eq!(told.expect_err("refused"), MembershipError::Removed);
    let told =
        door.admission.answer(caller(None), MembershipRequest::Register { node: new_level(6) });
    let told = told.await;
    assert_eq!(told, MembershipResponse::Failed(MembershipError::TokenInvalid));

    // A node whose certificate ended meanwhile comes back by a token, under its number, too.
    door.give_authority().await;
    door.token(9, Roles::ALL, 2).await;
    let guest = Guest::new(3, Roles::STORAGE_NODE);
    let ended = door.ended(&door.authority, &guest, 3);
    let back = door.join(9, &guest, guest.request(), Some(ended)).await.expect("let in");
    assert_eq!(back.node, NodeId(3));
    // New ones get numbers that none of before had.
    let guest = Guest::new(2, Roles::GATEWAY);
    let new = door.join(9, &guest, guest.request(), None).await.expect("let in");
    assert!(new.node > NodeId(5) && new.node.0 > 1000, "{}", new.node);
    door.hosts.stop_all().await;
}
