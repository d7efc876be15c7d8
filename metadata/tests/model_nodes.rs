//! Nodes, tokens, replicas' places and leases, in the state machine.

use std::collections::BTreeMap;

use metadata::tables::counters;
use metadata::tables::leases::{self, Leases};
use metadata::tables::trust::{self, TrustRecord};
use model::cluster_map::{ClusterMap, DiskState};
use model::command::{Command, CommandId, Outcome, Refusal};
use model::ids::{DiskId, DiskUuid, NodeId, NodeUuid, ReplicaId, SessionId, TokenId};
use model::moves::{MoveReason, SlotMove};
use model::node::{
    Authority, FEATURE_LEVEL, Job, JoinToken, Lease, NodeRegistration, ReplicaPlace, Roles,
};
use model::query::{Answer, Query};
use model::time::Timestamp;
use wire::entropy::{Entropy, SeededEntropy};

use crate::model_apply::Bare;

fn node(uuid: u8, roles: Roles) -> NodeRegistration {
    NodeRegistration {
        uuid: NodeUuid([uuid; 16]),
        name: "n".to_owned(),
        address: format!("host{uuid}:7000"),
        roles,
        rack: String::new(),
        zone: String::new(),
        level: 1,
    }
}

/// The same, of this release.
fn fresh(uuid: u8, roles: Roles) -> NodeRegistration {
    NodeRegistration { level: FEATURE_LEVEL, ..node(uuid, roles) }
}

fn token(id: u8, roles: Roles, expires: u64, uses_left: u32) -> JoinToken {
    JoinToken {
        id: TokenId([id; 16]),
        secret_sha256: vec![id; 32].into(),
        roles,
        expires: Timestamp(expires),
        uses_left,
    }
}

fn join(token: u8, secret: u8, node: NodeRegistration) -> Command {
    come(token, secret, node, None)
}

/// The same, of one that has proven to be a node.
fn come(token: u8, secret: u8, node: NodeRegistration, proven: Option<u32>) -> Command {
    Command::JoinNode {
        token: TokenId([token; 16]),
        secret_sha256: vec![secret; 32].into(),
        node,
        proven: proven.map(NodeId),
    }
}

fn map(bare: &Bare) -> ClusterMap {
    ClusterMap::clone(bare.memory.directory().map.as_ref().expect("made"))
}

const NEVER: u64 = u64::MAX;

fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

fn place(replica: u64, node: u32) -> Command {
    Command::PlaceReplica(ReplicaPlace { replica: ReplicaId(replica), node: NodeId(node) })
}

fn forget(replica: u64) -> Command {
    Command::ForgetReplica { replica: ReplicaId(replica), taken_from: None }
}

#[test]
fn the_founder_registers_and_nobody_else_without_a_token() {
    let mut bare = Bare::of_first_release();
    let founder = node(1, Roles::ALL);
    let registered = Outcome::NodeRegistered(NodeId(1));
    assert_eq!(bare.apply(Command::RegisterNode(founder.clone())), registered);
    let epoch = map(&bare).epoch;
    assert_eq!(bare.apply(Command::RegisterNode(founder.clone())), registered);
    assert_eq!(map(&bare).epoch, epoch, "nothing changed");
    let moved = NodeRegistration { address: "elsewhere:1".to_owned(), ..founder };
    assert_eq!(bare.apply(Command::RegisterNode(moved.clone())), registered);
    assert_eq!(map(&bare).nodes[0].registration, moved);
    assert!(map(&bare).epoch > epoch);
    let other = Command::RegisterNode(node(2, Roles::ALL));
    assert_eq!(bare.apply(other), refused(Refusal::NoSuchNode));
    for bad in [
        NodeRegistration { address: String::new(), ..moved.clone() },
        NodeRegistration { roles: Roles::NONE, ..moved.clone() },
        NodeRegistration { name: "n".repeat(257), ..moved.clone() },
        NodeRegistration { level: 0, ..moved },
    ] {
        let outcome = bare.apply(Command::RegisterNode(bad.clone()));
        assert_eq!(outcome, refused(Refusal::InvalidCommand), "{bad:?}");
    }
}

