//! Calls with patience: each is tried again after what may pass, until its time is up.
//!
//! In: calls. Out: answers of success, or why there is none. What always holds: a call ends in its
//! time, whatever the other end does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use s3::xml::reader;
use sha2::{Digest as _, Sha256};

use super::call::{Call, Signer};
use super::connection::{Answer, Connector};
use super::error::RemoteError;

/// The header of a body's SHA-256, by which the other end verifies what it has stored.
pub const CHECKSUM: &str = "x-amz-checksum-sha256";

/// A call is tried so often.
const ATTEMPTS_MAX: u32 = 5;

/// The pause after the first failure; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// Bytes of an error document that are looked at.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Characters of what the other end says that are told.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// One attempt.
    pub attempt: Duration,
    /// All of them.
    pub overall: Duration,
}

/// For calls without a large body.
pub const SHORT: Patience =
    Patience { attempt: Duration::from_secs(10), overall: Duration::from_secs(15) };

/// For calls that carry a part of a backup, or have one made of its parts. With that of a short call
/// this is less than the metadata keeps a backup that isn't read (`BACKUP_IDLE_MAX`); a part of 8 MiB
/// gets through it at 1.2 Mbit/s.
pub const LONG: Patience =
    Patience { attempt: Duration::from_mins(1), overall: Duration::from_secs(95) };

/// Calls an endpoint.
pub struct Client {
    connector: Connector,
    signer: Signer,
}

impl Client {
    /// By `connector`, as `signer`.
    pub const fn new(connector: Connector, signer: Signer) -> Self {
        Self { connector, signer }
    }

    /// Makes a call, and makes it again after what may pass. An answer is one of success.
    pub async fn call(&self, call: &Call, patience: Patience) -> Result<Answer, RemoteError> {
        let clock = self.connector.clock();
        let began = clock.monotonic();
        let (mut attempt, mut pause) = (1, PAUSE_FIRST);
        loop {
            let left = patience.overall.saturating_sub(clock.monotonic().saturating_sub(began));
            let error = match self.try_once(call, patience.attempt.min(left)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let left = patience.overall.saturating_sub(clock.monotonic().saturating_sub(began));
            if !error.is_transient() || attempt == ATTEMPTS_MAX || left <= pause {
                return Err(error);
            }
            tracing::debug!(%error, attempt, method = %call.method, "a call to another S3 is made again");
            clock.sleep(pause).await;
            (attempt, pause) = (attempt + 1, pause * 2);
        }
    }

    async fn try_once(&self, call: &Call, limit: Duration) -> Result<Answer, RemoteError> {
        let host = self.connector.endpoint().authority();
        let request = self.signer.sign(call, host, self.connector.clock().now())?;
        let answer = self.connector.exchange(request, limit).await?;
        if !answer.status.is_success() {
            return Err(self.refusal(answer.status, &answer.body));
        }
        let sent = call.headers.iter().find(|(name, _)| *name == CHECKSUM);
        match (sent, text(&answer.headers, CHECKSUM)) {
            // Not every endpoint knows checksums; all verify the hash in the signature.
            (Some((_, sent)), Some(stored)) if sent != stored => Err(RemoteError::Changed),
            _ => Ok(answer),
        }
    }

    /// What an answer that is no success says.
    pub fn refusal(&self, status: StatusCode, body: &Bytes) -> RemoteError {
        let document = reader::read(body, "Error", ERROR_BYTES_MAX).ok();
        let said = |name: &str| {
            let text = document.as_ref()?.child_text(name).filter(|text| !text.is_empty())?;
            Some(self.tellable(text))
        };
        RemoteError::Refused {
            status,
            code: said("Code").unwrap_or_else(|| "no reason given".to_owned()),
            message: said("Message").map(|text| format!(": {text}")).unwrap_or_default(),
        }
    }

    /// A text of the other end's as it may stand in a log: on one line, short, without our keys.
    fn tellable(&self, text: &str) -> String {
        let text = text
            .replace(self.signer.secret_key.expose(), "***")
            .replace(&self.signer.access_key, "***");
        let shown = text.chars().take(MESSAGE_CHARACTERS_MAX);
        shown.map(|one| if one.is_control() { ' ' } else { one }).collect()
    }
}

/// A header's text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of [`CHECKSUM`] for a body.
pub fn checksum(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}
