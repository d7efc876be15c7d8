//! Every limit and interval of the metadata service, with its reason.

use std::time::Duration;

use model::ids::NodeId;

/// Commands of one session whose outcomes may be remembered at once: bounds the session's row.
pub const SESSION_WINDOW: u64 = 4096;

/// Raft's heartbeats: often enough that a lost leader is replaced within 3 s, seldom enough that
/// an idle cluster of five costs nothing. Longer than a round trip through a slow network, too:
/// openraft gives up an answer that takes longer.
pub const RAFT_HEARTBEAT: Duration = Duration::from_millis(500);

/// A follower that hears nothing stands for election after [`RAFT_ELECTION_MAX`] (the leader's lease,
/// during which nobody is elected against it) and between this and that again: 2.2 s to 2.6 s. With
/// the election and a client's next try that is less than 3 s altogether; and an election, two round
/// trips with its preliminary one, fits in through a network of 400 ms a round trip.
pub const RAFT_ELECTION_MIN: Duration = Duration::from_millis(900);

/// See [`RAFT_ELECTION_MIN`].
pub const RAFT_ELECTION_MAX: Duration = Duration::from_millis(1300);

/// Sessions open at once, so that they all stay in memory.
pub const SESSIONS_MAX: usize = 4096;

/// Bytes of a gateway's name.
pub const GATEWAY_NAME_BYTES_MAX: usize = 256;

/// Bytes of an identity or a location.
pub const OWNER_NAME_BYTES_MAX: usize = 1024;

/// How long a completed upload is remembered.
pub const COMPLETED_KEPT: Duration = Duration::from_hours(7 * 24);

/// Old completions that one new one forgets at most: more than one, so that they get fewer.
pub const COMPLETED_PRUNED_PER_COMPLETION: usize = 4;

/// Followers write committed entries together once they hold so many commands ...
pub const APPLY_COMMANDS_MAX: usize = 1024;

/// ... or so many bytes ...
pub const APPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// ... or nothing came for so long.
pub const APPLY_IDLE: Duration = Duration::from_millis(50);

/// Batches up to this many commands are applied on the async thread; larger ones leave it.
pub const APPLY_INLINE_COMMANDS_MAX: usize = 64;

/// The state is made durable after so many commands: bounds what a crash replays.
pub const CHECKPOINT_COMMANDS: u64 = 16 * 1024;

/// The state is made durable at least this often while it changes.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// Raft entries between snapshots, after which the log is purged.
pub const SNAPSHOT_ENTRIES: u64 = 50_000;

/// Bytes of entries between snapshots, however few entries they are, or as many as the last snapshot
/// has, if that has more: an entry holds up to a megabyte of commands.
pub const SNAPSHOT_LOG_BYTES: u64 = 256 << 20;

/// How often a replica looks how many bytes its log has.
pub const LOG_BYTES_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Entries after a snapshot that the log may hold for a member that is catching up, before another
/// snapshot is made all the same ...
pub const LOG_ENTRIES_HELD_MAX: u64 = 20 * SNAPSHOT_ENTRIES;

/// ... or bytes of them: the log is on a disk that the tables need, too.
pub const LOG_BYTES_HELD_MAX: u64 = 1 << 30;

/// How long a snapshot that could not be written is left alone.
pub const SNAPSHOT_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How long an inspection of a replica's files takes, whatever their size: damage to what nobody reads
/// is found within twice that.
pub const INSPECTION_PERIOD: Duration = Duration::from_hours(6);

/// Bytes of the state that an inspection reads at a time.
pub const INSPECTION_BYTES: u64 = 1024 * 1024;

/// Entries that stay in the log behind a snapshot, for followers that are a little late.
pub const LOG_ENTRIES_KEPT: u64 = 5_000;

/// Memory that the state's database may use for pages.
pub const DATABASE_CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of a log segment: purging deletes whole segments.
pub const LOG_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes of one log record's payload: above a full batch of large commands.
pub const LOG_PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Entries that the log keeps in memory for replication and application.
pub const LOG_CACHE_ENTRIES: usize = 4096;

/// Bytes of those entries.
pub const LOG_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Appends that one fdatasync may cover.
pub const LOG_GROUP_MAX: usize = 1024;

/// Bytes of commands in one Raft entry, beyond which no further request joins it.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Raft entries proposed and not yet applied: while they are under way, the next one gathers.
pub const BATCHES_IN_FLIGHT_MAX: usize = 2;

/// Commands waiting for a batch; beyond that the answer is `Overloaded`.
pub const QUEUE_COMMANDS_MAX: usize = 16 * 1024;

/// Queries waiting for a read index; beyond that the answer is `Overloaded`.
pub const QUERIES_WAITING_MAX: usize = 16 * 1024;

/// How long the leader waits for a proposal or a read index. Below the client's attempt, so that
/// the client hears the leader's own answer.
pub const QUORUM_DEADLINE: Duration = Duration::from_secs(4);

/// Bytes of a snapshot that are sent, and checksummed, at a time.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;

/// What a snapshot leaves free of the disk: commits and the log go on.
pub const SNAPSHOT_SPACE_RESERVE_BYTES: u64 = 64 << 20;

/// How long a peer may take for one chunk of a snapshot.
pub const SNAPSHOT_CHUNK_DEADLINE: Duration = Duration::from_secs(20);

/// How long a peer may take to install a snapshot.
pub const SNAPSHOT_INSTALL_DEADLINE: Duration = Duration::from_mins(10);

/// How often the leader looks for silent disks.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the keeper looks after its replicas, besides when it is told of a failure.
pub const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// How long the keeper waits for one membership change.
pub const MEMBERSHIP_DEADLINE: Duration = Duration::from_secs(30);

