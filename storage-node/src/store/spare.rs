//! A file that only holds space: a disk whose file system others have filled gives it up to open.
//!
//! Opening writes a superblock and perhaps the index, and a delete wants a segment. The reserve
//! covers that where it is this disk's alone; on a file system that is shared, somebody else may
//! have taken it. The content means nothing, and losing the file loses nothing.

use std::io;

use wire::disk::{Disk, OpenMode};

const NAME: &str = "spare";

/// Lays the file down if it isn't there; without the space for it there is none.
pub(super) fn keep(directory: &dyn Disk, bytes: u64) -> io::Result<()> {
    let file = match directory.open(NAME, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let file = directory.open(NAME, OpenMode::Write)?;
            // A crash may have left one that was not laid down to its end.
            if file.length()? >= bytes {
                return Ok(());
            }
            file
        }
        other => other?,
    };
    let kept = file.allocate(0, bytes).and_then(|()| file.sync_data());
    if kept.is_err() {
        directory.remove(NAME)?;
    }
    kept.and_then(|()| directory.sync_directory())
}

/// Gives the space back to the file system. `false` when there was none to give.
pub(super) fn give_up(directory: &dyn Disk) -> io::Result<bool> {
    match directory.remove(NAME) {
        Ok(()) => directory.sync_directory().map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
