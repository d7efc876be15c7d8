//! The data directories of the all-in-one server: what each one is, and whether the set can work.
//!
//! Everything is looked at before anything is written. The outcome of [`inspect`] and [`decide`]
//! is either a plan that can work, or an error that says what is wrong and what to do.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use model::coding::Coding;
use model::durability::Topology;
use model::ids::{ClusterId, DiskUuid};
use model::placement::default_coding;
use wire::entropy::Entropy;

mod identity;
mod secrets;

pub use identity::{Identity, IdentityError, Member, read as read_identity};
pub use secrets::{
    Secrets, decode as decode_secrets, encode as encode_secrets, read as read_secrets,
    write as write_secrets,
};

/// What was found in a directory.
#[derive(Debug)]
pub enum Content {
    /// Nothing there, or nothing in it.
    Empty,
    /// A disk of a cluster.
    Formatted(Identity),
    /// A disk whose identity can't be read any more, and why.
    Damaged(String),
}

/// A directory, looked at.
#[derive(Debug)]
pub struct Found {
    /// Its absolute path.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// Whether it is a file system of its own.
    pub own_file_system: bool,
    /// Its secrets, when they can be read.
    pub secrets: Option<Secrets>,
}

/// What the server is to run on.
#[derive(Debug)]
pub struct Plan {
    /// The cluster.
    pub cluster: ClusterId,
    /// The coding of new objects.
    pub coding: Coding,
    /// Whether the cluster's metadata was made, which it must not be a second time.
    pub founded: bool,
    /// The directories in the given order.
    pub directories: Vec<PlannedDirectory>,
    /// The cluster's secrets, if it has any yet.
    pub secrets: Option<Secrets>,
}

impl Plan {
    /// The directories that are to be formatted.
    pub fn new_directories(&self) -> impl Iterator<Item = &Path> {
        let is_new =
            |directory: &&PlannedDirectory| matches!(directory.role, DirectoryRole::New(_));
        self.directories.iter().filter(is_new).map(|directory| directory.path.as_path())
    }
}

/// One directory of a plan.
#[derive(Debug)]
pub struct PlannedDirectory {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it is to be.
    pub role: DirectoryRole,
    /// Whether it is a file system of its own.
    pub own_file_system: bool,
}

/// What a directory is to be.
#[derive(Debug, PartialEq, Eq)]
pub enum DirectoryRole {
    /// A disk of the cluster.
    Member(DiskUuid),
    /// To be formatted as a new disk.
    New(DiskUuid),
    /// Left alone: its identity is damaged, for this reason.
    Unusable(String),
}

/// Whether the directory says that it is a disk, readably or not.
pub fn has_identity(path: &Path) -> bool {
    path.join(identity::NAME).exists()
}

/// Looks at the directories; writes nothing.
pub fn inspect(paths: &[PathBuf]) -> Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::with_capacity(paths.len());
    for path in paths {
        let path = std::path::absolute(path)
            .with_context(|| format!("the directory {} can't be resolved", path.display()))?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        ensure!(
            !found.iter().any(|other| other.path == path),
            "the directory {} is given twice; each disk needs a directory of its own",
            path.display()
        );
        found.push(look(path)?);
    }
    Ok(found)
}

fn look(path: PathBuf) -> Result<Found> {
    let context = || format!("the directory {} can't be read", path.display());
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Found {
                path,
                content: Content::Empty,
                own_file_system: false,
                secrets: None,
            });
        }
        Err(error) => return Err(error).with_context(context),
    };
    ensure!(metadata.is_dir(), "{} is not a directory", path.display());
    let parent = path.parent().map(fs::metadata).transpose().with_context(context)?;
    let own_file_system = parent.is_some_and(|parent| parent.dev() != metadata.dev());
    let content = match identity::read(&path) {
        Ok(Some(identity)) => Content::Formatted(identity),
        Ok(None) if is_empty(&path).with_context(context)? => Content::Empty,
        Ok(None) => bail!(
            "the directory {} is not empty and is no Drystone disk; give an empty directory, or move its files away",
            path.display()
        ),
        Err(identity::IdentityError::Newer(version)) => bail!(
            "the directory {} has format version {version}, which is newer than this program knows; use a newer Drystone",
            path.display()
        ),
        Err(error) => Content::Damaged(error.to_string()),
    };
    let secrets = secrets::read(&path);
    Ok(Found { path, content, own_file_system, secrets })
}