#[test]
fn tokens_let_in_what_they_say_as_often_as_they_say() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    let both = Roles::GATEWAY.and(Roles::STORAGE_NODE);
    assert_eq!(bare.apply(Command::CreateToken(token(9, both, NEVER, 2))), Outcome::Done);
    let invalid = || refused(Refusal::TokenInvalid);
    assert_eq!(bare.apply(join(8, 9, node(2, Roles::GATEWAY))), invalid(), "unknown");
    assert_eq!(bare.apply(join(9, 8, node(2, Roles::GATEWAY))), invalid(), "another secret");
    assert_eq!(bare.apply(join(9, 9, node(2, Roles::ALL))), invalid(), "more roles");
    let second = Outcome::NodeRegistered(NodeId(2));
    for _ in 0..3 {
        assert_eq!(bare.apply(join(9, 9, node(2, Roles::GATEWAY))), second, "a retry is free");
    }
    // A token for less than a node has must not take that node over.
    assert_eq!(bare.apply(join(9, 9, node(1, Roles::GATEWAY))), invalid());
    let third = join(9, 9, node(3, Roles::STORAGE_NODE));
    assert_eq!(bare.apply(third.clone()), Outcome::NodeRegistered(NodeId(3)));
    assert_eq!(bare.apply(join(9, 9, node(4, Roles::GATEWAY))), invalid(), "used up");
    assert_eq!(bare.apply(third.clone()), Outcome::NodeRegistered(NodeId(3)), "a late retry");
    // Made again, it has no more uses than before.
    assert_eq!(bare.apply(Command::CreateToken(token(9, both, NEVER, 2))), Outcome::Done);
    assert_eq!(bare.apply(join(9, 9, node(4, Roles::GATEWAY))), invalid());
    let revoke = Command::RevokeToken { token: TokenId([9; 16]) };
    assert_eq!(bare.apply(revoke.clone()), Outcome::Done);
    assert_eq!(bare.apply(revoke), Outcome::Done);
    assert_eq!(bare.apply(third), invalid());
}

#[test]
fn no_token_makes_anybody_a_node_that_is_there_already() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(fresh(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 1)));
    bare.apply(Command::CreateToken(token(2, Roles::ALL, NEVER, 2)));
    let second = Outcome::NodeRegistered(NodeId(2));
    assert_eq!(bare.apply(join(1, 1, fresh(2, Roles::GATEWAY))), second);
    let before = map(&bare);
    let invalid = || refused(Refusal::TokenInvalid);
    // By a token that has uses left, but did not let it in.
    let elsewhere = NodeRegistration { address: "thief:1".to_owned(), ..fresh(2, Roles::GATEWAY) };
    assert_eq!(bare.apply(join(2, 2, elsewhere.clone())), invalid());
    assert_eq!(bare.apply(join(2, 2, fresh(1, Roles::ALL))), invalid(), "the founder");
    // By one that proves to be another node.
    assert_eq!(bare.apply(come(2, 2, elsewhere, Some(1))), refused(Refusal::NoSuchNode));
    assert_eq!(map(&bare), before);
    // A node that nobody ever let in can't have been one.
    assert_eq!(
        bare.apply(come(2, 2, fresh(7, Roles::GATEWAY), Some(7))),
        refused(Refusal::NotHeld)
    );
    let record: TrustRecord = bare.view().get(trust::KEY).expect("read").expect("there");
    assert_eq!(record.tokens[1].token.uses_left, 2, "refusals use nothing up");
}

