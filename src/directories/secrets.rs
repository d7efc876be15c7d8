//! The secrets of a store, `secrets.toml`, mode 0600, the same in every data directory: the
//! cluster key, and the root credentials if they were generated. Kept in each directory, so that
//! any of them is enough; whoever can read a data directory as its owner can read the store.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;
use wire::entropy::Entropy;

use crate::settings::RootCredentials;

/// The file's name.
pub const NAME: &str = "secrets.toml";
/// The name under which it is written before it takes its place.
pub const TEMPORARY_NAME: &str = "secrets.toml.tmp";

const CHECKSUM_LABEL: &str = "# xxh3: ";

/// The secrets of a store.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    cluster_key: String,
    root_access_key: Option<String>,
    root_secret_key: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}

impl Secrets {
    /// New secrets, without root credentials.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = [0u8; 32];
        entropy.fill(&mut key);
        Self { cluster_key: hex::encode(key), root_access_key: None, root_secret_key: None }
    }

    /// The key that seals owner records.
    pub fn cluster_key(&self) -> Option<[u8; 32]> {
        hex::decode(&self.cluster_key).ok()?.try_into().ok()
    }

    /// The stored root credentials.
    pub fn root(&self) -> Option<RootCredentials> {
        Some(RootCredentials {
            access_key: self.root_access_key.clone()?,
            secret_key: self.root_secret_key.clone()?,
        })
    }

    /// Replaces the root credentials.
    pub fn set_root(&mut self, root: &RootCredentials) {
        self.root_access_key = Some(root.access_key.clone());
        self.root_secret_key = Some(root.secret_key.clone());
    }

    /// Draws root credentials: 20 and 40 characters, as AWS has them.
    pub fn generate_root(&mut self, entropy: &dyn Entropy) -> RootCredentials {
        let draw = |alphabet: &[u8], length: usize| -> String {
            (0..length)
                .map(|_| char::from(alphabet[entropy.below(alphabet.len() as u64) as usize]))
                .collect()
        };
        let access_key = draw(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 20);
        let secret_key =
            draw(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 40);
        self.root_access_key = Some(access_key.clone());
        self.root_secret_key = Some(secret_key.clone());
        RootCredentials { access_key, secret_key }
    }
}

/// Reads the secrets; `None` when there are none or they are damaged: another directory has them.
pub fn read(directory: &Path) -> Option<Secrets> {
    decode(&fs::read_to_string(directory.join(NAME)).ok()?)
}

/// Reads the content of a secrets file; `None` when it is damaged.
pub fn decode(text: &str) -> Option<Secrets> {
    let (first, body) = text.split_once('\n')?;
    let checksum = u64::from_str_radix(first.strip_prefix(CHECKSUM_LABEL)?, 16).ok()?;
    if checksum != XxHash3_64::oneshot(body.as_bytes()) {
        return None;
    }
    let secrets: Secrets = toml::from_str(body).ok()?;
    secrets.cluster_key().map(|_| secrets)
}

/// Writes the secrets, durably and as a whole.
pub fn write(directory: &Path, secrets: &Secrets) -> std::io::Result<()> {
    if read(directory).as_ref() == Some(secrets) {
        return Ok(());
    }
    let text = encode(secrets).map_err(std::io::Error::other)?;
    super::replace_file(directory, TEMPORARY_NAME, NAME, &text)
}

/// The content of a secrets file.
pub fn encode(secrets: &Secrets) -> Result<String, toml::ser::Error> {
    let body = toml::to_string(secrets)?;
    Ok(format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes())))
}