/// Whether nothing is in the directory but what file systems put there themselves, or what an
/// interrupted format left.
fn is_empty(path: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !["lost+found", identity::TEMPORARY_NAME, secrets::NAME, secrets::TEMPORARY_NAME]
            .iter()
            .any(|known| name.as_encoded_bytes() == known.as_bytes())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Decides what to run on; writes nothing.
pub fn decide(found: Vec<Found>, wanted: Option<Coding>, entropy: &dyn Entropy) -> Result<Plan> {
    let known = formatted(&found);
    let Some((_, first)) = known.first().copied() else {
        return decide_new(found, wanted, entropy);
    };
    check_identities(&known)?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != first.coding) {
        bail!(
            "this store was made with coding {} and can't be changed to {wanted}; leave out --coding",
            first.coding
        );
    }
    let (cluster, coding) = (first.cluster, first.coding);
    let founded = known.iter().any(|(_, identity)| identity.founded);
    let members: Vec<Member> = known.iter().flat_map(|(_, id)| id.members.clone()).collect();
    check_mounts(&found, &members)?;
    let readable = known.len();
    ensure!(
        readable >= usize::from(coding.data()),
        "only {readable} of the store's directories are there, and with coding {coding} it takes {} to read anything; give all its directories",
        coding.data()
    );
    let secrets = found.iter().find_map(|directory| directory.secrets.clone());
    ensure!(
        secrets.is_some(),
        "none of the directories has the store's secrets file ({}); restore it from a backup",
        secrets::NAME
    );
    let directories = planned(found, entropy);
    Ok(Plan { cluster, coding, founded, directories, secrets })
}

/// Decides what a storage node of a cluster runs on; writes nothing.
pub fn decide_joined(
    found: Vec<Found>,
    cluster: ClusterId,
    entropy: &dyn Entropy,
) -> Result<Vec<PlannedDirectory>> {
    let known = formatted(&found);
    check_identities(&known)?;
    if let Some((path, _)) = known.iter().find(|(_, identity)| identity.cluster != cluster) {
        bail!("the directory {} belongs to another cluster than this host", path.display());
    }
    let members: Vec<Member> = known.iter().flat_map(|(_, id)| id.members.clone()).collect();
    check_mounts(&found, &members)?;
    Ok(planned(found, entropy))
}

fn formatted(found: &[Found]) -> Vec<(&Path, &Identity)> {
    found
        .iter()
        .filter_map(|directory| match &directory.content {
            Content::Formatted(identity) => Some((directory.path.as_path(), identity)),
            Content::Empty | Content::Damaged(_) => None,
        })
        .collect()
}

/// All directories are of one cluster, and no two are the same disk.
fn check_identities(known: &[(&Path, &Identity)]) -> Result<()> {
    for (at, (path, identity)) in known.iter().enumerate() {
        let (first_path, first) = known[0];
        if identity.cluster != first.cluster {
            bail!(
                "the directory {} belongs to another cluster than {}; give the directories of one cluster only",
                path.display(),
                first_path.display()
            );
        }
        if let Some((twin, _)) = known[..at].iter().find(|(_, other)| other.disk == identity.disk) {
            bail!(
                "{} and {} have the same disk identity: one is a copy of the other; remove the copy",
                twin.display(),
                path.display()
            );
        }
    }
    Ok(())
}

fn planned(found: Vec<Found>, entropy: &dyn Entropy) -> Vec<PlannedDirectory> {
    found
        .into_iter()
        .map(|directory| PlannedDirectory {
            role: match directory.content {
                Content::Formatted(identity) => DirectoryRole::Member(identity.disk),
                Content::Empty => DirectoryRole::New(DiskUuid(entropy.id())),
                Content::Damaged(reason) => DirectoryRole::Unusable(reason),
            },
            path: directory.path,
            own_file_system: directory.own_file_system,
        })
        .collect()
}

