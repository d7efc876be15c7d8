//! Why a call to another S3 endpoint failed.
//!
//! What always holds: no error shows a secret, also where the other end repeats one.

use std::io;

use http::StatusCode;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Unreachable(#[source] io::Error),
    /// Its certificate isn't trusted, or it speaks no TLS that we do.
    #[error(
        "no TLS connection ({0}); backup_ca names a file with the certificate authority to trust"
    )]
    Untrusted(#[source] io::Error),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// It refused, or failed.
    #[error("it answered {status}: {code}{message}{}", advice(code))]
    Refused {
        /// The status.
        status: StatusCode,
        /// The S3 code; the status' own words where it gave none.
        code: String,
        /// Its words, with a colon in front; empty where it gave none.
        message: String,
    },
    /// The answer can't be read.
    #[error("its answer can't be read: {0}")]
    Malformed(&'static str),
    /// It says that it got other bytes than were sent.
    #[error("it stored other bytes than were sent: the checksums differ")]
    Changed,
    /// What it has isn't as long as what was sent.
    #[error("it has {found} bytes of {sent} that were sent")]
    Incomplete {
        /// Bytes that it says it has.
        found: u64,
        /// Bytes that were sent.
        sent: u64,
    },
    /// The backup has more parts than S3 takes.
    #[error("the backup is larger than {0} bytes")]
    TooLarge(u64),
    /// The request can't be made of the settings.
    #[error("no request can be made of the settings: {0}")]
    Unmakeable(#[from] http::Error),
}

/// What the operator may look at, for what goes wrong at first.
fn advice(code: &str) -> &'static str {
    match code {
        "InvalidAccessKeyId" => " (look at backup_access_key)",
        "SignatureDoesNotMatch" => " (look at backup_secret_key)",
        "AccessDenied" => " (the key needs to list the bucket, and to put, read and delete in it)",
        "NoSuchBucket" => " (make the bucket there, or look at backup_bucket)",
        "AuthorizationHeaderMalformed" | "PermanentRedirect" => " (look at backup_region)",
        "RequestTimeTooSkewed" => " (look at this host's clock)",
        _ => "",
    }
}

impl RemoteError {
    /// Whether the same call may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut | Self::Changed => true,
            Self::Refused { status, code, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || matches!(&**code, "RequestTimeout" | "SlowDown" | "InternalError")
                    // Bytes were changed on the way.
                    || matches!(&**code, "BadDigest" | "XAmzContentSHA256Mismatch")
            }
            Self::Untrusted(_)
            | Self::Malformed(_)
            | Self::Incomplete { .. }
            | Self::TooLarge(_)
            | Self::Unmakeable(_) => false,
        }
    }
}

impl From<RemoteError> for io::Error {
    fn from(error: RemoteError) -> Self {
        io::Error::other(error)
    }
}