#[test]
fn a_node_that_proves_to_be_itself_comes_back_under_its_number() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(fresh(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::GATEWAY, NEVER, 1)));
    bare.apply(join(1, 1, fresh(2, Roles::GATEWAY)));
    bare.apply(Command::CreateToken(token(2, Roles::GATEWAY, NEVER, 1)));
    let second = Outcome::NodeRegistered(NodeId(2));
    let moved = NodeRegistration { address: "new:1".to_owned(), ..fresh(2, Roles::GATEWAY) };
    for _ in 0..2 {
        assert_eq!(bare.apply(come(2, 2, moved.clone(), Some(2))), second, "a retry is free");
    }
    assert_eq!(map(&bare).node(NodeId(2)).expect("there").registration, moved);
    // It takes a use, as every node does.
    assert_eq!(bare.apply(join(2, 2, fresh(3, Roles::GATEWAY))), refused(Refusal::TokenInvalid));
    // And a token for what it is.
    bare.apply(Command::CreateToken(token(3, Roles::STORAGE_NODE, NEVER, 1)));
    let less = come(3, 3, fresh(2, Roles::GATEWAY), Some(2));
    assert_eq!(bare.apply(less), refused(Refusal::TokenInvalid));
    // Once removed, it doesn't come back, whatever it proves and whoever let it in.
    bare.apply(Command::RemoveNode { node: NodeId(2) });
    bare.apply(Command::CreateToken(token(4, Roles::GATEWAY, NEVER, 1)));
    for command in [come(4, 4, moved.clone(), Some(2)), come(2, 2, moved.clone(), Some(2))] {
        assert_eq!(bare.apply(command), refused(Refusal::NoSuchNode));
    }
    assert_eq!(bare.apply(join(2, 2, moved)), refused(Refusal::NoSuchNode));
}

#[test]
fn a_cluster_of_the_release_before_decides_as_that_did() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 1)));
    bare.apply(Command::CreateToken(token(2, Roles::ALL, NEVER, 1)));
    let second = Outcome::NodeRegistered(NodeId(2));
    assert_eq!(bare.apply(join(1, 1, fresh(2, Roles::GATEWAY))), second);
    assert_eq!(map(&bare).level, 1);
    assert_eq!(bare.apply(join(2, 2, fresh(2, Roles::GATEWAY))), second);
    // Once all nodes have it, all are asked.
    bare.apply(Command::RegisterNode(fresh(1, Roles::ALL)));
    assert_eq!(map(&bare).level, FEATURE_LEVEL);
    bare.apply(Command::CreateToken(token(3, Roles::ALL, NEVER, 1)));
    let again = bare.apply(join(3, 3, fresh(2, Roles::GATEWAY)));
    assert_eq!(again, refused(Refusal::TokenInvalid));
}

#[test]
fn an_expired_token_lets_nobody_in_and_is_forgotten() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    let expires = bare.time + 5000;
    assert_eq!(bare.apply(Command::CreateToken(token(1, Roles::ALL, expires, 5))), Outcome::Done);
    let past = token(3, Roles::ALL, bare.time, 5);
    assert_eq!(bare.apply(Command::CreateToken(past)), refused(Refusal::InvalidCommand));
    bare.time = expires;
    assert_eq!(bare.apply(join(1, 1, node(2, Roles::ALL))), refused(Refusal::TokenInvalid));
    bare.apply(Command::CreateToken(token(2, Roles::ALL, NEVER, 5)));
    let record: TrustRecord = bare.view().get(trust::KEY).expect("read").expect("there");
    assert_eq!(record.tokens.len(), 1);
}

#[test]
fn a_removed_node_stays_away() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 5)));
    bare.apply(join(1, 1, node(2, Roles::ALL)));
    let remove = |node| Command::RemoveNode { node: NodeId(node) };
    // The disks of the beginning are on node 1.
    assert_eq!(bare.apply(remove(1)), refused(Refusal::NodeInUse));
    assert_eq!(bare.apply(place(1, 2)), Outcome::Done);
    assert_eq!(bare.apply(place(2, 1)), Outcome::Done);
    assert_eq!(bare.apply(remove(2)), refused(Refusal::NodeInUse));
    assert_eq!(bare.apply(forget(1)), Outcome::Done);
    assert_eq!(bare.apply(remove(2)), Outcome::Done);
    assert_eq!(bare.apply(remove(2)), Outcome::Done);
    assert_eq!(bare.apply(remove(3)), refused(Refusal::NoSuchNode));
    assert_eq!(bare.apply(join(1, 1, node(2, Roles::ALL))), refused(Refusal::NoSuchNode));
    let again = Command::RegisterNode(node(2, Roles::ALL));
    assert_eq!(bare.apply(again), refused(Refusal::NoSuchNode));
    let next = join(1, 1, node(3, Roles::ALL));
    assert_eq!(bare.apply(next), Outcome::NodeRegistered(NodeId(3)), "no number twice");
    for disk in 1..=6 {
        bare.apply(Command::SetDiskState { disk: DiskId(disk), state: DiskState::Out });
    }
    assert_eq!(bare.apply(place(3, 3)), Outcome::Done);
    assert_eq!(bare.apply(forget(2)), Outcome::Done);
    assert_eq!(bare.apply(remove(1)), Outcome::Done);
}

