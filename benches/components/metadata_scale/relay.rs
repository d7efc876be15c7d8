//! A relay before a node's internal listener that counts what passes.
//!
//! In: connections of other nodes. Out: the same bytes to the node, and how many there were. It
//! knows no frame and holds nothing back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const BUFFER_BYTES: usize = 256 << 10;

/// The relay; it ends with this.
pub struct Relay {
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    to_node: AtomicU64,
    from_node: AtomicU64,
}

impl Relay {
    /// Passes on to `node` what comes to `listener`.
    pub fn start(listener: TcpListener, node: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let task = tokio::spawn(accept(listener, node, Arc::clone(&counts)));
        Self { counts, task }
    }

    /// Bytes to the node and from it, so far.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.counts.to_node), read(&self.counts.from_node))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, node: SocketAddr, counts: Arc<Counts>) {
    while let Ok((outside, _)) = listener.accept().await {
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            // A node that isn't there looks so from outside, too: the connection ends.
            let _ended = pass(outside, node, &counts).await;
        });
    }
}

async fn pass(outside: TcpStream, node: SocketAddr, counts: &Counts) -> Result<()> {
    let inside = TcpStream::connect(node).await?;
    outside.set_nodelay(true)?;
    inside.set_nodelay(true)?;
    let (from_outside, to_outside) = outside.into_split();
    let (from_inside, to_inside) = inside.into_split();
    // When either way ends, so does the other.
    tokio::select! {
        ended = pump(from_outside, to_inside, &counts.to_node) => ended,
        ended = pump(from_inside, to_outside, &counts.from_node) => ended,
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else {
            return Ok(());
        };
        to.write_all(read).await?;
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
}
