//! What the metadata gives reason for: its replicas, their clocks, backups, what is held, and nodes of
//! older releases.

use std::time::Duration;

use model::cluster_map::ClusterMap;
use model::ids::ReplicaId;
use model::recovery::Held;
use s3::date;

use super::{Code, Reason};

/// Clocks that differ by more than this are not kept by anybody: NTP keeps them within milliseconds.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(2);

impl Reason {
    /// The metadata was put back, or begun anew, and not everything is found again for certain.
    pub fn meta_held(held: &Held) -> Self {
        let what = if held.from_shards {
            "The metadata was begun anew from the disks".to_owned()
        } else {
            format!("The metadata was put back as it was at {}", date::iso8601(held.since))
        };
        let message = format!(
            "{what}: have what it doesn't know recovered from the shards, then release what is held; until then no space of it is reclaimed."
        );
        Self::warning(Code::MetaHeld, message)
    }
}

/// What the metadata replicas give reason for: how many vote, are well, and differ from the leader.
pub fn of_replicas(voters: usize, healthy: usize, differing: &[u64]) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if healthy < voters {
        let more = crate::admin::standing::replicas_to_lose(voters, healthy);
        let more = match more {
            ..=0 => "none more may fail".to_owned(),
            more => format!("{more} more may fail"),
        };
        reasons.push(Reason::warning(
            Code::MetaDegraded,
            format!("{} of {voters} metadata replicas are not well; {more}.", voters - healthy),
        ));
    }
    if !differing.is_empty() {
        let differing: Vec<String> = differing.iter().map(u64::to_string).collect();
        reasons.push(Reason::warning(
            Code::MetaDigestsDiffer,
            format!(
                "Metadata replicas {} differ from the leader in content.",
                differing.join(", ")
            ),
        ));
    }
    reasons
}

/// That clocks differ: of each replica by how many milliseconds its clock is ahead of ours.
pub fn clock_skew(ahead_ms: &[(ReplicaId, i64)]) -> Option<Reason> {
    let most = CLOCK_SKEW_MAX.as_millis() as u64;
    let wrong = ahead_ms.iter().filter(|(_, ahead)| ahead.unsigned_abs() > most);
    let told = |(replica, ahead): &(ReplicaId, i64)| {
        let seconds = ahead.unsigned_abs() as f64 / 1000.0;
        let word = if *ahead < 0 { "behind" } else { "ahead" };
        format!("replica {replica} by {seconds:.1} s {word}")
    };
    let told: Vec<String> = wrong.map(told).collect();
    (!told.is_empty()).then(|| {
        let message =
            format!("Clocks of metadata replicas differ from this host's: {}.", told.join(", "));
        Reason::warning(Code::ClockSkew, message)
    })
}

/// That nodes are of an older release than others.
pub fn mixed_releases(map: &ClusterMap) -> Option<Reason> {
    let behind: Vec<String> = map.nodes_behind().map(|node| node.id.to_string()).collect();
    (!behind.is_empty()).then(|| {
        let message = format!("Nodes {} are of an older release than others.", behind.join(", "));
        Reason::warning(Code::MixedReleases, message)
    })
}

/// That backups of the metadata fail, or aren't taken.
pub fn backup_late(message: String) -> Reason {
    Reason::warning(Code::BackupLate, message)
}

#[cfg(test)]
mod tests {
    use model::coding::Coding;
    use model::ids::{ClusterId, DiskId, NodeId, NodeUuid};
    use model::node::{Node, NodeRegistration, Roles};
    use model::time::Timestamp;

    use super::super::Severity;
    use super::*;

    #[test]
    fn replicas_that_are_not_well_or_differ_are_told() {
        assert_eq!(of_replicas(3, 3, &[]), []);
        let found = of_replicas(5, 4, &[2, 4]);
        let told: Vec<_> = found.iter().map(|reason| (&*reason.code, &*reason.message)).collect();
        assert_eq!(
            told,
            [
                ("META_DEGRADED", "1 of 5 metadata replicas are not well; 1 more may fail."),
                (
                    "META_DIGESTS_DIFFER",
                    "Metadata replicas 2, 4 differ from the leader in content."
                ),
            ]
        );
        assert_eq!(found[1].severity, Severity::Red);
        let last = of_replicas(3, 2, &[]);
        assert_eq!(last[0].message, "1 of 3 metadata replicas are not well; none more may fail.");
    }

    #[test]
    fn clocks_that_differ_by_seconds_are_told() {
        let check = |ahead_ms: &[i64], expected: Option<&str>| {
            let replicas: Vec<_> = (1..).map(ReplicaId).zip(ahead_ms.iter().copied()).collect();
            let found = clock_skew(&replicas);
            assert!(found.iter().all(|reason| reason.code == "CLOCK_SKEW" && !reason.blocking));
            assert_eq!(found.as_ref().map(|reason| &*reason.message), expected);
        };
        check(&[], None);
        check(&[0, 2000, -2000], None);
        check(
            &[0, 2001, -90_400],
            Some(
                "Clocks of metadata replicas differ from this host's: replica 2 by 2.0 s ahead, replica 3 by 90.4 s behind.",
            ),
        );
    }

    #[test]
    fn nodes_of_an_older_release_are_told() {
        let node = |id: u32, level: u32| Node {
            id: NodeId(id),
            registration: NodeRegistration { level, ..registration() },
            place: None,
        };
        let mut map = ClusterMap::new(ClusterId::default(), Coding::new(1, 1).expect("valid"));
        map.nodes = vec![node(1, 2), node(2, 2)];
        assert_eq!(mixed_releases(&map), None);
        map.nodes = vec![node(1, 2), node(2, 1), node(3, 1)];
        let reason = mixed_releases(&map).expect("a reason");
        assert_eq!(&*reason.code, "MIXED_RELEASES");
        assert_eq!(reason.message, "Nodes 2, 3 are of an older release than others.");
    }

    fn registration() -> NodeRegistration {
        NodeRegistration {
            uuid: NodeUuid::default(),
            name: String::new(),
            address: String::new(),
            roles: Roles::ALL,
            rack: String::new(),
            zone: String::new(),
            level: 0,
        }
    }

    #[test]
    fn what_is_held_and_late_backups_are_in_nobodys_way() {
        let held = |from_shards| Held {
            sessions: Vec::new(),
            ranges: Vec::new(),
            since: Timestamp(0),
            index: 0,
            from_shards,
            has_pgs: false,
            disks: DiskId(0),
        };
        let reason = Reason::meta_held(&held(true));
        assert_eq!((&*reason.code, reason.blocking), ("META_HELD", false));
        let reason = Reason::meta_held(&held(false));
        assert!(reason.message.contains("as it was at 1970-01-01T00:00:00.000Z"), "{reason:?}");
        let reason = backup_late("It is late.".to_owned());
        assert_eq!((&*reason.code, reason.severity), ("BACKUP_LATE", Severity::Yellow));
    }
}
