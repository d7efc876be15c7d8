//! What this process gives reason for by itself: whether it hears the metadata, reaches the disks, has
//! a certificate, and is to stop.

use std::time::Duration;

use engine::{OutOfReach, SlowDisk};
use model::ids::DiskId;
use model::time::Timestamp;
use s3::date;

use super::{Code, Reason};

/// A certificate that ends sooner than this should have been renewed days ago: it is renewed after two
/// thirds of 30 days.
const CERTIFICATE_LEFT_MIN: Duration = Duration::from_hours(7 * 24);

/// Less than this is left for a person to act in.
const CERTIFICATE_LEFT_URGENT: Duration = Duration::from_hours(24);

impl Reason {
    /// The metadata service doesn't answer, for this long, because of that.
    pub fn meta_no_quorum(silence: Duration, cause: &str) -> Self {
        let seconds = silence.as_secs();
        let message = format!("The metadata has not answered for {seconds} s: {cause}.");
        Self::blocking(Code::MetaNoQuorum, message)
    }

    /// The gateway's copy of the cluster map wasn't confirmed for this long, or never was.
    pub fn map_old(age: Option<Duration>) -> Self {
        let message = match age {
            Some(age) => format!(
                "This gateway's cluster map was last known to be the newest {} s ago.",
                age.as_secs()
            ),
            None => "This gateway has no cluster map yet.".to_owned(),
        };
        Self::blocking(Code::MapOld, message)
    }

    /// This gateway can't reach disks that may well be up.
    pub fn gateway_cut_off(lost: &OutOfReach) -> Self {
        let disks = lost.disks.iter().map(DiskId::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("This gateway can't reach the storage nodes of disks {disks}");
        if lost.can_write {
            Self::warning(Code::GatewayCutOff, format!("{message}; it writes to others."))
        } else {
            let message = format!("{message}, and the others are too few to write to.");
            Self::blocking(Code::GatewayCutOff, message)
        }
    }

    /// The process was told to stop.
    pub fn stopping() -> Self {
        let message = "This process was told to stop and takes no new work.";
        Self::blocking(Code::Stopping, message.to_owned())
    }

    /// The metadata service answers, but nobody has made the cluster yet.
    pub fn no_disks() -> Self {
        Self::blocking(Code::NoDisks, "The cluster has no disks yet.".to_owned())
    }
}

/// That disks are far slower than their peers, as this gateway sees it.
pub fn disk_slow(slow: &[SlowDisk]) -> Option<Reason> {
    let told = |slow: &SlowDisk| {
        let SlowDisk { disk, node, kind, typical, peers, .. } = slow;
        let whole =
            if slow.is_whole_node { format!(" with all of node {node}") } else { String::new() };
        format!(
            "disk {disk}{whole}: a {} takes {} ms, others {} ms",
            kind.as_str(),
            typical.as_millis(),
            peers.as_millis()
        )
    };
    let told: Vec<String> = slow.iter().map(told).collect();
    (!told.is_empty()).then(|| {
        let message = format!(
            "Disks are far slower than their peers, or were a moment ago and are watched ({}).",
            told.join("; ")
        );
        Reason::warning(Code::DiskSlow, message)
    })
}

/// That this node's certificate ends soon and wasn't renewed.
pub fn certificate_expires(expires: Timestamp, now: Timestamp) -> Option<Reason> {
    let left = Duration::from_nanos(expires.0.saturating_sub(now.0));
    if left >= CERTIFICATE_LEFT_MIN {
        return None;
    }
    let when = date::iso8601(expires);
    let message = format!("This node's certificate ends at {when} and could not be renewed.");
    let reason = Reason::warning(Code::CertificateExpires, message);
    Some(if left < CERTIFICATE_LEFT_URGENT { reason.as_red() } else { reason })
}

#[cfg(test)]
mod tests {
    use engine::SlowKind;
    use model::ids::NodeId;

    use super::super::Severity;
    use super::*;

    #[test]
    fn what_is_out_of_reach_stops_only_who_cannot_write_without_it() {
        let lost = |can_write| OutOfReach { disks: vec![DiskId(2), DiskId(5)], can_write };
        let warning = Reason::gateway_cut_off(&lost(true));
        assert_eq!((&*warning.code, warning.blocking), ("GATEWAY_CUT_OFF", false));
        assert_eq!(warning.severity, Severity::Yellow);
        let blocking = Reason::gateway_cut_off(&lost(false));
        assert_eq!((&*blocking.code, blocking.blocking), ("GATEWAY_CUT_OFF", true));
        assert_eq!(blocking.severity, Severity::Red);
        assert!(
            blocking.message.contains("disks 2, 5, and the others are too few"),
            "{blocking:?}"
        );
    }

    #[test]
    fn slow_disks_are_told_with_their_peers() {
        let slow = SlowDisk {
            disk: DiskId(3),
            node: NodeId(2),
            is_whole_node: false,
            kind: SlowKind::Reads,
            typical: Duration::from_millis(400),
            peers: Duration::from_millis(5),
            lasting: Duration::from_mins(1),
        };
        assert_eq!(disk_slow(&[]), None);
        let reason =
            disk_slow(&[slow, SlowDisk { is_whole_node: true, ..slow }]).expect("a reason");
        assert_eq!((&*reason.code, reason.severity), ("DISK_SLOW", Severity::Yellow));
        let message = "Disks are far slower than their peers, or were a moment ago and are watched \
                       (disk 3: a read takes 400 ms, others 5 ms; \
                       disk 3 with all of node 2: a read takes 400 ms, others 5 ms).";
        assert_eq!(reason.message, message);
    }

    #[test]
    fn silence_an_old_map_and_the_order_to_stop_are_in_clients_way() {
        let check = |reason: Reason, code: &str, message: &str| {
            assert_eq!((&*reason.code, &*reason.message), (code, message));
            assert!(reason.blocking);
        };
        check(
            Reason::meta_no_quorum(Duration::from_secs(7), "it has no leader"),
            "META_NO_QUORUM",
            "The metadata has not answered for 7 s: it has no leader.",
        );
        check(
            Reason::map_old(Some(Duration::from_secs(31))),
            "MAP_OLD",
            "This gateway's cluster map was last known to be the newest 31 s ago.",
        );
        check(Reason::map_old(None), "MAP_OLD", "This gateway has no cluster map yet.");
        let message = "This process was told to stop and takes no new work.";
        check(Reason::stopping(), "STOPPING", message);
        check(Reason::no_disks(), "NO_DISKS", "The cluster has no disks yet.");
    }

    #[test]
    fn a_certificate_that_was_not_renewed_is_told_in_its_last_week() {
        let day = |days: u64| Timestamp(days * 24 * 3600 * 1_000_000_000);
        let check = |left: u64, expected| {
            let reason = certificate_expires(day(100 + left), day(100));
            assert_eq!(reason.map(|reason| reason.severity), expected, "{left} days");
        };
        check(30, None);
        check(7, None);
        check(6, Some(Severity::Yellow));
        check(1, Some(Severity::Yellow));
        check(0, Some(Severity::Red));
        let over = certificate_expires(day(90), day(100)).expect("a reason");
        assert_eq!(
            (&*over.code, over.severity, over.blocking),
            ("CERTIFICATE_EXPIRES", Severity::Red, false)
        );
    }
}