#[test]
fn a_node_whose_disks_are_drained_and_empty_can_be_removed() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(fresh(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 5)));
    bare.apply(join(1, 1, fresh(2, Roles::STORAGE_NODE)));
    let disk = Command::RegisterDisk {
        uuid: DiskUuid([9; 16]),
        node: NodeId(2),
        rack: String::new(),
        zone: String::new(),
        weight: 7,
        path: "/nine".to_owned(),
    };
    assert_eq!(bare.apply(disk), Outcome::DiskRegistered(DiskId(7)));
    let remove = |node| Command::RemoveNode { node: NodeId(node) };
    let drain = |disk| Command::DrainDisk { disk: DiskId(disk), is_draining: true };
    assert_eq!(bare.apply(remove(2)), refused(Refusal::NodeInUse), "its disk may get slots");
    // The one that has no slots first: what is drained later must not give it any.
    for disk in [7, 1, 2, 3, 4, 5, 6] {
        assert_eq!(bare.apply(drain(disk)), Outcome::Done);
    }
    assert_eq!(bare.apply(remove(1)), refused(Refusal::NodeInUse), "its disks have slots");
    // A slot on its way to a disk keeps it, too.
    let mut moving = map(&bare);
    let to = DiskId(7);
    let begun =
        SlotMove { slot: 0, to, reason: MoveReason::Balance, since: Timestamp(1), fault: None };
    moving.pgs[0].moves.push(begun);
    let before = map(&bare);
    bare.memory.set_map(moving);
    assert_eq!(bare.apply(remove(2)), refused(Refusal::NodeInUse));
    bare.memory.set_map(before);
    assert_eq!(bare.apply(remove(2)), Outcome::Done);
    let left = map(&bare).disk(DiskId(7)).expect("remembered").clone();
    assert_eq!((left.state, left.standing.is_given_up), (DiskState::Out, true));
}

#[test]
fn what_not_every_node_knows_is_refused() {
    let mut bare = Bare::of_first_release();
    // A store that is alone knows what it proposes.
    assert_eq!(bare.apply(Command::AllocateReplica), Outcome::ReplicaAllocated(ReplicaId(4)));
    let at = |level| NodeRegistration { level, ..node(1, Roles::ALL) };
    bare.apply(Command::RegisterNode(at(0)));
    let before = map(&bare);
    assert_eq!(bare.apply(Command::AllocateReplica), refused(Refusal::LevelTooLow));
    let down = Command::SetDiskState { disk: DiskId(1), state: DiskState::Down };
    assert_eq!(bare.apply(down.clone()), refused(Refusal::LevelTooLow));
    assert_eq!(map(&bare), before);
    // What raises the level is never refused for it.
    assert_eq!(bare.apply(Command::RegisterNode(at(1))), Outcome::NodeRegistered(NodeId(1)));
    assert_eq!(bare.apply(Command::AllocateReplica), Outcome::ReplicaAllocated(ReplicaId(5)));
    assert_eq!(bare.apply(down), Outcome::Done);
}

#[test]
fn the_level_is_what_all_have_and_never_falls() {
    let mut bare = Bare::of_first_release();
    let at = |uuid, level| NodeRegistration { level, ..node(uuid, Roles::ALL) };
    bare.apply(Command::RegisterNode(at(1, 1)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 5)));
    assert_eq!(map(&bare).level, 1);
    bare.apply(join(1, 1, at(2, 3)));
    assert_eq!(map(&bare).level, 1);
    bare.apply(Command::RegisterNode(at(1, 2)));
    assert_eq!(map(&bare).level, 2);
    // The release before can't come back once its successor's features are in use.
    assert_eq!(bare.apply(Command::RegisterNode(at(2, 1))), refused(Refusal::InvalidCommand));
    assert_eq!(bare.apply(join(1, 1, at(3, 1))), refused(Refusal::InvalidCommand));
    for disk in 1..=6 {
        bare.apply(Command::SetDiskState { disk: DiskId(disk), state: DiskState::Out });
    }
    assert_eq!(bare.apply(Command::RemoveNode { node: NodeId(1) }), Outcome::Done);
    assert_eq!(map(&bare).level, 3);
}

