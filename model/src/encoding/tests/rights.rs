//! Who may ask what, command by command.

use super::samples;
use crate::command::Command;
use crate::membership::MembershipRequest;
use crate::node::Roles;
use crate::query::{Heartbeat, MetadataRequest, Query};
use crate::rpc::Request;
use crate::shard::ShardRequest;

const EACH: [Roles; 3] = [Roles::METADATA, Roles::STORAGE_NODE, Roles::GATEWAY];

/// Of all roles, those in `allowed` may send it and no others.
fn check(request: &impl Request, allowed: Roles) {
    let name = request.name();
    assert!(!request.is_allowed(Roles::NONE), "{name} without a certificate");
    for role in EACH {
        assert_eq!(request.is_allowed(role), allowed.contains(role), "{name} by {role}");
    }
    assert!(request.is_allowed(Roles::ALL), "{name} by a server");
}

#[test]
fn commands_are_proposed_by_those_who_may() {
    let commands = samples::commands();
    for (number, (command, allowed)) in commands.iter().enumerate() {
        let bytes = minicbor::to_vec(command).expect("encoded");
        let mut decoder = minicbor::Decoder::new(&bytes);
        decoder.array().expect("a variant");
        assert_eq!(decoder.u32().expect("a number") as usize, number, "{command:?}");
        check(&MetadataRequest::Propose(vec![samples::envelope(command.clone())]), *allowed);
    }
    // A command that is added must be added to the samples.
    let next = u8::try_from(commands.len()).expect("few");
    let error = minicbor::decode::<Command>(&[0x82, 0x18, next, 0x80]).expect_err("unknown");
    assert!(error.to_string().contains("variant"), "{error}: command {next} is not in the samples");
}

#[test]
fn a_batch_gives_no_right_that_its_commands_do_not() {
    let both = samples::commands()
        .into_iter()
        .filter(|(command, _)| {
            matches!(command, Command::RegisterDisk { .. } | Command::DeleteBucket { .. })
        })
        .map(|(command, _)| samples::envelope(command))
        .collect();
    check(&MetadataRequest::Propose(both), Roles::METADATA);
    check(&MetadataRequest::Propose(Vec::new()), Roles::ALL);
}

#[test]
fn queries_are_asked_by_those_who_may() {
    let queries = samples::queries();
    for (query, allowed) in &queries {
        check(&MetadataRequest::Query(query.clone()), *allowed);
    }
    let next = u8::try_from(queries.len()).expect("few");
    let error = minicbor::decode::<Query>(&[0x82, next, 0x80]).expect_err("unknown");
    assert!(error.to_string().contains("variant"), "{error}: query {next} is not in the samples");
}

#[test]
fn heartbeats_come_from_keepers_of_disks() {
    let heartbeat = Heartbeat { node: crate::ids::NodeId(1), disks: Vec::new() };
    let allowed = Roles::STORAGE_NODE.and(Roles::METADATA);
    check(&MetadataRequest::Heartbeat(heartbeat), allowed);
    check(&MetadataRequest::Status, Roles::ALL);
}

#[test]
fn a_storage_node_speaks_of_itself_only() {
    let node = crate::ids::NodeId(7);
    let heartbeat = MetadataRequest::Heartbeat(Heartbeat { node, disks: Vec::new() });
    let mut checked = vec![heartbeat];
    for (command, _) in samples::commands() {
        let command = match command {
            Command::RegisterDisk { uuid, rack, zone, weight, path, .. } => {
                Command::RegisterDisk { uuid, node, rack, zone, weight, path }
            }
            Command::AdoptDisk(disk) => {
                Command::AdoptDisk(crate::cluster_map::Disk { node, ..disk })
            }
            _ => continue,
        };
        // Behind one that nobody minds.
        let first = samples::envelope(Command::AllocateReplica);
        checked.push(MetadataRequest::Propose(vec![first, samples::envelope(command)]));
    }
    assert_eq!(checked.len(), 3);
    let other = crate::ids::NodeId(8);
    for request in &checked {
        for roles in [Roles::STORAGE_NODE, Roles::STORAGE_NODE.and(Roles::GATEWAY)] {
            assert!(request.is_of_sender(node, roles), "{request:?}");
            assert!(!request.is_of_sender(other, roles), "{request:?}");
        }
        assert!(request.is_of_sender(other, Roles::ALL), "{request:?}");
    }
    assert!(MetadataRequest::Status.is_of_sender(other, Roles::STORAGE_NODE));
}

#[test]
fn backups_are_read_by_those_who_may_read_everything() {
    let users = Roles::METADATA.and(Roles::GATEWAY);
    check(&MetadataRequest::BeginBackup, users);
    check(&MetadataRequest::ReadBackup { id: 1, offset: 0 }, users);
    check(&MetadataRequest::EndBackup { id: 1 }, users);
}

#[test]
fn the_lead_is_moved_and_replicas_are_checked_where_operators_ask() {
    let operators = Roles::METADATA.and(Roles::GATEWAY);
    check(&MetadataRequest::Transfer { to: None }, operators);
    check(&MetadataRequest::Digest { at: 1 }, operators);
}

#[test]
fn shards_are_for_gateways() {
    for request in samples::shard_requests() {
        let everyone = matches!(request, ShardRequest::Status);
        check(&request, if everyone { Roles::ALL } else { Roles::GATEWAY });
    }
}

#[test]
fn only_joining_needs_no_certificate() {
    for request in samples::membership_requests() {
        if matches!(request, MembershipRequest::Join { .. }) {
            assert!(request.is_allowed(Roles::NONE));
            assert!(EACH.iter().all(|role| request.is_allowed(*role)));
        } else {
            check(&request, Roles::ALL);
        }
    }
}
