//! The hello: what each side says first on a connection. See FORMAT.md.

use model::ids::{ClusterId, NodeId};
use model::node::{FEATURE_LEVEL, Roles};

use crate::tls::Identity;

/// Bytes of a hello.
pub(super) const HELLO_BYTES: usize = 48;

/// The versions of the frames that this release speaks.
const VERSION_MIN: u16 = 1;
const VERSION_MAX: u16 = 1;

const MAGIC: &[u8; 8] = b"DRYSTRPC";
const IDENTIFIED: u8 = 1;
const ROLES: [Roles; 3] = [Roles::METADATA, Roles::STORAGE_NODE, Roles::GATEWAY];

/// What a side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// The versions of the frames that it speaks, from and to.
    pub versions: (u16, u16),
    /// The feature level of its release, for the log: what is switched on is decided by the map.
    pub level: u32,
    /// Who it is; none for one that isn't a node yet.
    pub identity: Option<Identity>,
}

/// Why a hello is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HelloError {
    #[error("the peer doesn't speak this protocol")]
    OtherProtocol,
    #[error(
        "the peer speaks versions {0} to {1} of the protocol, this side {VERSION_MIN} to {VERSION_MAX}"
    )]
    OtherVersion(u16, u16),
    #[error("the hello contradicts itself")]
    Malformed,
}

impl Hello {
    /// What this release says.
    pub fn new(identity: Option<Identity>) -> Self {
        Self { versions: (VERSION_MIN, VERSION_MAX), level: FEATURE_LEVEL, identity }
    }

    pub fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0u8; HELLO_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&self.versions.0.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.versions.1.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.level.to_le_bytes());
        if let Some(identity) = &self.identity {
            bytes[16..32].copy_from_slice(&identity.cluster.0);
            bytes[32..36].copy_from_slice(&identity.node.0.to_le_bytes());
            for (bit, role) in ROLES.into_iter().enumerate() {
                bytes[36] |= u8::from(identity.roles.contains(role)) << bit;
            }
            bytes[37] = IDENTIFIED;
        }
        bytes
    }

    /// Reads a hello, and refuses one of which no version is spoken here.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HelloError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(HelloError::Malformed)?;
        let (&[low @ .., high0, high1], rest) =
            rest.split_first_chunk::<4>().ok_or(HelloError::Malformed)?;
        let (level, rest) = rest.split_first_chunk::<4>().ok_or(HelloError::Malformed)?;
        let (cluster, rest) = rest.split_first_chunk::<16>().ok_or(HelloError::Malformed)?;
        let (node, rest) = rest.split_first_chunk::<4>().ok_or(HelloError::Malformed)?;
        let (&[roles, flags], reserved) =
            rest.split_first_chunk::<2>().ok_or(HelloError::Malformed)?;
        if magic != MAGIC {
            return Err(HelloError::OtherProtocol);
        }
        let versions = (u16::from_le_bytes(low), u16::from_le_bytes([high0, high1]));
        if versions.0 > versions.1 || versions.0 > VERSION_MAX || versions.1 < VERSION_MIN {
            return Err(HelloError::OtherVersion(versions.0, versions.1));
        }
        let identity = match flags {
            0 if *cluster == [0; 16] && *node == [0; 4] && roles == 0 => None,
            IDENTIFIED if roles < 1 << ROLES.len() => Some(Identity {
                cluster: ClusterId(*cluster),
                node: NodeId(u32::from_le_bytes(*node)),
                roles: roles_of(roles),
            }),
            _ => return Err(HelloError::Malformed),
        };
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(HelloError::Malformed);
        }
        Ok(Self { versions, level: u32::from_le_bytes(*level), identity })
    }
}

fn roles_of(bits: u8) -> Roles {
    ROLES
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .fold(Roles::NONE, |roles, (_, role)| roles.and(role))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let roles = Roles::METADATA.and(Roles::GATEWAY);
        let identity = Identity { cluster: ClusterId([7; 16]), node: NodeId(0x0102), roles };
        Hello { versions: (1, 3), level: 5, identity: Some(identity) }
    }

    #[test]
    fn its_bytes_are_those_of_the_table() {
        let mut expected = b"DRYSTRPC\x01\0\x03\0\x05\0\0\0".to_vec();
        expected.extend([7; 16]);
        expected.extend([2, 1, 0, 0, 5, 1]);
        expected.extend([0; 10]);
        assert_eq!(hello().encode().as_slice(), expected);
        assert_eq!(Hello::decode(&hello().encode()), Ok(hello()));
        let stranger = Hello::new(None);
        assert_eq!(Hello::decode(&stranger.encode()), Ok(stranger));
    }

    #[test]
    fn what_is_not_one_is_refused() {
        let spoilt = |at: usize, value: u8| {
            let mut bytes = hello().encode();
            bytes[at] = value;
            Hello::decode(&bytes)
        };
        assert_eq!(spoilt(0, b'X'), Err(HelloError::OtherProtocol));
        assert_eq!(spoilt(8, 2), Err(HelloError::OtherVersion(2, 3)));
        assert_eq!(spoilt(10, 0), Err(HelloError::OtherVersion(1, 0)));
        assert_eq!(spoilt(36, 8), Err(HelloError::Malformed));
        assert_eq!(spoilt(37, 0), Err(HelloError::Malformed));
        assert_eq!(spoilt(37, 2), Err(HelloError::Malformed));
        assert_eq!(spoilt(47, 1), Err(HelloError::Malformed));
    }
}
