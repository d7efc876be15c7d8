//! The certificate that a process starts with.
//!
//! In: a host directory. Out: credentials whose time isn't over. A metadata node makes itself a new
//! certificate when its own is over, since it can open the authority's key; any other node must come
//! back by a token, and is told how.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use metadata::authority_seal;
use metadata::limits::CERTIFICATE_LIFETIME;
use wire::tls::{Authority, Credentials, Identity, NodeKey};

use super::directory::HostDirectory;
use crate::process::Doors;

/// The node's credentials, of today.
pub fn in_force(directory: &HostDirectory, doors: &Doors) -> Result<Arc<Credentials>> {
    let credentials = directory.credentials()?;
    if credentials.expires() > doors.clock.now() {
        return Ok(credentials);
    }
    let certificate = own_certificate(directory, doors)?.ok_or_else(|| over(directory))?;
    directory.write_certificate(&certificate)?;
    tracing::warn!("this node's certificate had expired; it has made itself a new one");
    directory.credentials()
}

/// A certificate that a metadata node makes itself, since it can open the authority's key: when all
/// of them have expired, there is nobody to ask.
fn own_certificate(directory: &HostDirectory, doors: &Doors) -> Result<Option<Vec<u8>>> {
    let host = directory.identity();
    let Some(sealed) = directory.sealed_authority().read() else {
        return Ok(None);
    };
    let keys = directory.secrets()?.seal_keys();
    let keys = keys.context("the secrets file holds no cluster key")?;
    let key = authority_seal::open(&keys, host.cluster, &sealed)?;
    let authority = Authority::from_der(&directory.authority()?, &key)?;
    let identity = Identity { cluster: host.cluster, node: host.node, roles: host.roles };
    let request = NodeKey::from_der(&directory.key()?)?.certificate_request()?;
    let addresses = std::slice::from_ref(&host.address);
    let now = doors.clock.now();
    Ok(Some(authority.issue(&request, &identity, addresses, now, CERTIFICATE_LIFETIME)?))
}

