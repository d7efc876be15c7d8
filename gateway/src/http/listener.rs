//! Accepts connections, up to a limit, until it is told to stop.
//!
//! In: a bound socket, a handler and the order to stop. Out: how it ended. Each connection is a
//! task that this listener owns and joins.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wire::clock::{Clock, timeout};

use crate::http::connection::{self, Peer};
use crate::http::response::ResponseBody;
use crate::limits::{ACCEPT_PAUSE, CONNECTIONS_MAX, HEAD_TIMEOUT, SHUTDOWN_GRACE};

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Dropped when the client leaves.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<ResponseBody>> + Send;

    /// A connection was opened or closed; there are so many now. Not everybody counts them.
    fn connections(&self, _count: usize) {}
}

/// How a listener treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// For a request's head to arrive, and for an idle connection to be closed.
    pub head_timeout: Duration,
    /// For requests in flight to end after the order to stop.
    pub shutdown_grace: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            head_timeout: HEAD_TIMEOUT,
            shutdown_grace: SHUTDOWN_GRACE,
        }
    }
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every request in flight was answered.
    Finished,
    /// So many connections were cut off when the time for that was up.
    CutOff(usize),
}

/// Serves connections until `stop` turns true (or its sender is gone), then lets requests in
/// flight end, within a limit.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    options: ListenerOptions,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Stopped {
    let protocol = connection::protocol(options.head_timeout);
    let mut connections = JoinSet::new();
    let mut stop_ordered = stop.clone();
    let mut stop_ordered = std::pin::pin!(async move {
        // An error says that nobody is left who could give the order: that is one, too.
        let _either_way = stop_ordered.wait_for(|stop| *stop).await;
    });
    loop {
        tokio::select! {
            biased;
            () = &mut stop_ordered => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                report_panic(ended);
                handler.connections(connections.len());
            }
            accepted = listener.accept(), if connections.len() < options.connections_max => {
                let Ok((stream, address)) = accepted else {
                    // Either the client has gone already, or we are out of descriptors: time heals.
                    clock.sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                // Small answers must not wait for the client's acknowledgement of earlier ones.
                let _best_effort = stream.set_nodelay(true);
                connections.spawn(connection::serve(
                    stream,
                    address,
                    protocol.clone(),
                    Arc::clone(&handler),
                    Arc::clone(&clock),
                    stop.clone(),
                ));
                handler.connections(connections.len());
            }
        }
    }
    drop(listener);
    let drained = timeout(clock.as_ref(), options.shutdown_grace, async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    })
    .await;
    if drained.is_ok() {
        return Stopped::Finished;
    }
    let left = connections.len();
    connections.shutdown().await;
    Stopped::CutOff(left)
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request handler panicked; its connection was closed");
    }
}
