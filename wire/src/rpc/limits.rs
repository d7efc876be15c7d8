//! Every limit of the transport, with its reason.

use std::time::Duration;

/// Bytes of one piece of a frame: what a small frame may have to wait for on its connection. Half a
/// millisecond at 1 Gbit/s.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Bytes of a chunk at most, with the head of a frame of the most attachments.
pub(super) const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + (32 << 10);

/// Frames up to here overtake larger ones, and travel in one piece.
pub(super) const SMALL_FRAME_BYTES: usize = 32 << 10;

/// Small frames that are written together, at most.
pub(super) const BATCH_BYTES: usize = 64 << 10;

/// Parts of a frame up to here are copied, so that they are written together with their neighbours.
pub(super) const COPIED_BYTES: usize = 4 << 10;

/// Large frames whose pieces may be mixed on one connection: more would only make all of them late,
/// and each takes memory at the receiver.
pub(super) const INTERLEAVED_FRAMES: usize = 4;

/// Bytes read ahead from a socket, so that a TLS record takes no more than a system call.
pub(super) const READ_AHEAD_BYTES: usize = 64 << 10;

/// Bytes that TLS takes in before it wants to be written.
pub(super) const TLS_BUFFER_BYTES: usize = 128 << 10;

/// Bytes that wait unsent in the kernel: what is there can't be overtaken any more.
pub(super) const KERNEL_UNSENT_BYTES: u32 = 256 << 10;

/// How often a server tells that it still works on something, and either side looks around.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Silent ticks with requests waiting after which a client takes a connection for dead.
pub(super) const SILENT_TICKS_MAX: u32 = 5;

/// How long the kernel keeps a connection whose peer acknowledges nothing or takes nothing in. The
/// latter is how a busy server holds its clients back, which must not break their connections; a
/// dead one is noticed by its silence, long before.
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// How long after it said that it is going away a server waits for a client without requests to
/// hang up: then nothing that the client sent can be lost unanswered.
pub(super) const HANG_UP_TICKS: u32 = 2;

/// Peers that are remembered as having been complained about.
pub(super) const LOGGED_PEERS_MAX: usize = 1024;

/// How often the same peer is complained about.
pub(super) const LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How long to wait when no connection can be accepted: the process is out of descriptors.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pause after a first failed attempt to connect; doubles up to
/// [`ClientOptions::backoff_max`].
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// What one more request counts beside its bytes, when the least busy connection is sought: its
/// answer's size isn't known.
pub(super) const REQUEST_WEIGHT_BYTES: u64 = 64 << 10;

/// What a connection may carry before another one is opened beside it.
pub(super) const SPREAD_BYTES: u64 = 512 << 10;

/// Addresses for which an empty pool is kept.
pub(super) const ADDRESSES_MAX: usize = 4096;

/// The longest that a request of a node may be worked on, whatever deadline it comes with.
pub(super) const DEADLINE_MAX: Duration = Duration::from_hours(1);

/// The same for a peer without a certificate.
pub(super) const ANONYMOUS_DEADLINE_MAX: Duration = Duration::from_mins(1);

/// How long a connection without a certificate and without requests is kept.
pub(super) const ANONYMOUS_IDLE: Duration = Duration::from_secs(10);

/// What a server allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections altogether: each takes about 100 KiB of memory and a descriptor.
    pub connections_max: usize,
    /// Connections of one node.
    pub connections_per_peer_max: usize,
    /// Connections from one address of peers without a certificate.
    pub anonymous_connections_per_address_max: usize,
    /// Connections from one address that haven't proven yet whose they are.
    pub handshakes_per_address_max: usize,
    /// How long a peer may take to prove who it is.
    pub handshake_timeout: Duration,
    /// Requests of one connection that are carried out or answered at the same time.
    pub requests_in_flight_max: usize,
    /// Bytes of those requests and their answers; over that, the connection isn't read from.
    pub bytes_in_flight_max: usize,
    /// How long a connection without requests is kept. Longer than the clients' own, so that it is
    /// they who hang up.
    pub idle: Duration,
    /// Bytes of a frame of a peer without a certificate.
    pub anonymous_frame_bytes_max: usize,
    /// Requests in flight of a connection without a certificate.
    pub anonymous_requests_in_flight_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 8192,
            connections_per_peer_max: 64,
            anonymous_connections_per_address_max: 4,
            handshakes_per_address_max: 128,
            handshake_timeout: Duration::from_secs(5),
            requests_in_flight_max: 1024,
            bytes_in_flight_max: 128 << 20,
            idle: Duration::from_mins(5),
            anonymous_frame_bytes_max: 64 << 10,
            anonymous_requests_in_flight_max: 2,
        }
    }
}

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// How long a connection may take to be there, proven and all.
    pub connect_timeout: Duration,
    /// The longest pause between two attempts to connect to the same peer.
    pub backoff_max: Duration,
    /// How long a connection without requests is kept.
    pub idle: Duration,
    /// Connections to one peer for shards; the other services have one each.
    pub shard_connections_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            backoff_max: Duration::from_secs(1),
            idle: Duration::from_mins(1),
            shard_connections_max: 4,
        }
    }
}
