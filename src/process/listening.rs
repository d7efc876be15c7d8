//! An HTTP listener of a process, with the task that serves it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use gateway::http::listener::{Handler, ListenerOptions, Stopped, serve};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Doors;

/// Connections that may wait to be accepted. The usual 128 overflow when a few hundred clients come at
/// once, and each that is turned away tries again only after a second.
const BACKLOG: u32 = 4096;

/// Listens on an address.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart needn't wait for the connections of the run before to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("can't listen on {address}"))
}

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