#[test]
fn replicas_stay_where_they_are_and_forgotten_ones_forgotten() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    bare.apply(Command::CreateToken(token(1, Roles::ALL, NEVER, 5)));
    bare.apply(join(1, 1, node(2, Roles::GATEWAY)));
    let invalid = || refused(Refusal::InvalidCommand);
    assert_eq!(bare.apply(place(1, 2)), invalid(), "a gateway keeps none");
    assert_eq!(bare.apply(place(1, 7)), refused(Refusal::NoSuchNode));
    assert_eq!(bare.apply(place(4, 1)), invalid(), "never given out");
    assert_eq!(bare.apply(place(0, 1)), invalid());
    assert_eq!(bare.apply(place(2, 1)), Outcome::Done);
    assert_eq!(bare.apply(place(2, 1)), Outcome::Done);
    assert_eq!(bare.apply(forget(2)), refused(Refusal::NodeInUse), "the only one");
    assert_eq!(bare.apply(place(1, 1)), Outcome::Done);
    let kept: Vec<u64> = map(&bare).replicas.iter().map(|place| place.replica.0).collect();
    assert_eq!(kept, [1, 2]);
    assert_eq!(bare.apply(forget(2)), Outcome::Done);
    assert_eq!(bare.apply(forget(2)), Outcome::Done);
    assert_eq!(bare.apply(place(2, 1)), invalid(), "forgotten for ever");
    assert_eq!(bare.apply(forget(9)), invalid());
}

#[test]
fn the_authority_is_set_once() {
    let mut bare = Bare::of_first_release();
    let authority = |certificate: u8, key: u8| Authority {
        certificate: vec![certificate; 10].into(),
        sealed_key: vec![key; 10].into(),
    };
    assert_eq!(bare.apply(Command::SetAuthority(authority(1, 1))), Outcome::Done);
    assert_eq!(bare.apply(Command::SetAuthority(authority(1, 2))), Outcome::Done);
    let other = Command::SetAuthority(authority(2, 1));
    assert_eq!(bare.apply(other), refused(Refusal::AuthorityExists));
    let empty = Authority { certificate: vec![1].into(), sealed_key: Vec::new().into() };
    assert_eq!(bare.apply(Command::SetAuthority(empty)), refused(Refusal::InvalidCommand));
    let record: TrustRecord = bare.view().get(trust::KEY).expect("read").expect("there");
    assert_eq!(record.authority, Some(authority(1, 1)));
    // The counters are a row of the same table.
    assert!(bare.view().get::<counters::Counters>(counters::KEY).expect("read").is_some());
}

/// Leases against a model, at random: at every moment at most one session holds a job.
#[test]
fn leases_are_held_by_one_session_at_a_time() {
    for seed in 0..20 {
        let entropy = SeededEntropy::new(seed);
        let mut bare = Bare::new();
        let mut open: Vec<SessionId> = vec![SessionId(1)];
        let mut held: BTreeMap<(Job, Option<NodeId>), (SessionId, u64)> = BTreeMap::new();
        for step in 0..300 {
            bare.time += entropy.below(3_000_000);
            if entropy.below(6) == 0 {
                let name = format!("g{}", entropy.below(3));
                let Outcome::SessionOpened(id) = bare.apply(Command::OpenSession { gateway: name })
                else {
                    panic!("a session is opened")
                };
                open.push(id);
                open.retain(|id| bare.memory.is_open(*id));
                continue;
            }
            let holder = open[entropy.below(open.len() as u64) as usize];
            // What is done for each node by itself is a job of its own.
            let (job, node) = [
                (Job::Collect, None),
                (Job::Repair, None),
                (Job::Fill, Some(NodeId(1))),
                (Job::Fill, Some(NodeId(2))),
            ][entropy.below(4) as usize];
            let duration_ms = entropy.below(10) as u32;
            let outcome = bare.apply(Command::TakeLease { job, holder, duration_ms, node });
            let now = bare.time;
            let standing = held
                .get(&(job, node))
                .copied()
                .filter(|(other, until)| *until > now && bare.memory.is_open(*other));
            let expected = match standing {
                Some((other, until)) if other != holder => (other, until),
                // For no time: given back.
                Some(_) if duration_ms == 0 => (holder, now),
                Some((_, until)) => (holder, until.max(now + u64::from(duration_ms) * 1_000_000)),
                None => (holder, now + u64::from(duration_ms) * 1_000_000),
            };
            held.insert((job, node), expected);
            let lease = Lease { job, holder: expected.0, until: Timestamp(expected.1), node };
            assert_eq!(
                outcome,
                Outcome::Leased(lease),
                "seed {seed} step {step}, held {standing:?}, {duration_ms} ms at {now}"
            );
        }
        let stored: Leases = bare.view().get(leases::KEY).expect("read").expect("there");
        assert!(stored.leases.len() <= 4);
        assert_eq!(bare.view().digests().expect("read"), bare.digests);
    }
}

