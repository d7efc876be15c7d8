//! Every limit of the gateway itself, with its reason. What S3 limits is in `model::limits`, the
//! sizes of request documents are in the `s3` crate beside their readers.

use std::time::Duration;

/// Bytes of a request's head, request line included; far above what any S3 client sends.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields of a request: 2 KiB of user metadata in the shortest names, and room.
pub const HEADERS_MAX: usize = 100;

/// Bytes of a request target: a key of 1024 bytes, all percent-encoded, and a presigned query.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Bytes that hyper reads at a time at most: large enough that a big body costs few system calls,
/// small enough that many uploads at once stay cheap.
pub const READ_BUFFER_BYTES_MAX: usize = 512 * 1024;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 16 * 1024;

/// From the moment a connection could send a request until the request's head is complete. Also
/// ends connections that are kept alive and idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// For a TLS handshake: three round trips, from the far side of the world and over a bad line.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For telling a client in TLS that the connection ends.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a request body may stand still.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A body for whose bytes we have waited this long in all ...
pub const BODY_RATE_WINDOW: Duration = Duration::from_secs(30);

/// ... must have brought at least this many in that time: 1 KiB/s.
pub const BODY_RATE_BYTES_MIN: u64 = 30 * 1024;

/// How long a client may refuse to take any byte of an answer.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// How often a connection looks for a stalled write: the precision of that time-out.
pub const WRITE_STALL_CHECK: Duration = Duration::from_secs(10);

/// What is left of a body after an early error is read and thrown away up to this size, so that
/// the connection can be used again.
pub const DRAIN_BYTES_MAX: u64 = 64 * 1024;

/// How long that may take.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// After an error with a longer body the connection is closed; to let the client see the error
/// first, so many more bytes are thrown away: a part as clients cut them (8 MiB), twice over ...
pub const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// ... for at most so long.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long requests in flight may go on after the order to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

/// The pause after an `accept` that failed for want of file descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bodies up to this size are hashed where they are received: handing them to another thread costs
/// more than hashing them (some 160 µs of MD5).
pub const INLINE_DIGEST_BYTES_MAX: u64 = 128 * 1024;

/// Larger bodies are hashed on another thread, which is started for no less than this, so that
/// handing over is rare.
pub const DIGEST_BATCH_BYTES: usize = 256 * 1024;

/// What one body gathers at most while it waits to be hashed together with others: long enough for
/// uploads that take turns on the network to meet.
pub const GATHERED_BYTES: usize = 1024 * 1024;

/// How far a body's sender may be ahead of the hashing: what one upload may hold in memory beyond its
/// stripes, and the back-pressure on a client that is faster than MD5.
pub const BACKLOG_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Bytes of each body that are hashed in one go, before it is looked who else has some: 75 µs of MD5,
/// and sixteen of them still lie in a core's cache.
pub const DIGEST_SLICE_BYTES: usize = 64 * 1024;

/// An object up to this size is answered as one buffer, so that head and body leave in one write.
pub const SINGLE_WRITE_BYTES_MAX: u64 = 256 * 1024;

/// Objects that one DeleteObjects deletes at the same time.
pub const DELETES_IN_FLIGHT_MAX: usize = 64;
