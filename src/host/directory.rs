//! The host directory: what a process of a cluster knows of itself between two runs.
//!
//! | file | what |
//! | --- | --- |
//! | `host.toml` | which node of which cluster this is, with its address and roles |
//! | `members.toml` | the other nodes when they were last heard of: where to ask at the next start |
//! | `addresses.toml` | where an operator said that nodes are now, until the cluster says so itself |
//! | `node.key`, `node.crt` | this node's private key (mode 0600) and certificate, PEM |
//! | `authority.crt` | the cluster's certificate authority, PEM |
//! | `authority.key` | its private key, mode 0600; only with the founder, and only until the metadata keeps it |
//! | `authority.sealed` | that key, sealed; with metadata nodes, for when all metadata is lost |
//! | `secrets.toml` | the cluster's secrets, mode 0600; only with metadata nodes and gateways, and with metadata nodes only the key that opens `authority.sealed` |
//!
//! Every file is replaced as a whole: a crash leaves the old content or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use model::coding::Coding;
use model::ids::{ClusterId, NodeId, NodeUuid, ReplicaId};
use model::membership::Members;
use model::node::{FEATURE_LEVEL, Node, NodeRegistration, ReplicaPlace, Roles};
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;
use wire::tls::Credentials;

use super::pem;
use super::told::{ToldAddress, ToldAddresses};
use crate::directories::{DirectoryLock, Secrets, lock, read_secrets, replace_file, write_secrets};

const HOST: &str = "host.toml";
const MEMBERS: &str = "members.toml";
const ADDRESSES: &str = "addresses.toml";
const NODE_KEY: &str = "node.key";
const NODE_CERTIFICATE: &str = "node.crt";
const AUTHORITY_CERTIFICATE: &str = "authority.crt";
const AUTHORITY_KEY: &str = "authority.key";
const AUTHORITY_SEALED: &str = "authority.sealed";

const FORMAT: u32 = 1;
const CHECKSUM_LABEL: &str = "# xxh3: ";

/// Which node of which cluster a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node's number.
    pub node: NodeId,
    /// Its identity.
    pub uuid: NodeUuid,
    /// Its name.
    pub name: String,
    /// Its address, as others reach it.
    pub address: String,
    /// What it does.
    pub roles: Roles,
    /// Its rack.
    pub rack: String,
    /// Its zone.
    pub zone: String,
    /// With the founder, until the cluster is made: the coding of the cluster.
    pub founds: Option<Coding>,
}