#[test]
fn a_lease_needs_a_session_and_a_bound() {
    let mut bare = Bare::of_first_release();
    let take = |holder, duration_ms| Command::TakeLease {
        job: Job::Backup,
        holder: SessionId(holder),
        duration_ms,
        node: None,
    };
    assert_eq!(bare.apply(take(9, 10)), refused(Refusal::SessionEnded));
    assert_eq!(bare.apply(take(1, u32::MAX)), refused(Refusal::InvalidCommand));
    let id = CommandId { session: SessionId(1), sequence: 1 };
    let first = bare.apply_as(id, 0, take(1, 1000));
    assert!(matches!(first, Outcome::Leased(lease) if lease.holder == SessionId(1)));
    bare.apply(Command::OpenSession { gateway: "other".to_owned() });
    assert_eq!(bare.apply(take(2, 10)), first, "told who has it");
    bare.apply(Command::EndSession { session: SessionId(1) });
    assert!(
        matches!(bare.apply(take(2, 10)), Outcome::Leased(lease) if lease.holder == SessionId(2))
    );
}

#[test]
fn trust_is_told_with_what_was_used_up() {
    let (_root, machine) = crate::snapshots::machine();
    let coding = model::coding::Coding::parse("4+2").expect("valid");
    let commands = vec![
        Command::InitCluster {
            cluster: crate::harness::CLUSTER,
            coding,
            replicas: ReplicaId(1),
            level: 0,
        },
        Command::RegisterNode(node(1, Roles::ALL)),
        Command::SetAuthority(Authority {
            certificate: vec![1].into(),
            sealed_key: vec![2].into(),
        }),
        Command::CreateToken(token(1, Roles::ALL, NEVER, 1)),
        Command::CreateToken(token(2, Roles::GATEWAY, NEVER, 7)),
        join(1, 1, node(2, Roles::ALL)),
    ];
    crate::snapshots::feed(&machine, &[crate::snapshots::entry(1, commands)], 1);
    let answer = metadata::read::answer(&machine, &Query::Trust).expect("read");
    let Answer::Trust(trust) = answer else { panic!("{answer:?}") };
    assert!(trust.authority.is_some());
    let used_up = token(1, Roles::ALL, NEVER, 0);
    assert_eq!(trust.tokens, [used_up, token(2, Roles::GATEWAY, NEVER, 7)]);
    assert_eq!(machine.directory().map.as_ref().expect("made").nodes.len(), 2);
}

/// What a store of an earlier release has: no rows but the counters.
#[test]
fn a_store_without_these_rows_has_no_trust_and_no_leases() {
    let bare = Bare::of_first_release();
    assert_eq!(bare.view().get::<TrustRecord>(trust::KEY).expect("read"), None);
    assert_eq!(bare.view().get::<Leases>(leases::KEY).expect("read"), None);
}

