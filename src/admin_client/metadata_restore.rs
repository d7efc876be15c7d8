//! `drystone admin metadata restore FILE DIR…` and `begin-recovery DIR…`: put the metadata back, offline.
//!
//! In: a verified backup (or, for `begin-recovery`, nothing), and the directories of a store, or those
//! of a metadata node, none of them in use. Out: a founding metadata replica in the first of them.
//! What always holds: nothing is changed before the backup was verified as a whole and every
//! directory is held; replicas that are there are removed only when the operator said so, because
//! they would be a second truth beside what is restored.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use metadata::backup::{BackupFile, RestoreSettings, RestoredReplica, found_for_recovery, restore};
use metadata::identity::Identity as ReplicaIdentity;
use metadata::replica::{DIRECTORY, wipe};
use model::coding::Coding;
use model::ids::{ClusterId, NodeId};
use wire::clock::SystemClock;
use wire::disk::{Disk, RealDisk};

use super::metadata_backup::verify_file;
use crate::directories::{self, Content, DirectoryLock};
use crate::host::directory::HostDirectory;

/// Flags of `restore`.
#[derive(Args, Debug)]
pub(super) struct RestoreArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    place: PlaceArguments,
}

/// Flags of `begin-recovery`.
#[derive(Args, Debug)]
pub(super) struct RecoveryArguments {
    #[command(flatten)]
    place: PlaceArguments,

    /// The coding that the cluster was made with; needed with a host directory, which doesn't tell.
    #[arg(long, value_name = "K+M")]
    coding: Option<String>,
}

#[derive(Args, Debug)]
struct PlaceArguments {
    /// All directories of the store, or of the metadata node. The replica is made in the first.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,

    /// The host directory, where the cluster has several hosts.
    #[arg(long, value_name = "DIR")]
    host_directory: Option<PathBuf>,

    /// Remove the metadata replicas that are in the directories. They are lost.
    #[arg(long)]
    replace: bool,
}

/// Whose metadata it is to be.
struct Store {
    cluster: ClusterId,
    node: Option<NodeId>,
    coding: Option<Coding>,
    disks: Vec<Arc<dyn Disk>>,
    _locks: Vec<DirectoryLock>,
    _host: Option<HostDirectory>,
}

/// Puts the metadata back from a backup.
pub(super) async fn from_backup(arguments: &RestoreArguments) -> Result<ExitCode> {
    // Before anything is touched.
    verify_file(&arguments.file)?;
    let store = Store::find(&arguments.place)?;
    let backup = BackupFile::open_path(&arguments.file)?;
    let cluster = backup.header().cluster;
    ensure!(
        cluster == store.cluster,
        "the backup is of cluster {cluster}, and these directories are of cluster {}",
        store.cluster
    );
    let first = store.make_room(arguments.place.replace)?;
    print(first.path(), &restore(backup, first, &store.settings()).await?);
    Ok(ExitCode::SUCCESS)
}

/// Begins metadata that knows nothing, to be filled from the disks.
pub(super) async fn from_nothing(arguments: &RecoveryArguments) -> Result<ExitCode> {
    let wanted = arguments.coding.as_deref().map(Coding::parse).transpose()?;
    let store = Store::find(&arguments.place)?;
    if let (Some(wanted), Some(known)) = (wanted, store.coding) {
        ensure!(wanted == known, "this store was made with coding {known}; leave out --coding");
    }
    let coding = wanted.or(store.coding);
    let coding = coding.context("give --coding: the host directory doesn't tell it")?;
    let first = store.make_room(arguments.place.replace)?;
    print(first.path(), &found_for_recovery(coding, first, &store.settings()).await?);
    Ok(ExitCode::SUCCESS)
}

impl Store {
    fn find(place: &PlaceArguments) -> Result<Self> {
        match &place.host_directory {
            Some(host) => of_host(host, &place.directories),
            None => of_store(&place.directories),
        }
    }

