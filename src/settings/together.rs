//! What must hold between settings: pairs that belong together, listeners that must differ, files
//! that hold a value.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::decided::{RootCredentials, TlsFiles};
use super::effective::Effective;
use super::mistakes::Mistakes;
use super::origin::Origin;
use super::remote_backups;
use super::table::{Role, key};
use super::value::{Kind, Value};

/// A file with a secret key holds a line; what is longer than this is another file.
const SECRET_BYTES_MAX: u64 = 4096;

/// Looks at the values together; reads nothing.
pub fn check(effective: &Effective, mistakes: &mut Mistakes) {
    listeners(effective, mistakes);
    directories(effective, mistakes);
    cluster_listen(effective, mistakes);
    tls_pair(effective, mistakes);
    root_pair(effective, mistakes);
    remote_backups::check(effective, mistakes);
}

/// No two listeners can have one port. Port 0 stands for any that is free.
fn listeners(effective: &Effective, mistakes: &mut Mistakes) {
    let keys = [key::LISTEN, key::ADMIN_LISTEN, key::CLUSTER_LISTEN];
    let listeners: Vec<_> =
        keys.iter().filter_map(|key| Some((*key, effective.address(key)?))).collect();
    for (at, (key, address)) in listeners.iter().enumerate() {
        for (other, taken) in listeners.iter().take(at) {
            if collide(*address, *taken) {
                mistakes.add(
                    &effective.origin(key),
                    format!("{key} = \"{address}\" is taken by {other} = \"{taken}\": expected another port"),
                );
            }
        }
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_host && one.is_ipv4() == other.is_ipv4()
}

/// Each disk needs a directory of its own.
fn directories(effective: &Effective, mistakes: &mut Mistakes) {
    let paths = effective.paths(key::DIRECTORIES).unwrap_or_default();
    for (at, path) in paths.iter().enumerate() {
        if paths[..at].contains(path) {
            mistakes.add(
                &effective.origin(key::DIRECTORIES),
                format!(
                    "directories: {} is given twice: expected a directory for each disk",
                    path.display()
                ),
            );
        }
    }
}

/// A server that stands alone has no internal listener.
fn cluster_listen(effective: &Effective, mistakes: &mut Mistakes) {
    let origin = effective.origin(key::CLUSTER_LISTEN);
    // The other roles are told that they need a host directory.
    let stands_alone =
        effective.role == Role::Server && effective.origin(key::HOST_DIRECTORY) == Origin::Default;
    if stands_alone && origin != Origin::Default {
        mistakes.add(
            &origin,
            "cluster_listen does nothing without host_directory: give both or neither",
        );
    }
}

fn tls_pair(effective: &Effective, mistakes: &mut Mistakes) {
    let both = (effective.origin(key::TLS_CERTIFICATE), effective.origin(key::TLS_KEY));
    if let Some(given) = lone(&both) {
        let problem = "tls_certificate and tls_key belong together: expected both or neither";
        mistakes.add(given, problem);
    }
}

fn root_pair(effective: &Effective, mistakes: &mut Mistakes) {
    let secret = effective.origin(key::ROOT_SECRET_KEY);
    let secret_file = effective.origin(key::ROOT_SECRET_KEY_FILE);
    if secret.rank() == secret_file.rank() && secret != Origin::Default {
        mistakes.add(
            &secret_file,
            "root_secret_key and root_secret_key_file are two ways to say one thing: expected one",
        );
    }
    let higher = if secret.rank() > secret_file.rank() { secret } else { secret_file };
    if let Some(given) = lone(&(effective.origin(key::ROOT_ACCESS_KEY), higher)) {
        mistakes.add(
            given,
            "root_access_key and root_secret_key (or root_secret_key_file) belong together: \
             expected both or neither",
        );
    }
}

/// The one of two that was given without the other.
fn lone(both: &(Origin, Origin)) -> Option<&Origin> {
    match both {
        (Origin::Default, Origin::Default) => None,
        (Origin::Default, given) | (given, Origin::Default) => Some(given),
        _ => None,
    }
}

/// The certificate and the key of the S3 listener.
pub fn tls(effective: &Effective) -> Option<TlsFiles> {
    let certificate = effective.path(key::TLS_CERTIFICATE)?;
    Some(TlsFiles { certificate, key: effective.path(key::TLS_KEY)? })
}

/// The root identity. Its secret key is given by itself or by a file; the one that stands higher
/// (flag over environment over file) wins.
pub fn root(effective: &Effective, mistakes: &mut Mistakes) -> Option<RootCredentials> {
    let secret = effective.origin(key::ROOT_SECRET_KEY);
    let secret_file = effective.origin(key::ROOT_SECRET_KEY_FILE);
    let secret_key = match secret.rank().cmp(&secret_file.rank()) {
        Ordering::Greater => effective.text(key::ROOT_SECRET_KEY)?,
        // None is given, or both, which is a mistake.
        Ordering::Equal => return None,
        Ordering::Less => {
            let path = effective.path(key::ROOT_SECRET_KEY_FILE)?;
            let read = read_secret(&path);
            if let Err(error) = &read {
                // The path is not told: it may be the secret itself, given by the wrong name.
                mistakes.add(
                    &secret_file,
                    format!("root_secret_key_file: {error}: expected a file that holds the key"),
                );
            }
            read.ok()?
        }
    };
    Some(RootCredentials { access_key: effective.text(key::ROOT_ACCESS_KEY)?, secret_key })
}

/// The only line of a file.
pub(super) fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match Kind::SecretKey.parse(&[line.into()]) {
        Ok(Value::Text(secret)) if !secret.contains('\n') => Ok(secret),
        _ => Err(io::Error::other("what it holds is not one line of at least 8 characters")),
    }
}

/// What to say about a private key that others may read.
pub fn readable_by_others(path: &Path) -> Option<String> {
    let mode = path.metadata().ok()?.mode();
    // A group may be made for whoever renews the certificate.
    (mode & 0o007 != 0).then(|| {
        format!(
            "the private key {} may be used by every user of this host (mode {:04o}): chmod 640 it",
            path.display(),
            mode & 0o7777
        )
    })
}