#[test]
fn disks_are_on_nodes_that_are_there() {
    let mut bare = Bare::of_first_release();
    let disk = |uuid: u8, node: u32| Command::RegisterDisk {
        uuid: DiskUuid([uuid; 16]),
        node: NodeId(node),
        rack: String::new(),
        zone: String::new(),
        weight: 1,
        path: String::new(),
    };
    // A store that isn't open to other hosts has no nodes to compare with.
    let first = bare.apply(disk(201, 1));
    assert!(matches!(first, Outcome::DiskRegistered(_)), "{first:?}");
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    assert_eq!(bare.apply(disk(201, 1)), first);
    assert_eq!(bare.apply(disk(201, 2)), refused(Refusal::NoSuchNode));
    assert_eq!(bare.apply(disk(202, 2)), refused(Refusal::NoSuchNode));
    let second = bare.apply(disk(202, 1));
    assert!(matches!(second, Outcome::DiskRegistered(_)) && second != first, "{second:?}");
}

/// Rows and digests of the tables that have any, as the first release made them of the same commands.
const FIRST_RELEASE_DIGESTS: [(u64, u64); 4] = [
    (1, 0x49fb_2c88_a6fe_1c42),
    (1, 0x01a7_4ea4_ae2e_f98c),
    (1, 0x7231_c4e6_01ea_f843),
    (1, 0xd848_5e68_6feb_bee0),
];

/// A store that is one process, made by the first release. What that decided is decided alike when it
/// is applied anew after an upgrade.
#[test]
fn a_lone_store_of_the_first_release_goes_on_as_that_did_until_it_is_told_otherwise() {
    let mut bare = Bare::of_first_release();
    let disk = |uuid: u8, weight: u32| Command::RegisterDisk {
        uuid: DiskUuid([uuid; 16]),
        node: NodeId(1),
        rack: "r".to_owned(),
        zone: String::new(),
        weight,
        path: "/p".repeat(3000),
    };
    let set = |disk: u32, state| Command::SetDiskState { disk: DiskId(disk), state };
    let steps = [
        set(1, DiskState::Down),
        set(2, DiskState::Down),
        set(1, DiskState::Up),
        disk(7, 3),
        disk(3, 2),
        set(2, DiskState::Out),
        set(4, DiskState::Full),
    ];
    for step in steps {
        bare.apply(step);
    }
    let digests = bare.digests.0.iter().filter(|digest| digest.rows > 0);
    let digests: Vec<(u64, u64)> = digests.map(|digest| (digest.rows, digest.sum)).collect();
    assert_eq!(digests, FIRST_RELEASE_DIGESTS);
    let before = map(&bare);
    let drain = Command::DrainDisk { disk: DiskId(5), is_draining: true };
    assert_eq!(bare.apply(drain.clone()), refused(Refusal::LevelTooLow));
    // Its process starts with this release, and again.
    let (cluster, coding) = (before.cluster, before.coding);
    let replicas = ReplicaId(3);
    let start = |level| Command::InitCluster { cluster, coding, replicas, level };
    for _ in 0..2 {
        assert_eq!(bare.apply(start(FEATURE_LEVEL)), Outcome::Done);
        let raised = ClusterMap { level: FEATURE_LEVEL, epoch: before.epoch + 1, ..before.clone() };
        assert_eq!(map(&bare), raised);
    }
    assert_eq!(bare.apply(drain), Outcome::Done);
    let drained = map(&bare);
    assert_eq!(bare.apply(start(0)), Outcome::Done, "it never falls");
    assert_eq!(map(&bare), drained);
    bare.apply(set(6, DiskState::Down));
    assert_eq!(map(&bare).disk(DiskId(6)).expect("known").standing.flaps, 1);
}

#[test]
fn the_level_of_a_store_with_nodes_is_theirs() {
    let mut bare = Bare::of_first_release();
    bare.apply(Command::RegisterNode(node(1, Roles::ALL)));
    let before = map(&bare);
    let (cluster, coding) = (before.cluster, before.coding);
    let start = |cluster| Command::InitCluster {
        cluster,
        coding,
        replicas: ReplicaId(3),
        level: FEATURE_LEVEL,
    };
    assert_eq!(bare.apply(start(cluster)), Outcome::Done);
    let other = model::ids::ClusterId([99; 16]);
    assert_eq!(bare.apply(start(other)), refused(Refusal::NoCluster));
    assert_eq!(map(&bare), before);
    // One that begins with this release is of it at once.
    assert_eq!(map(&Bare::new()).level, FEATURE_LEVEL);
}
