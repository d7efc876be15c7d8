//! Every limit and interval of the metadata service, with its reason.

use std::time::Duration;

/// Commands of one session whose outcomes may be remembered at once: bounds the session's row.
pub const SESSION_WINDOW: u64 = 4096;

/// Raft's heartbeats: often enough that a lost leader is replaced within 3 s, seldom enough that
/// an idle cluster of five costs nothing.
pub const RAFT_HEARTBEAT: Duration = Duration::from_millis(150);

/// A follower that hears nothing for this long, and up to [`RAFT_ELECTION_MAX`], stands for
/// election: several heartbeats, and longer than an fsync on a busy disk.
pub const RAFT_ELECTION_MIN: Duration = Duration::from_secs(1);

/// See [`RAFT_ELECTION_MIN`].
pub const RAFT_ELECTION_MAX: Duration = Duration::from_millis(1800);

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

/// How long a peer may take for one chunk of a snapshot.
pub const SNAPSHOT_CHUNK_DEADLINE: Duration = Duration::from_secs(20);

/// How long a peer may take to install a snapshot.
pub const SNAPSHOT_INSTALL_DEADLINE: Duration = Duration::from_mins(10);

/// A disk that wasn't reported for so long is suspect: logged, nothing more.
pub const DISK_SUSPECT_AFTER: Duration = Duration::from_secs(5);

/// A disk that wasn't reported for so long is down.
pub const DISK_DOWN_AFTER: Duration = Duration::from_secs(10);

/// How often the leader looks for silent disks.
pub const DISK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the keeper looks after its replicas, besides when it is told of a failure.
pub const KEEPER_INTERVAL: Duration = Duration::from_secs(1);

/// How long the keeper waits for one membership change.
pub const MEMBERSHIP_DEADLINE: Duration = Duration::from_secs(30);

/// Rows of one answer, whatever the query asks for.
pub const ANSWER_ROWS_MAX: u32 = 10_000;
