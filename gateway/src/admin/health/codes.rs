//! The health codes: what each of them means, in the one table that `drystone admin explain` prints.
//!
//! In: nothing. Out: for every code a word that never changes, how grave it is, what causes it, what
//! follows, what to do, and how far data is from being lost. What always holds: scripts and alarms may
//! rely on a code's word, so one that is not used any more is never given another meaning.

use serde::{Deserialize, Serialize};

/// How grave something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The cluster serves and has something to spare; somebody should look in working hours.
    #[default]
    Yellow,
    /// Something can't be served, or one more failure loses it: somebody must act now.
    Red,
}

/// Whether a code keeps clients from being served, and so `/health/ready` from saying yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Never.
    Never,
    /// Where its message says so; it is red then.
    Sometimes,
    /// Always.
    Always,
}

/// What people are told about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What brings it about.
    pub cause: &'static str,
    /// What follows from it.
    pub effect: &'static str,
    /// What to do, with the commands to type.
    pub remedy: &'static str,
    /// How far data is from being lost.
    pub margin: &'static str,
}

macro_rules! codes {
    ($($name:ident $word:literal $severity:ident $blocking:ident {
        $cause:literal
        $effect:literal
        $remedy:literal
        $margin:literal
    })*) => {
        /// A health code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $cause] $name,)*
        }

        impl Code {
            /// All of them, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word: stable, in capitals.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// How grave it is at least.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// Whether it stops clients.
            pub const fn blocking(self) -> Blocking {
                match self { $(Self::$name => Blocking::$blocking,)* }
            }

            /// Cause, effect, remedy and margin.
            pub const fn explanation(self) -> Explanation {
                match self {
                    $(Self::$name => Explanation {
                        cause: $cause,
                        effect: $effect,
                        remedy: $remedy,
                        margin: $margin,
                    },)*
                }
            }
        }
    };
}