fn decide_new(found: Vec<Found>, wanted: Option<Coding>, entropy: &dyn Entropy) -> Result<Plan> {
    if let Some(directory) =
        found.iter().find(|directory| matches!(directory.content, Content::Damaged(_)))
    {
        bail!(
            "the directory {} has a damaged identity file, and no other directory tells which store it is of; nothing was changed",
            directory.path.display()
        );
    }
    let coding = match wanted {
        Some(coding) => coding,
        None => default_here(found.len())?,
    };
    ensure!(
        usize::from(coding.width()) <= found.len(),
        "coding {coding} needs {} directories, one for each shard, and {} are given; give more, or choose another coding",
        coding.width(),
        found.len()
    );
    let directories = found
        .into_iter()
        .map(|directory| PlannedDirectory {
            path: directory.path,
            role: DirectoryRole::New(DiskUuid(entropy.id())),
            own_file_system: directory.own_file_system,
        })
        .collect();
    let cluster = ClusterId(entropy.id());
    Ok(Plan { cluster, coding, founded: false, directories, secrets: None })
}

/// The coding for so many directories of one machine, which is told with its reason.
fn default_here(directories: usize) -> Result<Coding> {
    let disks = u32::try_from(directories).context("these are too many directories")?;
    let topology = Topology { disks, nodes: 1, racks: 1 };
    let disks = topology.map(Coding::new(1, 0)?).disks;
    let (coding, why) = default_coding(&disks).context("at least one data directory is needed")?;
    tracing::info!(%coding, why, "the new store's coding was chosen for its directories");
    Ok(coding)
}

/// An empty directory that used to be a mounted file system and isn't one now is a disk that isn't
/// mounted: formatting it would put the data on the wrong device (reliability R11).
fn check_mounts(found: &[Found], members: &[Member]) -> Result<()> {
    for directory in found {
        let was_mounted = members
            .iter()
            .any(|member| member.own_file_system && Path::new(&member.path) == directory.path);
        if matches!(directory.content, Content::Empty) && was_mounted && !directory.own_file_system
        {
            bail!(
                "the directory {} was a mounted disk and is now an empty directory: mount the disk, or leave the directory out",
                directory.path.display()
            );
        }
    }
    Ok(())
}

/// Writes identities and secrets, so that every directory of the plan carries both. Called again
/// once the cluster is founded, to write that down.
pub fn format(plan: &Plan, secrets: &Secrets) -> Result<()> {
    let marks = Marks {
        cluster: plan.cluster,
        coding: plan.coding,
        founded: plan.founded,
        secrets: Some(secrets),
    };
    mark(&plan.directories, &marks)
}

/// Writes identities into the directories of a storage node, which knows no secrets.
pub fn format_joined(
    directories: &[PlannedDirectory],
    cluster: ClusterId,
    coding: Coding,
) -> Result<()> {
    mark(directories, &Marks { cluster, coding, founded: true, secrets: None })
}

/// What every directory is told.
struct Marks<'a> {
    cluster: ClusterId,
    coding: Coding,
    founded: bool,
    secrets: Option<&'a Secrets>,
}

fn mark(directories: &[PlannedDirectory], marks: &Marks<'_>) -> Result<()> {
    let members: Vec<Member> = directories
        .iter()
        .map(|directory| Member {
            path: directory.path.to_string_lossy().into_owned(),
            own_file_system: directory.own_file_system,
        })
        .collect();
    for directory in directories {
        let disk = match &directory.role {
            DirectoryRole::Member(disk) | DirectoryRole::New(disk) => *disk,
            DirectoryRole::Unusable(_) => continue,
        };
        let identity = Identity {
            cluster: marks.cluster,
            disk,
            coding: marks.coding,
            founded: marks.founded,
            members: members.clone(),
        };
        let context = || format!("the directory {} can't be written", directory.path.display());
        wire::disk::RealDisk::create(&directory.path).with_context(context)?;
        if let Some(secrets) = marks.secrets {
            secrets::write(&directory.path, secrets).with_context(context)?;
        }
        identity::write(&directory.path, &identity).with_context(context)?;
    }
    Ok(())
}

/// Replaces a file as a whole: a crash leaves the old content or the new one.
pub fn replace_file(
    directory: &Path,
    temporary: &str,
    name: &str,
    content: &str,
) -> std::io::Result<()> {
    let temporary = directory.join(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// A lock on a directory, for as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Locks a directory against a second server.
pub fn lock(path: &Path) -> Result<DirectoryLock> {
    let file = File::open(path)
        .with_context(|| format!("the directory {} can't be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(DirectoryLock { _file: file }),
        Err(fs::TryLockError::WouldBlock) => {
            bail!("the directory {} is in use by another Drystone process", path.display())
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("the directory {} can't be locked", path.display()))
        }
    }
}

#[cfg(test)]
mod tests;