    fn settings(&self) -> RestoreSettings {
        let clock = Arc::new(SystemClock::new());
        RestoreSettings { cluster: self.cluster, node: self.node, clock }
    }

    /// Removes the replicas that are there, if that is what the operator wants; gives the disk for
    /// the new one.
    fn make_room(&self, replace: bool) -> Result<&Arc<dyn Disk>> {
        for disk in &self.disks {
            let directory = disk.subdirectory(DIRECTORY)?;
            let is_there = !matches!(ReplicaIdentity::read(&*directory), Ok(None));
            ensure!(
                replace || !is_there,
                "there is a metadata replica in {}; if the metadata is lost for good, give --replace to remove it, and see to it that no other replica of the cluster ever runs again",
                disk.path().display()
            );
        }
        for disk in &self.disks {
            wipe(&**disk).with_context(|| format!("{} can't be emptied", disk.path().display()))?;
        }
        self.disks.first().context("at least one directory is needed")
    }
}

/// The directories of a `drystone server` store, which say whose they are.
fn of_store(paths: &[PathBuf]) -> Result<Store> {
    let found = directories::inspect(paths)?;
    let mut known = None;
    for directory in &found {
        match &directory.content {
            Content::Formatted(identity) => {
                let (cluster, coding) = *known.get_or_insert((identity.cluster, identity.coding));
                ensure!(
                    identity.cluster == cluster && identity.coding == coding,
                    "the directory {} belongs to another store than the others",
                    directory.path.display()
                );
            }
            Content::Empty => bail!(
                "the directory {} is no disk of a store; give the directories of the store",
                directory.path.display()
            ),
            Content::Damaged(reason) => {
                eprintln!("drystone: {}: {reason}; it is left alone", directory.path.display());
            }
        }
    }
    let (cluster, coding) = known.context("none of the directories says which store it is of")?;
    let usable: Vec<&Path> = found
        .iter()
        .filter(|directory| matches!(directory.content, Content::Formatted(_)))
        .map(|directory| directory.path.as_path())
        .collect();
    let locks = usable.iter().map(|path| directories::lock(path)).collect::<Result<_>>()?;
    let disks = usable.iter().map(|path| open(path)).collect::<Result<_>>()?;
    Ok(Store { cluster, node: None, coding: Some(coding), disks, _locks: locks, _host: None })
}

/// The directories of a metadata node, whose host directory says which one it is.
fn of_host(host: &Path, paths: &[PathBuf]) -> Result<Store> {
    let host = HostDirectory::open(host)?;
    for path in paths {
        RealDisk::create(path)
            .with_context(|| format!("the directory {} can't be made", path.display()))?;
    }
    let is_other = |path: &&PathBuf| path.as_path() != host.path();
    let locks = paths.iter().filter(is_other).map(|path| directories::lock(path));
    let locks = locks.collect::<Result<_>>()?;
    let disks = paths.iter().map(|path| open(path)).collect::<Result<_>>()?;
    let (cluster, node) = (host.identity().cluster, Some(host.identity().node));
    Ok(Store { cluster, node, coding: None, disks, _locks: locks, _host: Some(host) })
}

fn open(path: &Path) -> Result<Arc<dyn Disk>> {
    let disk = RealDisk::open(path)
        .with_context(|| format!("the directory {} can't be opened", path.display()))?;
    Ok(Arc::new(disk))
}

fn print(path: &Path, restored: &RestoredReplica) {
    let held = &restored.held;
    println!("{}: metadata replica {} was made", path.display(), restored.replica);
    if held.from_shards {
        println!("  it knows nothing yet: start the cluster, and recover from the shards");
    } else {
        println!("  it knows {} objects, as of log index {}", restored.objects, restored.index);
        println!("  what was deleted since is listed again; what was written since is held:");
        println!("  start the cluster, and recover from the shards to adopt it");
    }
    println!(
        "  shards of {} sessions and those up to {} aren't collected until that is released",
        held.sessions.len(),
        held.until()
    );
    println!("  make sure that no other metadata replica of this cluster ever runs again");
}
