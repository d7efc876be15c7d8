//! The secrets of a store, `secrets.toml`, mode 0600, the same in every data directory: the
//! cluster key, and the root credentials if they were generated. Kept in each directory, so that
//! any of them is enough; whoever can read a data directory as its owner can read the store.
//! In the host directories of a cluster's metadata nodes, and nowhere else, it has the authority seal
//! key, too: it opens the key by which nodes are admitted.

use std::fmt;
use std::fs;
use std::path::Path;

use metadata::authority_seal::SealKeys;
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authority_seal_key: Option<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}

impl Secrets {
    /// New secrets, without root credentials.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self {
            cluster_key: draw_key(entropy),
            root_access_key: None,
            root_secret_key: None,
            authority_seal_key: None,
        }
    }

    /// The key that seals owner records.
    pub fn cluster_key(&self) -> Option<[u8; 32]> {
        hex::decode(&self.cluster_key).ok()?.try_into().ok()
    }

    /// The key that seals the key of the certificate authority, where it is known.
    pub fn authority_seal_key(&self) -> Option<[u8; 32]> {
        hex::decode(self.authority_seal_key.as_ref()?).ok()?.try_into().ok()
    }

    /// Draws an authority seal key, unless there is one.
    pub fn with_authority_seal_key(mut self, entropy: &dyn Entropy) -> Self {
        self.authority_seal_key.get_or_insert_with(|| draw_key(entropy));
        self
    }

    /// What those get to know who admit nobody.
    pub fn without_authority_seal_key(mut self) -> Self {
        self.authority_seal_key = None;
        self
    }

    /// What opens the key of the certificate authority.
    pub fn seal_keys(&self) -> Option<SealKeys> {
        Some(SealKeys { authority: self.authority_seal_key(), cluster: self.cluster_key()? })
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

fn draw_key(entropy: &dyn Entropy) -> String {
    let mut key = [0u8; 32];
    entropy.fill(&mut key);
    hex::encode(key)
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
    let is_sound = secrets.cluster_key().is_some()
        && secrets.authority_seal_key.is_some() == secrets.authority_seal_key().is_some();
    is_sound.then_some(secrets)
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

#[cfg(test)]
mod tests {
    use wire::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn only_metadata_nodes_learn_the_authority_seal_key() {
        let entropy = SeededEntropy::new(1);
        let of_store = Secrets::generate(&entropy);
        assert_eq!(of_store.authority_seal_key(), None, "a store alone has no authority");
        let full = of_store.clone().with_authority_seal_key(&entropy);
        let key = full.authority_seal_key().expect("drawn");
        assert_ne!(Some(key), full.cluster_key());
        assert_eq!(full.clone().with_authority_seal_key(&entropy), full, "drawn once");
        let told = decode(&encode(&full).expect("encoded")).expect("decoded");
        assert_eq!(told, full);
        let text = encode(&full.without_authority_seal_key()).expect("encoded");
        assert!(!text.contains(&hex::encode(key)) && !text.contains("seal"), "{text}");
        assert_eq!(decode(&text), Some(of_store));
    }

    /// A file of a release that didn't have the key.
    #[test]
    fn a_file_without_the_key_is_read() {
        let body = format!("cluster_key = \"{}\"\n", "07".repeat(32));
        let text = format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes()));
        let secrets = decode(&text).expect("read");
        assert_eq!(secrets.cluster_key(), Some([7; 32]));
        assert_eq!(secrets.seal_keys().expect("keys").authority, None);
        assert_eq!(encode(&secrets).expect("encoded"), text, "and written as it was");
    }

    #[test]
    fn a_seal_key_that_is_none_is_damage() {
        let body =
            format!("cluster_key = \"{}\"\nauthority_seal_key = \"0102\"\n", "07".repeat(32));
        let text = format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes()));
        assert_eq!(decode(&text), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let entropy = SeededEntropy::new(1);
        let mut secrets = Secrets::generate(&entropy).with_authority_seal_key(&entropy);
        secrets.generate_root(&entropy);
        assert_eq!(format!("{secrets:?}"), "Secrets(redacted)");
    }
}
