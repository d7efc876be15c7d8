//! The identity file of a data directory, `drystone.toml`: which disk of which cluster it is.
//!
//! ```toml
//! # xxh3: 0123456789abcdef
//! format = 1
//! cluster = "…32 hex digits…"
//! disk = "…32 hex digits…"
//! coding = "4+2"
//! founded = true
//!
//! [[members]]
//! path = "/data/1"
//! own_file_system = true
//! ```
//!
//! The first line is the XXH3-64 checksum of all that follows it. Version history: 1, the first.

use std::fs;
use std::path::Path;

use model::coding::Coding;
use model::ids::{ClusterId, DiskUuid};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// The file's name.
pub const NAME: &str = "drystone.toml";
/// The name under which it is written before it takes its place.
pub const TEMPORARY_NAME: &str = "drystone.toml.tmp";

const FORMAT: u32 = 1;
const CHECKSUM_LABEL: &str = "# xxh3: ";

/// Which disk a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The disk.
    pub disk: DiskUuid,
    /// The coding that the store was made with.
    pub coding: Coding,
    /// Whether the store's metadata was made; until then it holds nothing, and an interrupted
    /// first start may be begun again.
    pub founded: bool,
    /// All directories of the store at its last start.
    pub members: Vec<Member>,
}

/// A directory of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its absolute path.
    pub path: String,
    /// Whether it was a file system of its own.
    pub own_file_system: bool,
}

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    cluster: String,
    disk: String,
    coding: String,
    founded: bool,
    members: Vec<Member>,
}

/// Why an identity can't be told.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file can't be read.
    #[error("its identity file can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file's bytes are not what was written.
    #[error("its identity file is damaged")]
    Damaged,
    /// A later version of this program wrote it.
    #[error("its identity file has the newer format version {0}")]
    Newer(u32),
}

/// Reads the identity; `None` when the directory has none.
pub fn read(directory: &Path) -> Result<Option<Identity>, IdentityError> {
    let bytes = match fs::read(directory.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8(bytes).map_err(|_| IdentityError::Damaged)?;
    decode(&text).map(Some)
}

/// Writes the identity, durably and as a whole.
pub fn write(directory: &Path, identity: &Identity) -> std::io::Result<()> {
    let text = encode(identity).map_err(std::io::Error::other)?;
    if fs::read_to_string(directory.join(NAME)).is_ok_and(|old| old == text) {
        return Ok(());
    }
    super::replace_file(directory, TEMPORARY_NAME, NAME, &text)
}

fn encode(identity: &Identity) -> Result<String, toml::ser::Error> {
    let body = toml::to_string(&Document {
        format: FORMAT,
        cluster: identity.cluster.to_string(),
        disk: identity.disk.to_string(),
        coding: identity.coding.to_string(),
        founded: identity.founded,
        members: identity.members.clone(),
    })?;
    Ok(format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes())))
}

fn decode(text: &str) -> Result<Identity, IdentityError> {
    let (first, body) = text.split_once('\n').ok_or(IdentityError::Damaged)?;
    let checksum = first.strip_prefix(CHECKSUM_LABEL).ok_or(IdentityError::Damaged)?;
    if u64::from_str_radix(checksum, 16) != Ok(XxHash3_64::oneshot(body.as_bytes())) {
        return Err(IdentityError::Damaged);
    }
    // The version is looked at before the rest, which a newer version may have changed.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = toml::from_str(body).map_err(|_| IdentityError::Damaged)?;
    if version.format > FORMAT {
        return Err(IdentityError::Newer(version.format));
    }
    let document: Document = toml::from_str(body).map_err(|_| IdentityError::Damaged)?;
    Ok(Identity {
        cluster: ClusterId::parse(&document.cluster).ok_or(IdentityError::Damaged)?,
        disk: DiskUuid::parse(&document.disk).ok_or(IdentityError::Damaged)?,
        coding: Coding::parse(&document.coding).map_err(|_| IdentityError::Damaged)?,
        founded: document.founded,
        members: document.members,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Identity {
        Identity {
            cluster: ClusterId([1; 16]),
            disk: DiskUuid([2; 16]),
            coding: Coding::parse("4+2").expect("valid"),
            founded: true,
            members: vec![Member { path: "/data/1".to_owned(), own_file_system: true }],
        }
    }

    #[test]
    fn reads_back_and_refuses_every_changed_character() {
        let text = encode(&sample()).expect("encoded");
        assert_eq!(decode(&text).expect("decoded"), sample());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(decode(&changed).is_err(), "character {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let body = "format = 9\nsomething = \"else\"\n";
        let text = format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes()));
        assert!(matches!(decode(&text), Err(IdentityError::Newer(9))));
    }
}
