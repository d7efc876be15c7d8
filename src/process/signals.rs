//! SIGTERM and SIGINT: the first stops in order, the second at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The orders to stop, caught from now on.
pub struct Orders {
    terminate: Signal,
    interrupt: Signal,
    has_arrived: bool,
}

impl Orders {
    /// Catches them: one that comes before this ends the process at once.
    pub fn catch() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM can't be caught")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT can't be caught")?,
            has_arrived: false,
        })
    }

    /// Waits for the first without taking it: the next wait ends at once.
    pub async fn arrived(&mut self) {
        if !self.has_arrived {
            either(&mut self.terminate, &mut self.interrupt).await;
            self.has_arrived = true;
        }
    }

    /// Waits for the first. From then on a second one ends the process with status 1.
    pub async fn wait(mut self) {
        self.arrived().await;
        tokio::spawn(async move {
            either(&mut self.terminate, &mut self.interrupt).await;
            tracing::warn!("stopping at once, as a second signal asks");
            std::process::exit(1);
        });
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
