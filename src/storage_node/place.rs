//! Which directory is meant: a disk of `drystone server`, or its directory of shards alone.
//!
//! A directory in use by a running server is refused: its log grows while it is read. Nothing is
//! written, and where the file system knows no locks none is taken.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use storage_node::DiskIdentity;
use storage_node::offline::ShardsDirectory;
use wire::disk::RealDisk;

use crate::directories::{self, IdentityError};

/// The sub-directory of a disk that holds its shards.
const SHARDS: &str = "shards";

/// A directory of shards, locked.
pub(super) struct Place {
    /// Where the segments are.
    pub(super) shards: PathBuf,
    /// The disk's directory around it, where there is one: it has the identity and the secrets.
    pub(super) disk: Option<PathBuf>,
    _lock: Option<File>,
}

/// What is to be done with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Others may read too.
    Read,
    /// Nobody else may be there.
    Write,
}

impl Place {
    /// Finds the shards in or at `given`, and locks them.
    pub(super) fn find(given: &Path, purpose: Purpose) -> Result<Self> {
        let metadata = match fs::metadata(given) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("the directory {} doesn't exist", given.display())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", given.display()));
            }
        };
        ensure!(metadata.is_dir(), "{} is not a directory", given.display());
        let given = fs::canonicalize(given).unwrap_or_else(|_| given.to_owned());
        let below = given.join(SHARDS);
        let (shards, disk) = if below.is_dir() {
            (below, Some(given))
        } else if directories::has_identity(&given) {
            bail!(
                "{} is a disk that was never opened: it has no directory {SHARDS}",
                given.display()
            );
        } else {
            let above = given.parent().filter(|above| directories::has_identity(above));
            let above = above.map(Path::to_owned);
            (given, above)
        };
        let lock = lock(disk.as_deref().unwrap_or(&shards), purpose)?;
        Ok(Self { shards, disk, _lock: lock })
    }

    /// Looks at the shards, and refuses those of another disk than the directory says.
    pub(super) fn open(&self) -> Result<ShardsDirectory> {
        let disk = RealDisk::open(&self.shards)
            .with_context(|| format!("{} can't be opened", self.shards.display()))?;
        let directory = ShardsDirectory::open(Arc::new(disk))?;
        if let Some(disk) = &self.disk {
            check_identity(disk, &directory.identity())?;
        }
        Ok(directory)
    }
}

fn check_identity(disk: &Path, found: &DiskIdentity) -> Result<()> {
    match directories::read_identity(disk) {
        Ok(Some(named)) => ensure!(
            named.cluster == found.cluster && named.disk == found.uuid,
            "the directory {} is disk {} of cluster {}, and its shards are those of disk {} of cluster {}: they were mixed up",
            disk.display(),
            named.disk,
            named.cluster,
            found.uuid,
            found.cluster
        ),
        Ok(None) => {}
        Err(IdentityError::Newer(version)) => bail!(
            "the directory {} has format version {version}, which is newer than this program knows; use a newer Drystone",
            disk.display()
        ),
        Err(error) => eprintln!("{}: {error}; going by the shards alone", disk.display()),
    }
    Ok(())
}

fn lock(path: &Path, purpose: Purpose) -> Result<Option<File>> {
    let file = File::open(path).with_context(|| format!("{} can't be opened", path.display()))?;
    let locked = match purpose {
        Purpose::Read => file.try_lock_shared(),
        Purpose::Write => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => bail!(
            "the directory {} is in use by another Drystone process; stop it first, or give a copy of the directory",
            path.display()
        ),
        Err(TryLockError::Error(_)) if purpose == Purpose::Read => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} can't be locked", path.display()))
        }
    }
}
