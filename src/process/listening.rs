//! An HTTP listener of a process, with the task that serves it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use gateway::http::listener::{Handler, ListenerOptions, Stopped, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Doors;

/// A listener that serves until the order to stop.
pub struct Listening {
    address: SocketAddr,
    task: JoinHandle<Stopped>,
}

impl Listening {
    /// Begins to serve.
    pub fn start<H: Handler>(
        listener: TcpListener,
        handler: Arc<H>,
        options: ListenerOptions,
        doors: &Doors,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let clock = Arc::clone(&doors.clock);
        Ok(Self { address, task: tokio::spawn(serve(listener, handler, options, clock, stopping)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end; answers how many connections were cut off.
    pub async fn ended(self) -> Result<usize> {
        Ok(match self.task.await? {
            Stopped::Finished => 0,
            Stopped::CutOff(connections) => connections,
        })
    }
}
