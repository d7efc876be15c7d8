//! The engine's limits, each with its reason. The defaults suit one gateway process.

use std::time::Duration;

use model::ids::NodeId;

/// Limits and intervals of an [`crate::Engine`].
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The node of this process: what moves to its disks is best carried out here.
    pub node: Option<NodeId>,
    /// Bytes of stripes, parity included, that all writers together hold: 26 stripes of 4+2.
    /// With the reads it keeps a server below 500 MB.
    pub write_budget_bytes: u64,
    /// Bytes that all readers together have asked for and not handed on yet. A reader that finds
    /// the budget spent goes on in small windows, so that slow readers can't stop the others.
    pub read_budget_bytes: u64,
    /// Stripes that one writer has under way: enough to overlap coding, network and disks.
    pub stripes_in_flight: usize,
    /// Stripes that one reader fetches ahead.
    pub stripes_ahead: usize,
    /// How long a writer waits for its share of the budget before it gives up.
    pub budget_wait: Duration,
    /// One append, with or without sync. Long, since a disk that is merely slow is outrun by the
    /// quorum and `straggler_max`.
    pub append_deadline: Duration,
    /// One sync of what was appended: a disk may have much to write.
    pub sync_deadline: Duration,
    /// One read of shards.
    pub read_deadline: Duration,
    /// One request to delete the shards of some extents.
    pub delete_deadline: Duration,
    /// The least that a writer waits for the last shards after it has a quorum.
    pub straggler_min: Duration,
    /// The most that it waits; in between it is ten times the usual latency.
    pub straggler_max: Duration,
    /// The least that a reader waits for a shard before it asks for parity too.
    pub hedge_min: Duration,
    /// The most that it waits; in between it is three times the usual latency.
    pub hedge_max: Duration,
    /// How long a writer looks for disks that take a stripe, failures and new maps included.
    pub placement_patience: Duration,
    /// A disk that failed a request is left alone for this long, where others can do.
    pub suspect_for: Duration,
    /// A node that lets a write wait for so long is asked whether it is there at all.
    pub suspect_after: Duration,
    /// How long such a node may take to answer that, and how long after that it is asked again.
    pub probe_deadline: Duration,
    /// See `probe_deadline`: a node that is back takes writes again within this.
    pub probe_interval: Duration,
    /// How long a stripe is held, from its first attempt, that can't be placed without nodes that
    /// this gateway can't reach. Another gateway may reach them: the client is to try there.
    pub reach_patience: Duration,
    /// How often the cluster map is asked for: a new one is known to all gateways within this and
    /// the time of a question.
    pub map_interval: Duration,
    /// How long the metadata is waited for: longer than an election, and than it takes to give up a
    /// leader that hangs; shorter than any SDK waits for an answer. After so much silence requests
    /// are refused at once.
    pub metadata_patience: Duration,
    /// For how long a gateway takes the lease of a job. It renews it three times in that time, and
    /// works on the job for two thirds of it without a renewal.
    pub lease_duration: Duration,
    /// How often the storage nodes are asked how full their disks are.
    pub usage_interval: Duration,
    /// Garbage is left alone for this long, so that readers that began before the delete end well.
    pub garbage_delay: Duration,
    /// How often the collector looks for garbage when it found none.
    pub collect_interval: Duration,
    /// How often extents found lacking shards are reported.
    pub report_interval: Duration,
    /// How often the repair queue is looked at when it held nothing to do; `None` where another
    /// process repairs.
    pub repair_interval: Option<Duration>,
    /// Bytes that repair and moves read and write per second while clients read or write, except for
    /// extents that have no shard to spare; 0 for no limit. A fraction of what one disk does, so that
    /// clients feel it little. An operator's order for the whole cluster counts more.
    pub repair_bytes_per_second: u64,
    /// How often the cluster map is looked at for slots that are to move; `None` where another process
    /// moves them.
    pub move_interval: Option<Duration>,
    /// How often it is looked for buckets that are to be recoded; `None` where another process does
    /// that.
    pub recode_interval: Option<Duration>,
    /// How long shards that a move left behind are kept on their old disk: longer than any gateway
    /// goes by an old map.
    pub stray_grace: Duration,
    /// Bytes of stripes under repair at once, besides those of writers and readers.
    pub repair_budget_bytes: u64,
    /// One request to verify shards: up to 32 MiB of them, from a slow disk that has other work.
    pub verify_deadline: Duration,
    /// How often disks are compared with the metadata; `None` where another process does that.
    pub reconcile_interval: Option<Duration>,
    /// Between two pages of that comparison, so that it costs little at any moment.
    pub reconcile_pause: Duration,
    /// How long shards that nobody owns and nobody can own are kept: time to notice, if something
    /// is very wrong.
    pub orphan_grace: Duration,
    /// How often disks are asked for shards that they know to be damaged.
    pub damage_interval: Duration,
    /// How long [`crate::Engine::shutdown`] waits for work in the background.
    pub shutdown_patience: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            node: None,
            write_budget_bytes: 160 << 20,
            read_budget_bytes: 128 << 20,
            stripes_in_flight: 3,
            stripes_ahead: 2,
            budget_wait: Duration::from_secs(30),
            append_deadline: Duration::from_secs(20),
            sync_deadline: Duration::from_secs(30),
            read_deadline: Duration::from_secs(10),
            delete_deadline: Duration::from_secs(30),
            straggler_min: Duration::from_secs(1),
            straggler_max: Duration::from_secs(10),
            hedge_min: Duration::from_millis(20),
            hedge_max: Duration::from_secs(1),
            placement_patience: Duration::from_secs(20),
            suspect_for: Duration::from_secs(3),
            suspect_after: Duration::from_secs(1),
            probe_deadline: Duration::from_secs(1),
            probe_interval: Duration::from_millis(250),
            reach_patience: Duration::from_secs(5),
            map_interval: Duration::from_secs(1),
            metadata_patience: Duration::from_secs(10),
            lease_duration: Duration::from_secs(30),
            usage_interval: Duration::from_secs(10),
            garbage_delay: Duration::from_mins(10),
            collect_interval: Duration::from_secs(5),
            report_interval: Duration::from_secs(1),
            repair_interval: Some(Duration::from_secs(5)),
            repair_bytes_per_second: 64 << 20,
            move_interval: Some(Duration::from_secs(2)),
            recode_interval: Some(Duration::from_secs(5)),
            stray_grace: Duration::from_mins(10),
            repair_budget_bytes: 32 << 20,
            verify_deadline: Duration::from_mins(1),
            reconcile_interval: Some(Duration::from_hours(6)),
            reconcile_pause: Duration::from_millis(100),
            orphan_grace: Duration::from_hours(24),
            damage_interval: Duration::from_secs(10),
            shutdown_patience: Duration::from_secs(5),
        }
    }
}