/// A node whose certificate is over, and that can't make itself another.
fn over(directory: &HostDirectory) -> anyhow::Error {
    anyhow!(
        "the certificate of node {} has expired while it was off; make a token by `drystone cluster token create --roles {}`, renew the identity by `drystone cluster join --token TOKEN --host-directory {}`, and start again: the node keeps its number and its disks",
        directory.identity().node,
        directory.identity().roles,
        directory.path().display()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::ids::{ClusterId, NodeId, NodeUuid};
    use model::membership::Members;
    use model::node::Roles;
    use wire::clock::{Clock, SimulatedClock};
    use wire::entropy::SeededEntropy;

    use super::*;
    use crate::directories::Secrets;
    use crate::host::directory::{HostIdentity, NewHost, Returned};

    const CLUSTER: ClusterId = ClusterId([1; 16]);

    /// A node's host directory, and the world in which time passes.
    struct Node {
        root: tempfile::TempDir,
        clock: Arc<SimulatedClock>,
        doors: Doors,
        authority: Authority,
        secrets: Secrets,
    }

    impl Node {
        fn new(roles: Roles) -> Self {
            let clock = Arc::new(SimulatedClock::new());
            clock.advance(Duration::from_hours(24 * 365 * 50));
            let entropy = Arc::new(SeededEntropy::new(1));
            let doors = Doors { clock: Arc::clone(&clock) as _, entropy };
            let authority = Authority::create(CLUSTER, clock.now()).expect("made");
            let key = NodeKey::generate().expect("made");
            let request = key.certificate_request().expect("made");
            let who = Identity { cluster: CLUSTER, node: NodeId(7), roles };
            let certificate = authority
                .issue(&request, &who, &["h:1".to_owned()], clock.now(), CERTIFICATE_LIFETIME)
                .expect("issued");
            let identity = HostIdentity {
                cluster: CLUSTER,
                node: NodeId(7),
                uuid: NodeUuid([7; 16]),
                name: "h".to_owned(),
                address: "h:1".to_owned(),
                roles,
                rack: String::new(),
                zone: String::new(),
                founds: None,
            };
            let secrets = Secrets::generate(&*doors.entropy);
            let secrets = secrets.with_authority_seal_key(&*doors.entropy);
            let root = tempfile::tempdir().expect("made");
            let new = NewHost {
                identity: &identity,
                key: key.der(),
                certificate: &certificate,
                authority: authority.certificate(),
                authority_key: None,
                secrets: roles.contains(Roles::METADATA).then_some(&secrets),
                members: &Members::default(),
            };
            HostDirectory::create(&root.path().join("host"), &new).expect("made");
            Self { root, clock, doors, authority, secrets }
        }

        fn directory(&self) -> HostDirectory {
            HostDirectory::open(&self.root.path().join("host")).expect("opened")
        }

        fn keeps(&self, sealed: &[u8]) {
            self.directory().sealed_authority().write(sealed).expect("written");
        }

        fn sealed(&self) -> Vec<u8> {
            let key = self.secrets.authority_seal_key().expect("there");
            let entropy = &*self.doors.entropy;
            authority_seal::seal(&key, CLUSTER, self.authority.key(), entropy).expect("sealed")
        }
    }

    #[test]
    fn a_metadata_node_whose_certificate_is_over_makes_itself_another() {
        let node = Node::new(Roles::METADATA);
        node.keeps(&node.sealed());
        let first = node.directory().certificate().expect("there");
        let told = in_force(&node.directory(), &node.doors).expect("in force");
        assert_eq!(node.directory().certificate().expect("there"), first, "as long as it lasts");
        node.clock.advance(CERTIFICATE_LIFETIME);
        assert!(told.expires() <= node.clock.now());
        let fresh = in_force(&node.directory(), &node.doors).expect("made");
        assert!(fresh.expires() > node.clock.now());
        assert_eq!(fresh.identity(), told.identity());
        // It is kept, and believed by whoever believes the authority.
        let kept = node.directory();
        assert_eq!(kept.credentials().expect("they fit").expires(), fresh.expires());
        assert_eq!(kept.authority().expect("there"), node.authority.certificate());
    }

    #[test]
    fn one_that_can_not_open_the_authoritys_key_makes_none() {
        let node = Node::new(Roles::METADATA);
        node.clock.advance(CERTIFICATE_LIFETIME);
        // Sealed with another key.
        let entropy = &*node.doors.entropy;
        let foreign = authority_seal::seal(&[9; 32], CLUSTER, node.authority.key(), entropy);
        node.keeps(&foreign.expect("sealed"));
        let before = node.directory().certificate().expect("there");
        assert!(in_force(&node.directory(), &node.doors).is_err());
        // The key of another authority.
        let other = Authority::create(CLUSTER, node.clock.now()).expect("made");
        let key = node.secrets.authority_seal_key().expect("there");
        let sealed = authority_seal::seal(&key, CLUSTER, other.key(), entropy).expect("sealed");
        node.keeps(&sealed);
        assert!(in_force(&node.directory(), &node.doors).is_err());
        assert_eq!(node.directory().certificate().expect("there"), before);
    }

    #[test]
    fn any_other_node_is_told_how_it_comes_back() {
        for roles in [Roles::STORAGE_NODE, Roles::GATEWAY, Roles::METADATA] {
            let node = Node::new(roles);
            assert!(in_force(&node.directory(), &node.doors).is_ok());
            node.clock.advance(CERTIFICATE_LIFETIME);
            let error = in_force(&node.directory(), &node.doors).expect_err("it is over");
            let text = error.to_string();
            let place = node.root.path().join("host");
            let command =
                format!("drystone cluster join --token TOKEN --host-directory {}", place.display());
            assert!(text.contains(&command) && text.contains("node 7"), "{text}");
            assert!(text.contains(&format!("token create --roles {roles}`")), "{text}");
        }
    }

    #[test]
    fn one_that_came_back_starts_under_its_number() {
        let node = Node::new(Roles::GATEWAY);
        node.clock.advance(CERTIFICATE_LIFETIME);
        let mut directory = node.directory();
        let ended = directory.certificate().expect("there");
        // What the cluster sees, and answers.
        let key = NodeKey::from_der(&directory.key().expect("there")).expect("read");
        let request = key.certificate_request().expect("made");
        let who = node.authority.holder(&ended, &request).expect("its own");
        assert_eq!((who.node, who.roles), (NodeId(7), Roles::GATEWAY));
        let certificate = node
            .authority
            .issue(&request, &who, &[], node.clock.now(), CERTIFICATE_LIFETIME)
            .expect("issued");
        let moved = HostIdentity { address: "new:1".to_owned(), ..directory.identity().clone() };
        let members = Members { epoch: 4, last_node: NodeId(9), ..Members::default() };
        let secrets = node.secrets.clone().without_authority_seal_key();
        let fresh =
            Returned { certificate: &certificate, secrets: Some(&secrets), members: &members };
        directory.come_back(moved.clone(), &fresh).expect("written");
        drop(directory);
        let again = node.directory();
        assert_eq!(again.identity(), &moved);
        assert_eq!((again.members(), again.secrets().expect("there")), (members, secrets));
        let told = in_force(&again, &node.doors).expect("in force");
        assert!(told.expires() > node.clock.now());
    }
}