/// The longest lease of a job: a gateway that is lost keeps others from the job for so long.
pub const LEASE_MAX: Duration = Duration::from_hours(1);

/// Join tokens at once: they lie in one row.
pub const TOKENS_MAX: usize = 256;

/// Nodes that one token may let in.
pub const TOKEN_USES_MAX: u32 = 1000;

/// Bytes of the authority's certificate, and of its sealed key.
pub const AUTHORITY_BYTES_MAX: usize = 16 * 1024;

/// Nodes of a cluster: they lie in the cluster map.
pub const NODES_MAX: usize = 10_000;

/// Bytes of each text that a node says of itself.
pub const NODE_TEXT_BYTES_MAX: usize = 256;

/// Health codes that are muted at once: there are fewer codes.
pub const MUTES_MAX: usize = 256;

/// Metadata replicas in the cluster map: a few more than vote, while they move.
pub const REPLICAS_MAX: usize = 64;

/// Removed nodes that are remembered. An older one may join again, as a new node with a token.
pub const REMOVED_NODES_MAX: usize = 4096;

/// Forgotten replicas that are remembered: far more than could be asked for late.
pub const FORGOTTEN_REPLICAS_MAX: usize = 1024;

/// Bytes of each text that is said of a disk: a path is the longest.
pub const DISK_TEXT_BYTES_MAX: usize = 4096;

/// Backups that may be taken from a replica at once: one for each target of the schedule, and one for
/// an operator.
pub const BACKUPS_OPEN_MAX: usize = 3;

/// A backup that wasn't read for so long is forgotten.
pub const BACKUP_IDLE_MAX: Duration = Duration::from_mins(2);

/// Bytes that a backup leaves free on the metadata's disk, for the log and the tables.
pub const BACKUP_SPACE_RESERVE_BYTES: u64 = 256 * 1024 * 1024;

/// How long whoever takes a backup waits without getting a byte.
pub const BACKUP_PATIENCE: Duration = Duration::from_mins(1);

/// A follower that answered within this time is there: a dozen heartbeats.
pub const FOLLOWER_HEARD_WITHIN: Duration = Duration::from_secs(2);

/// A learner whose log lacks no more entries than this may vote: it has them in no time.
pub const READY_ENTRIES: u64 = 1000;

/// A voter that hasn't answered for so long makes room for a spare, if there is one: longer than a
/// restart takes.
pub const VOTER_SILENT_AFTER: Duration = Duration::from_mins(1);

/// How long a replica may be missing where it is placed, while there is no disk for another.
pub const REPLICA_MISSING_AFTER: Duration = Duration::from_mins(1);

/// How long the cluster may have too few replicas before a node whose turn it isn't makes one.
pub const TOO_FEW_AFTER: Duration = Duration::from_secs(30);

/// How long the keeper waits for another replica to say that it is there.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(1);

/// How often a replica that is asked for its status looks whether its tables are free, and ...
pub const STATUS_ATTEMPTS: u32 = 5;

/// ... how long it waits in between: all of it well within [`PROBE_DEADLINE`].
pub const STATUS_PAUSE: Duration = Duration::from_millis(20);

/// How long a leader waits for its successor: beyond that, waiting for an election costs no more.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(2);

/// How often it looks whether the successor leads.
pub const TRANSFER_POLL: Duration = Duration::from_millis(5);

/// Checks of a replica at once: each keeps the old pages that it reads.
pub const CAPTURES_MAX: usize = 4;

/// How long a replica waits for the entry that its tables are to be checked at.
pub const DIGEST_PATIENCE: Duration = Duration::from_secs(30);

/// How long a replica may take to read all its rows.
pub const CHECK_DEADLINE: Duration = Duration::from_mins(30);

/// Entries between the last one and the one that replicas are first checked at: room for the
/// question to arrive before the entry is applied. Doubled when it doesn't.
pub const CHECK_MARGIN: u64 = 16;

/// The largest such room.
pub const CHECK_MARGIN_MAX: u64 = 4096;

/// How often the leader looks how far its followers are.
pub const FOLLOWER_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Entries that a follower may lack before new commands wait for it: fewer than the log keeps
/// behind a snapshot, with room for what comes between two looks.
pub const FOLLOWER_LAG_MAX: u64 = LOG_ENTRIES_KEPT * 3 / 5;

/// A follower that got no entry for so long isn't slow: it is stuck, or takes a snapshot.
pub const FOLLOWER_STUCK_AFTER: Duration = Duration::from_secs(5);

/// A leader that no quorum answered for so long tells its clients to ask another: the others are
/// about to elect one.
pub const QUORUM_SILENT_AFTER: Duration = Duration::from_secs(2);

/// Rows of one answer, whatever the query asks for.
pub const ANSWER_ROWS_MAX: u32 = 10_000;

/// How long a node's certificate is valid; nodes renew after two thirds of that.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// Joins that may fail from one address within [`JOIN_FAILURES_WINDOW`] before more aren't looked
/// at: a person who mistypes gets through, guessing doesn't.
pub const JOIN_FAILURES_MAX: u32 = 5;

/// See [`JOIN_FAILURES_MAX`].
pub const JOIN_FAILURES_WINDOW: Duration = Duration::from_mins(1);

/// Addresses whose failures are remembered.
pub const JOIN_ADDRESSES_MAX: usize = 1024;

/// Nodes with numbers up to this one may come back to tables that don't know them; while some may,
/// new ones get greater numbers.
pub const ADOPTED_NODES_MAX: NodeId = NodeId(1 << 20);

/// How long a message between replicas may take: more than a round trip through a slow network.
/// openraft's own bound is the interval of heartbeats, with which a network whose round trip is
/// longer would never carry one answer.
pub const RAFT_MESSAGE_DEADLINE: Duration = Duration::from_secs(2);
