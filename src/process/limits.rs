//! The limits that the operating system and the C library set to this process.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread::available_parallelism;

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

/// The variable by which the GNU C library is told how many arenas its allocator may have. It is
/// read before `main`, so setting it takes a second start.
const ARENAS: &str = "MALLOC_ARENA_MAX";

/// Allocator arenas for each core. Of the 8 that are the default, each keeps what its threads once
/// freed: on two cores, 32 transfers of 64 MiB took 617 MB with 8 a core, 380 MB with 2 and 368 MB
/// with 1, which cost small requests a tenth more CPU.
const ARENAS_PER_CORE: usize = 2;

/// Starts this program again, in the same process, with fewer allocator arenas, unless the
/// operator has decided that. Returns only when there is nothing to do, or when that failed.
#[expect(clippy::disallowed_methods, reason = "no setting of ours, but the C library's")]
pub fn limit_arenas() -> io::Result<()> {
    if std::env::var_os(ARENAS).is_some() {
        return Ok(());
    }
    let arenas = available_parallelism()?.get() * ARENAS_PER_CORE;
    let program = std::env::current_exe()?;
    Err(Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(ARENAS, arenas.to_string())
        .exec())
}
