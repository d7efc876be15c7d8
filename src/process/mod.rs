//! What every process of ours needs whatever its roles: doors, limits, signals, telemetry, and the
//! frame that runs it until it is told to stop.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wire::clock::{Clock, SystemClock};
use wire::entropy::{Entropy, SystemEntropy};

mod limits;
mod listening;
pub mod signals;
pub mod telemetry;

pub use listening::{Listening, bind};

use crate::logging;
use crate::settings::LogFormat;

/// How long threads that nobody waits for may take at the end.
const THREADS_GRACE: Duration = Duration::from_secs(5);

/// The doors of this process.
#[derive(Clone)]
pub struct Doors {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Doors {
    /// The machine's.
    pub fn of_the_machine() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy::new()) }
    }
}

/// Sets limits and logging up; the program may be started again by this, in the same process.
pub fn prepare(log: &str, log_format: LogFormat) -> Result<()> {
    let arenas = limits::limit_arenas();
    logging::start(log, log_format)?;
    if let Err(error) = arenas {
        tracing::warn!(%error, "the allocator's arenas were not limited; more memory is used");
    }
    limits::raise_open_files();
    Ok(())
}

/// Runs a role to its end.
pub fn run(role: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(role)?;
    // Whatever still runs in a blocking thread has nothing to say any more.
    runtime.shutdown_timeout(THREADS_GRACE);
    Ok(code)
}
