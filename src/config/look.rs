//! What can be told about this host's directories and files without changing anything.
//!
//! Permission is asked of the kernel for the user who runs the check, so run it as the user who
//! is to run the role.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use gateway::http::tls::Tls;
use gateway::remote_store::check_authority;
use rustix::fs::{Access, access};

use crate::settings::{Effective, Mistakes, key};

/// The file that makes a directory a host directory.
const HOST_FILE: &str = "host.toml";

/// Notes what a role with these settings would stumble over.
pub fn at_host(effective: &Effective, mistakes: &mut Mistakes) {
    let mut check = |key: &str, path: &Path, looked: io::Result<()>| {
        if let Err(error) = looked {
            mistakes.add(&effective.origin(key), format!("{key}: {}: {error}", path.display()));
        }
    };
    if let Some(path) = effective.path(key::HOST_DIRECTORY) {
        check(key::HOST_DIRECTORY, &path, host_directory(&path));
    }
    if let Some(path) = effective.path(key::DIRECTORY) {
        check(key::DIRECTORY, &path, data_directory(&path));
    }
    for path in effective.paths(key::DIRECTORIES).unwrap_or_default() {
        check(key::DIRECTORIES, &path, data_directory(&path));
    }
    if let Some(path) = effective.path(key::BACKUP_CA) {
        check(key::BACKUP_CA, &path, check_authority(&path).map_err(io::Error::other));
    }
    if let (Some(certificate), Some(private)) =
        (effective.path(key::TLS_CERTIFICATE), effective.path(key::TLS_KEY))
    {
        let (first, second) = (File::open(&certificate), File::open(&private));
        if first.is_ok() && second.is_ok() {
            // What the listener would do, and all that it would find.
            let pair = Tls::load(&certificate, &private).map(drop).map_err(io::Error::other);
            check(key::TLS_CERTIFICATE, &certificate, pair);
        } else {
            check(key::TLS_CERTIFICATE, &certificate, first.map(drop));
            check(key::TLS_KEY, &private, second.map(drop));
        }
    }
}

fn host_directory(path: &Path) -> io::Result<()> {
    if !path.join(HOST_FILE).try_exists()? {
        return Err(io::Error::other(
            "it has no host.toml: expected a directory that drystone cluster init or join has made",
        ));
    }
    File::open(path.join(HOST_FILE))?;
    // Renewed certificates are kept there.
    writable(path)
}

/// A directory that is there must be writable; one that isn't must be one that can be made.
fn data_directory(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(io::Error::other("it is no directory")),
        Ok(_) => writable(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = std::path::absolute(path)?;
            let there = path.ancestors().skip(1).find(|ancestor| ancestor.exists());
            let parent = there.unwrap_or(Path::new("/"));
            writable(parent).map_err(|error| {
                io::Error::other(format!(
                    "it is not there, and can't be made in {}: {error}",
                    parent.display()
                ))
            })
        }
        Err(error) => Err(error),
    }
}

fn writable(path: &Path) -> io::Result<()> {
    let needed = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    access(path, needed).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(error.kind(), format!("it can't be written to: {error}"))
    })
}
