//! The limits that the operating system sets to this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Allows as many open files as an unprivileged process may have: each connection is one, and the
/// usual soft limit of 1024 would turn clients away long before the gateway's own limit does.
pub fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, ?current, "the limit of open files was not raised");
    }
}