codes! {
    DataUnreadable "DATA_UNREADABLE" Red Sometimes {
        "More shards of some stripes are away than their parity makes up for: too many disks of a placement group can't be read, or too many shards of an extent are damaged."
        "Reads of the objects concerned fail; all others are served. Nothing is deleted because of it, and what comes back counts at once."
        "Bring the disks back: `drystone admin status` names those that are down and why. Start their nodes, or put the disks into another host and start that with them. Do not give up or wipe any of them before the data can be read again. `drystone admin object inspect BUCKET/KEY` shows where an object's shards are, and `drystone admin scrub all` which objects are hit."
        "None: data is lost unless shards come back. Restore from another copy what does not."
    }
    StripeAtRisk "STRIPE_AT_RISK" Red Never {
        "Some stripes have exactly as many readable shards as a reader needs, and nothing to spare."
        "All reads succeed. Their repair goes first and without a limit of bandwidth."
        "Do not stop, restart or remove anything until it is over: `drystone admin repair status` shows how far it is, and `drystone admin status` which disks are down. Bring those disks back, which is faster than rebuilding them, or add disks where the remaining ones are too few to rebuild on."
        "No further disk may fail."
    }
    StripeDegraded "STRIPE_DEGRADED" Yellow Never {
        "Some stripes lack shards: disks are down or were given up, or writes were taken while disks were missing."
        "All reads succeed, some with the help of parity. Repair makes the shards anew, those with the least to spare first; what is on a disk that is down waits until the disk is back, or out and rebuilt elsewhere."
        "Nothing, if it shrinks: watch `drystone admin repair status`. If it does not, bring back the disks that are down."
        "The message says how many more disks may fail."
    }
    Rebuilding "REBUILDING" Yellow Never {
        "Disks were given up, and their slots are being rebuilt on other disks from the remaining shards."
        "Reads and writes go on. Nothing else moves until it is done, and the background takes bandwidth for it."
        "Wait: `drystone admin moves status` shows how far it is. It needs free space on disks that are up: where it does not advance, add disks."
        "As STRIPE_DEGRADED and STRIPE_AT_RISK say beside it; full again when it is gone."
    }
    NoOpenGroup "NO_OPEN_GROUP" Yellow Sometimes {
        "No placement group has all of its disks up and with space: disks are down or full."
        "Objects are written with shards missing where a write quorum is left; these enter the repair queue with the write. Where no write quorum is left, and the message says so, every write is refused; where that is for want of space, reads and deletes go on."
        "Bring back the disks that are down. Where they are full, delete objects or add disks: `drystone admin status` shows which."
        "The message of STRIPE_DEGRADED or STRIPE_AT_RISK beside it says it."
    }
    DiskDown "DISK_DOWN" Yellow Never {
        "A disk is not heard of, or its own node says that it failed, or that it is read-only since a write or a sync failed."
        "It gets no new shards. What it holds is read from the others, and is made anew elsewhere when it stays away until it is given up (after 10 minutes, unless the cluster says otherwise)."
        "Start its node, or mount the disk again and restart the node. A disk whose writes fail is not to be trusted: replace it, and have its shards rebuilt now with `drystone admin disk out ID --yes`. `drystone admin status` shows why it is down, and the log of its node the error."
        "The message of STRIPE_DEGRADED or STRIPE_AT_RISK beside it says it."
    }
    DiskOut "DISK_OUT" Yellow Never {
        "A disk was down for so long that it was given up, or an operator gave it up while it had slots."
        "Its slots are rebuilt on other disks. When it comes back well before that is over, what it still holds counts at once."
        "Replace the disk: give the node a new, empty directory and restart it; the new disk takes its share by itself. `drystone admin disk out ID` says that the old one is gone for good, and ends this message once its slots are rebuilt."
        "Full again when REBUILDING is gone."
    }
    DiskSuspect "DISK_SUSPECT" Yellow Never {
        "A disk has not been heard of for some seconds, and is not down yet."
        "None yet. It is taken for down in a few seconds more, unless it is heard."
        "Nothing, unless it comes back often: then look at the node's load, its log and its network."
        "Unchanged until the disk is down."
    }
    DiskSlow "DISK_SLOW" Yellow Never {
        "A disk answers, and this gateway sees it take many times as long as its peers: a failing drive, a node with too much to do, or a bad link."
        "It gets no new objects while enough others can have them, and reads begin at the other shards. No redundancy is lost."
        "Look at the drive (`smartctl -a DEVICE`), the load of its node and the link. One that stays slow is about to fail: replace it."
        "Unchanged: it counts as up."
    }
    DiskFull "DISK_FULL" Yellow Never {
        "A disk has less free space than its reserve, which is kept for deletes, compaction and the metadata."
        "Its placement groups take no new objects. Reads, deletes and reclaiming of space go on, and it opens again by itself when space is free."
        "Delete objects, let lifecycle rules delete them, or add disks. Space of deleted objects comes back within minutes, after the collection and the compaction that follow. Other data on the same file system counts as well: `drystone admin status` shows live bytes, garbage and what is free."
        "Unchanged. What is full can't take what is rebuilt, though: a cluster that is full altogether can't heal."
    }
    DiskNearfull "DISK_NEARFULL" Yellow Never {
        "More of a disk's file system is taken than `drystone admin upkeep show` says it should be: 85 % unless `upkeep set --nearfull` says otherwise."
        "None yet. New objects go to emptier disks where there are some; above 90 % the disk is avoided, and at its reserve it takes nothing more (DISK_FULL)."
        "Add disks, or delete objects, before it is full: `drystone admin status` shows the sizes. Keep as much free in the cluster as its largest node holds, so that the loss of that node can be healed."
        "Unchanged, as long as what is left suffices for rebuilding a lost disk."
    }
    DiskDamaged "DISK_DAMAGED" Yellow Never {
        "A disk works, but some of what it holds does not have the checksum that was written with it, or regions of it can't be read."
        "Reads make up for it by parity, and repair writes the damaged shards anew."
        "Watch whether it grows: a disk that damages data again and again is failing, so replace it. `drystone admin scrub all` verifies everything now."
        "Stripes concerned have less to spare until they are repaired."
    }
    ScrubStale "SCRUB_STALE" Yellow Never {
        "A disk was not read through for more than two weeks, where every week is meant; it is too slow or too busy for its size, or was off."
        "Silent damage may lie on it unnoticed, and meet the loss of other disks."
        "Have it verified now: `drystone admin scrub disk ID`, at a time when clients need it least."
        "Unknown to the extent that damage goes unnoticed."
    }
    ToleranceLow "TOLERANCE_LOW" Yellow Never {
        "Some placement groups have more shards on one node than their coding has parity: there are too few nodes for the coding, or their sizes differ too much, or slots have yet to move."
        "While that node is away, the objects in those groups can't be read. Nothing is lost by it as long as its disks come back whole."
        "Add nodes, or disks in the smaller ones, until every node has at most as many shards of a group as there is parity; slots then move by themselves. If the topology is as you want it, mute it: `drystone admin health mute TOLERANCE_LOW --for 30d`."
        "Any disks as `drystone admin status` says; not the whole node that the message names."
    }
    DurabilityLow "DURABILITY_LOW" Yellow Never {
        "By the durability model the chance to keep an object for a year has fewer nines than the target of 11, at the rate that is set for rebuilding. Looked at are STANDARD, the classes that buckets use, and what has an older coding still. Where the cluster is too small to reach 11 with the coding, it has at least half a nine less than this coding has with the same disks, a rebuild rate of 50 MB/s for each disk and 10 minutes until a lost disk is given up."
        "Nothing is wrong now: rebuilding a lost disk would take so long that the next failures become likely to meet."
        "Let repair go faster or begin earlier (`drystone admin upkeep set --rate 512M --out-after 10m`, which counts at once), add disks so that more of them share the work, or choose a coding with more parity. `drystone durability --disks N --disk-size SIZE --coding K+M` compares what each of these gives."
        "As many disks as before; they would be missing for longer."
    }
    MovesPaused "MOVES_PAUSED" Yellow Never {
        "An operator has paused all moves of slots but the rebuilding of what is lost."
        "Drained disks do not get empty, new disks get no old data, and uneven ones stay uneven. Redundancy is not touched."
        "Let moves go on when the reason for the pause is over: `drystone admin moves resume`. If the pause is to last, mute it: `drystone admin health mute MOVES_PAUSED --for 1d`."
        "Unchanged."
    }
    NodesSilent "NODES_SILENT" Red Never {
        "Many storage nodes fell silent at once. More likely than that all of them died is that a switch, the power, or the network of the metadata failed."
        "Their disks are down but are not given up, so nothing is rebuilt: a mass rebuild for nothing would wear out the rest. What can be read of the others is served."
        "Bring power or network back; the nodes then count at once. `drystone admin node list` shows which are silent. If they are truly lost, give up each of their disks with `drystone admin disk out ID --yes`, and they are rebuilt as far as there are shards and space."
        "The message of STRIPE_DEGRADED, STRIPE_AT_RISK or DATA_UNREADABLE beside it says it."
    }
    GatewayCutOff "GATEWAY_CUT_OFF" Yellow Sometimes {
        "This gateway can't reach storage nodes, whatever the cluster thinks of them: the fault is between the two."
        "It writes to other disks and reads with the help of parity. Where too few can be reached for a write quorum, writes through this gateway are refused, and it says that it is not ready, so that a balancer sends clients to another."
        "Look at the network between this host and the nodes that keep the disks named: routes, firewalls (the internal port, 9002 unless chosen otherwise), cables. Other gateways may be well."
        "Unchanged: the disks are there."
    }
    MetaNoQuorum "META_NO_QUORUM" Red Always {
        "The metadata does not answer this process: no majority of its replicas is there, they have no leader, or they can't be reached from here."
        "Requests wait, then are refused. Nothing is lost: what was acknowledged is on a majority of the replicas."
        "Bring back the nodes that keep metadata replicas: a majority suffices, such as 2 of 3. `drystone admin status` on any of them tells which answer. If a majority is lost for good, put the metadata back from a backup: see `drystone admin metadata --help`."
        "Data is where it was. Of the metadata no further replica may be lost."
    }
    MetaDegraded "META_DEGRADED" Yellow Never {
        "Some voters of the metadata do not answer, or are fenced off because their own copy is damaged."
        "Reads and writes go on with the majority."
        "Bring back the nodes that keep them; a replica on a dead disk is made anew elsewhere by itself where a node is free. `drystone admin metadata status` shows them. A node that is gone for good: `drystone admin metadata remove --replica ID`."
        "The message says how many more replicas may fail before the cluster stops."
    }
    MetaDigestsDiffer "META_DIGESTS_DIFFER" Red Never {
        "A metadata replica stands at the same log entry as the leader and its tables have other digests: its memory, its disk or the program is at fault."
        "Clients are answered by the leader. Should the replica become the leader, they might be told what is not so."
        "Have all replicas read and compared: `drystone admin metadata check`. Remove the one that differs from the others, `drystone admin metadata remove --replica ID`, and let another be made: `drystone admin metadata add --node ID`. Test the memory of its host."
        "Data is where it was. Count the replica that differs as lost."
    }
    MetaHeld "META_HELD" Yellow Never {
        "The metadata was put back from a backup, or begun anew from the disks, so that it may not know all that the disks hold."
        "What it does not know is kept on the disks, so space of deleted objects of that time is not reclaimed."
        "Have the rest found again: `drystone admin metadata recover`. When the result is as it should be, let go of what is held: `drystone admin metadata release-held --yes`."
        "Unchanged for objects that are listed; the others are safe as long as they are held."
    }
    BackupLate "BACKUP_LATE" Yellow Never {
        "The newest backup of the metadata in one of the targets is older than three of its intervals."
        "Should all metadata replicas be lost at once, what was written since would have to be found again from the disks, which takes much longer."
        "Read the error in `drystone admin metadata status`: credentials, the other endpoint, or space. Take one by hand: `drystone admin metadata backup FILE`."
        "Data and replicas are where they were; the age of the backup is what a restore would begin with."
    }
    ClockSkew "CLOCK_SKEW" Yellow Never {
        "This host's clock and that of a metadata replica differ by more than 2 s."
        "Times of objects, lifecycle rules, retention and certificates are those of a wrong clock on one side; from 15 minutes on, signed requests of clients are refused."
        "Have the hosts' clocks kept by NTP or PTP: `timedatectl status` and `chronyc tracking` tell how they are. The message names the replicas: if all differ, it is this host's clock that is wrong."
        "Unchanged."
    }
    CertificateExpires "CERTIFICATE_EXPIRES" Yellow Never {
        "This node's certificate for the cluster's internal network ends in less than a week. It is renewed 10 days before its end, so renewing has failed since."
        "None yet. When it is over, the other nodes refuse this one."
        "Look for `the certificate was not renewed` in the node's log: the metadata must be reachable from it, and its clock be right. If it ends before that, make a token and join again with the same host directory; the node keeps its number and its disks."
        "Unchanged until it ends; then as if the node were lost."
    }
    MixedReleases "MIXED_RELEASES" Yellow Never {
        "Some nodes run an older release than others."
        "All is served. What the newer release adds is not used before the last node has it."
        "Go on with the upgrade: `drystone admin node list` shows the feature level of each node."
        "Unchanged."
    }
    MapOld "MAP_OLD" Red Always {
        "The metadata answers, but this gateway's copy of the cluster map was not confirmed for more than 30 s."
        "It may write to disks that are not in use any more; those writes are found to lack shards when they are committed."
        "Look at the gateway's log, its load and its way to the metadata. Restarting it does no harm."
        "Unchanged."
    }
    NoDisks "NO_DISKS" Red Always {
        "The cluster has no disks yet, or too few for a placement group."
        "Nothing can be stored."
        "Start storage nodes: the command that `drystone cluster init` printed, on each host. `drystone admin status` shows those that have come."
        "There is nothing to lose yet."
    }
    Stopping "STOPPING" Yellow Always {
        "This process was told to stop."
        "It finishes the requests that it has, and takes no more; a balancer sends clients elsewhere."
        "Nothing."
        "Unchanged; when it keeps disks they are down until it is back."
    }
}

impl Code {
    /// The code of a word, whatever its case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_explained_in_sentences() {
        let mut words = BTreeSet::new();
        for code in Code::ALL {
            let word = code.as_str();
            let is_word = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
            assert!(word.bytes().all(is_word) && words.insert(word), "{word}");
            assert_eq!(Code::parse(&word.to_lowercase()), Some(*code));
            let Explanation { cause, effect, remedy, margin } = code.explanation();
            for text in [cause, effect, remedy, margin] {
                assert!(text.ends_with('.') && text.len() > 5, "{word}: {text}");
                assert!(text.matches('`').count().is_multiple_of(2), "{word}: {text}");
            }
        }
        assert_eq!(Code::parse("NOTHING"), None);
    }

    #[test]
    fn what_always_blocks_is_red_but_for_the_order_to_stop() {
        for code in Code::ALL {
            if code.blocking() == Blocking::Always && *code != Code::Stopping {
                assert_eq!(code.severity(), Severity::Red, "{code:?}");
            }
        }
    }
}