impl HostIdentity {
    /// What the node says of itself.
    pub fn registration(&self) -> NodeRegistration {
        NodeRegistration {
            uuid: self.uuid,
            name: self.name.clone(),
            address: self.address.clone(),
            roles: self.roles,
            rack: self.rack.clone(),
            zone: self.zone.clone(),
            level: FEATURE_LEVEL,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct HostDocument {
    format: u32,
    cluster: String,
    node: u32,
    uuid: String,
    name: String,
    address: String,
    roles: String,
    rack: String,
    zone: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founds: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct MembersDocument {
    format: u32,
    epoch: u64,
    #[serde(default)]
    last_node: u32,
    nodes: Vec<NodeDocument>,
    replicas: Vec<ReplicaDocument>,
}

#[derive(Serialize, Deserialize)]
struct NodeDocument {
    node: u32,
    uuid: String,
    name: String,
    address: String,
    roles: String,
    rack: String,
    zone: String,
    level: u32,
}

#[derive(Serialize, Deserialize)]
struct ReplicaDocument {
    replica: u64,
    node: u32,
}

#[derive(Serialize, Deserialize)]
struct AddressesDocument {
    format: u32,
    addresses: Vec<AddressDocument>,
}

#[derive(Serialize, Deserialize)]
struct AddressDocument {
    node: u32,
    from: String,
    to: String,
}

/// A host directory, held by this process.
pub struct HostDirectory {
    path: PathBuf,
    identity: HostIdentity,
    _lock: DirectoryLock,
}

/// What a new host directory is filled with.
pub struct NewHost<'a> {
    /// Who it is.
    pub identity: &'a HostIdentity,
    /// Its private key, PKCS #8 in DER.
    pub key: &'a [u8],
    /// Its certificate in DER.
    pub certificate: &'a [u8],
    /// The authority's certificate in DER.
    pub authority: &'a [u8],
    /// The authority's private key; only with the founder.
    pub authority_key: Option<&'a [u8]>,
    /// The cluster's secrets, where the roles need them.
    pub secrets: Option<&'a Secrets>,
    /// Who else is there.
    pub members: &'a Members,
}

/// What a node that comes back gets.
pub struct Returned<'a> {
    /// Its new certificate in DER, for the key that it has.
    pub certificate: &'a [u8],
    /// The cluster's secrets, where its roles need them.
    pub secrets: Option<&'a Secrets>,
    /// Who else is there.
    pub members: &'a Members,
}

impl HostDirectory {
    /// Whether a directory was made a host directory.
    pub fn exists(path: &Path) -> bool {
        path.join(HOST).exists()
    }

    /// Makes one; the identity is written last, so that a crash leaves none.
    pub fn create(path: &Path, new: &NewHost<'_>) -> Result<()> {
        let context = || format!("the host directory {} can't be written", path.display());
        if Self::exists(path) {
            bail!("{} is a host directory already; give an empty one", path.display());
        }
        fs::create_dir_all(path).with_context(context)?;
        let write = |name: &str, content: &str| replace(path, name, content).with_context(context);
        write(NODE_KEY, &pem::encode(pem::PRIVATE_KEY, new.key))?;
        write(NODE_CERTIFICATE, &pem::encode(pem::CERTIFICATE, new.certificate))?;
        write(AUTHORITY_CERTIFICATE, &pem::encode(pem::CERTIFICATE, new.authority))?;
        if let Some(key) = new.authority_key {
            write(AUTHORITY_KEY, &pem::encode(pem::PRIVATE_KEY, key))?;
        }
        if let Some(secrets) = new.secrets {
            write_secrets(path, secrets).with_context(context)?;
        }
        write(MEMBERS, &members_text(new.members)?)?;
        write(HOST, &host_text(new.identity)?)
    }

    /// Opens and locks one.
    pub fn open(path: &Path) -> Result<Self> {
        if !Self::exists(path) {
            bail!(
                "{} is no host directory; make it by `drystone cluster init` or `drystone cluster join`",
                path.display()
            );
        }
        let lock = lock(path)?;
        let text = read(path, HOST)?;
        let identity = host_identity(&text)
            .with_context(|| format!("{} is damaged", path.join(HOST).display()))?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which node this is.
    pub fn identity(&self) -> &HostIdentity {
        &self.identity
    }

    /// The key and certificates that prove it.
    pub fn credentials(&self) -> Result<std::sync::Arc<Credentials>> {
        let key = self.pem(NODE_KEY)?;
        let certificate = self.pem(NODE_CERTIFICATE)?;
        let authority = self.authority()?;
        let credentials = Credentials::new(&certificate, &key, &authority).with_context(|| {
            format!("the key and certificates in {} don't fit together", self.path.display())
        })?;
        let said = credentials.identity();
        if said.cluster != self.identity.cluster || said.node != self.identity.node {
            bail!("the certificate in {} is of another node", self.path.display());
        }
        Ok(credentials)
    }

    /// The node's private key in DER.
    pub fn key(&self) -> Result<Vec<u8>> {
        self.pem(NODE_KEY)
    }

    /// The authority's certificate in DER.
    pub fn authority(&self) -> Result<Vec<u8>> {
        self.pem(AUTHORITY_CERTIFICATE)
    }

    /// The authority's private key in DER, as long as it is here.
    pub fn authority_key(&self) -> Result<Option<Vec<u8>>> {
        if self.path.join(AUTHORITY_KEY).exists() {
            self.pem(AUTHORITY_KEY).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The metadata has the authority's key: it needn't be here any more.
    pub fn forget_authority_key(&self) -> Result<()> {
        match fs::remove_file(self.path.join(AUTHORITY_KEY)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("the authority's key can't be removed from the host directory")
            }
            _ => Ok(()),
        }
    }

    /// Where the authority's sealed key is kept besides the metadata.
    pub fn sealed_authority(&self) -> SealedAuthority {
        SealedAuthority(self.path.clone())
    }

    /// The cluster's secrets.
    pub fn secrets(&self) -> Result<Secrets> {
        read_secrets(&self.path).with_context(|| {
            format!("the secrets file in {} is missing or damaged", self.path.display())
        })
    }

    /// Keeps the cluster's secrets.
    pub fn write_secrets(&self, secrets: &Secrets) -> Result<()> {
        write_secrets(&self.path, secrets).context("the secrets can't be written")
    }

    /// Keeps a new certificate for the same key.
    pub fn write_certificate(&self, certificate: &[u8]) -> Result<()> {
        replace(&self.path, NODE_CERTIFICATE, &pem::encode(pem::CERTIFICATE, certificate))
            .context("the new certificate can't be written")
    }

    /// The nodes when they were last heard of.
    pub fn members(&self) -> Members {
        // Without them the founder stands alone, and others must be told of a node again.
        read(&self.path, MEMBERS).ok().and_then(|text| members_of(&text)).unwrap_or_default()
    }

    /// Keeps them.
    pub fn write_members(&self, members: &Members) -> Result<()> {
        replace(&self.path, MEMBERS, &members_text(members)?)
            .context("the list of members can't be written")
    }

    /// Where an operator said that nodes are now.
    pub fn told_addresses(&self) -> Result<ToldAddresses> {
        if !self.path.join(ADDRESSES).exists() {
            return Ok(ToldAddresses::default());
        }
        let text = read(&self.path, ADDRESSES)?;
        told_of(&text).with_context(|| {
            format!(
                "{} is damaged; give the new addresses again by `drystone cluster readdress` once it is removed",
                self.path.join(ADDRESSES).display()
            )
        })
    }

    /// Keeps that, as long as there is anything.
    pub fn write_told_addresses(&self, told: &ToldAddresses) -> Result<()> {
        let kept = if told.0.is_empty() {
            match fs::remove_file(self.path.join(ADDRESSES)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        } else {
            replace(&self.path, ADDRESSES, &told_text(told)?)
        };
        kept.context("the new addresses can't be written to the host directory")
    }

    /// Gives this node another address, which the cluster hears of at the next start.
    pub fn readdress(&mut self, address: &str) -> Result<()> {
        let identity = HostIdentity { address: address.to_owned(), ..self.identity.clone() };
        replace(&self.path, HOST, &host_text(&identity)?)
            .context("the host directory can't be written")?;
        self.identity = identity;
        Ok(())
    }

    /// Takes over what a node that comes back got from the cluster; the certificate last, so that a
    /// crash leaves one that is over, and the node comes back once more.
    pub fn come_back(&mut self, identity: HostIdentity, fresh: &Returned<'_>) -> Result<()> {
        if let Some(secrets) = fresh.secrets {
            self.write_secrets(secrets)?;
        }
        self.write_members(fresh.members)?;
        replace(&self.path, HOST, &host_text(&identity)?)
            .context("the host directory can't be written")?;
        self.identity = identity;
        self.write_certificate(fresh.certificate)
    }

    /// The node's certificate in DER, whether or not its time is over.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        self.pem(NODE_CERTIFICATE)
    }

    /// The cluster is made: it must not be founded a second time.
    pub fn founded(&mut self) -> Result<()> {
        self.identity.founds = None;
        replace(&self.path, HOST, &host_text(&self.identity)?)
            .context("the host directory can't be written")
    }

    fn pem(&self, name: &str) -> Result<Vec<u8>> {
        let text = read(&self.path, name)?;
        pem::decode(&text)
            .with_context(|| format!("{} is no PEM file", self.path.join(name).display()))
    }
}

/// The authority's sealed key in a host directory.
pub struct SealedAuthority(PathBuf);

impl SealedAuthority {
    /// That in a host directory.
    #[cfg(test)]
    pub fn in_directory(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The key, if it is here.
    pub fn read(&self) -> Option<Vec<u8>> {
        pem::decode(&read(&self.0, AUTHORITY_SEALED).ok()?)
    }

    /// Keeps it.
    pub fn write(&self, sealed: &[u8]) -> io::Result<()> {
        replace(&self.0, AUTHORITY_SEALED, &pem::encode(pem::SEALED_KEY, sealed))
    }
}

fn read(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))
}

fn replace(directory: &Path, name: &str, content: &str) -> io::Result<()> {
    replace_file(directory, &format!("{name}.tmp"), name, content)
}

fn sealed<T: Serialize>(document: &T) -> Result<String> {
    let body = toml::to_string(document)?;
    Ok(format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes())))
}

fn unsealed(text: &str) -> Option<&str> {
    let (first, body) = text.split_once('\n')?;
    let checksum = u64::from_str_radix(first.strip_prefix(CHECKSUM_LABEL)?, 16).ok()?;
    (checksum == XxHash3_64::oneshot(body.as_bytes())).then_some(body)
}

fn host_text(identity: &HostIdentity) -> Result<String> {
    sealed(&HostDocument {
        format: FORMAT,
        cluster: identity.cluster.to_string(),
        node: identity.node.0,
        uuid: identity.uuid.to_string(),
        name: identity.name.clone(),
        address: identity.address.clone(),
        roles: identity.roles.to_string(),
        rack: identity.rack.clone(),
        zone: identity.zone.clone(),
        founds: identity.founds.map(|coding| coding.to_string()),
    })
}

fn host_identity(text: &str) -> Result<HostIdentity> {
    let body = unsealed(text).context("its checksum doesn't fit its content")?;
    // The version is looked at before the rest, which a newer version may have changed.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = toml::from_str(body)?;
    if version.format > FORMAT {
        bail!(
            "it has format version {}, which is newer than this program knows; use a newer Drystone",
            version.format
        );
    }
    let document: HostDocument = toml::from_str(body)?;
    Ok(HostIdentity {
        cluster: ClusterId::parse(&document.cluster).context("it names no cluster")?,
        node: NodeId(document.node),
        uuid: NodeUuid::parse(&document.uuid).context("it has no identity")?,
        name: document.name,
        address: document.address,
        roles: Roles::parse(&document.roles).context("its roles are unknown")?,
        rack: document.rack,
        zone: document.zone,
        founds: document.founds.map(|text| Coding::parse(&text)).transpose()?,
    })
}

fn members_text(members: &Members) -> Result<String> {
    let node = |node: &Node| {
        let said = &node.registration;
        NodeDocument {
            node: node.id.0,
            uuid: said.uuid.to_string(),
            name: said.name.clone(),
            address: said.address.clone(),
            roles: said.roles.to_string(),
            rack: said.rack.clone(),
            zone: said.zone.clone(),
            level: said.level,
        }
    };
    let replica =
        |place: &ReplicaPlace| ReplicaDocument { replica: place.replica.0, node: place.node.0 };
    sealed(&MembersDocument {
        format: FORMAT,
        epoch: members.epoch,
        last_node: members.last_node.0,
        nodes: members.nodes.iter().map(node).collect(),
        replicas: members.replicas.iter().map(replica).collect(),
    })
}

fn told_text(told: &ToldAddresses) -> Result<String> {
    let document = |told: &ToldAddress| AddressDocument {
        node: told.node.0,
        from: told.from.clone(),
        to: told.to.clone(),
    };
    let addresses = told.0.iter().map(document).collect();
    sealed(&AddressesDocument { format: FORMAT, addresses })
}

fn told_of(text: &str) -> Result<ToldAddresses> {
    let body = unsealed(text).context("its checksum doesn't fit its content")?;
    let document: AddressesDocument = toml::from_str(body)?;
    let told =
        |one: AddressDocument| ToldAddress { node: NodeId(one.node), from: one.from, to: one.to };
    Ok(ToldAddresses(document.addresses.into_iter().map(told).collect()))
}

fn members_of(text: &str) -> Option<Members> {
    let document: MembersDocument = toml::from_str(unsealed(text)?).ok()?;
    let node = |node: NodeDocument| {
        let registration = NodeRegistration {
            uuid: NodeUuid::parse(&node.uuid)?,
            name: node.name,
            address: node.address,
            roles: Roles::parse(&node.roles)?,
            rack: node.rack,
            zone: node.zone,
            level: node.level,
        };
        Some(Node::new(NodeId(node.node), registration))
    };
    let replica = |place: ReplicaDocument| ReplicaPlace {
        replica: ReplicaId(place.replica),
        node: NodeId(place.node),
    };
    Some(Members {
        epoch: document.epoch,
        last_node: NodeId(document.last_node),
        nodes: document.nodes.into_iter().map(node).collect::<Option<_>>()?,
        replicas: document.replicas.into_iter().map(replica).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> HostIdentity {
        HostIdentity {
            cluster: ClusterId([1; 16]),
            node: NodeId(3),
            uuid: NodeUuid([2; 16]),
            name: "east".to_owned(),
            address: "10.0.0.3:9002".to_owned(),
            roles: Roles::METADATA.and(Roles::GATEWAY),
            rack: "r1".to_owned(),
            zone: String::new(),
            founds: Coding::parse("4+2").ok(),
        }
    }

    #[test]
    fn a_host_is_read_back_and_every_changed_character_is_found() {
        let text = host_text(&identity()).expect("encoded");
        assert_eq!(host_identity(&text).expect("decoded"), identity());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(host_identity(&String::from_utf8(bytes).expect("ASCII")).is_err(), "{at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let body = "format = 9\nsomething = \"else\"\n";
        let text = format!("{CHECKSUM_LABEL}{:016x}\n{body}", XxHash3_64::oneshot(body.as_bytes()));
        assert!(host_identity(&text).expect_err("newer").to_string().contains("version 9"));
    }

    #[test]
    fn new_addresses_are_read_back_until_there_are_none() {
        let root = tempfile::tempdir().expect("made");
        fs::write(root.path().join(HOST), host_text(&identity()).expect("encoded")).expect("kept");
        let mut directory = HostDirectory::open(root.path()).expect("a host directory");
        let read = |directory: &HostDirectory| directory.told_addresses().expect("whole");
        assert_eq!(read(&directory), ToldAddresses::default());
        let (from, to) = ("a:1".to_owned(), "b:1".to_owned());
        let told = ToldAddresses(vec![ToldAddress { node: NodeId(4), from, to }]);
        directory.write_told_addresses(&told).expect("kept");
        assert_eq!(read(&directory), told);
        let text = fs::read_to_string(root.path().join(ADDRESSES)).expect("there");
        fs::write(root.path().join(ADDRESSES), text.replace("b:1", "c:1")).expect("kept");
        assert!(directory.told_addresses().is_err(), "damaged");
        for _ in 0..2 {
            directory.write_told_addresses(&ToldAddresses::default()).expect("removed");
            assert_eq!(read(&directory), ToldAddresses::default());
        }
        directory.readdress("10.1.0.3:9002").expect("kept");
        drop(directory);
        let known = HostDirectory::open(root.path()).expect("a host directory");
        let expected = HostIdentity { address: "10.1.0.3:9002".to_owned(), ..identity() };
        assert_eq!(*known.identity(), expected);
    }

    #[test]
    fn members_are_read_back() {
        let node = Node::new(NodeId(3), identity().registration());
        let place = ReplicaPlace { replica: ReplicaId(7), node: NodeId(3) };
        let members =
            Members { epoch: 5, nodes: vec![node], replicas: vec![place], last_node: NodeId(9) };
        assert_eq!(members_of(&members_text(&members).expect("encoded")), Some(members));
    }
}
