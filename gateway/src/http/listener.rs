//! Accepts connections, up to a limit, until it is told to stop.
//!
//! In: a bound socket, a handler and the order to stop. Out: how it ended. Each connection is a
//! task that this listener owns and joins.
//!
//! After the order to stop it first goes on for a while, if it is told to, so that balancers see
//! that this process isn't ready and send no more: every answer then ends its connection. After
//! that nobody new is let in, idle connections are closed, and requests in flight have their time
//! to end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use wire::clock::{Clock, timeout};

use crate::http::connection::{self, Peer};
use crate::http::response::ResponseBody;
use crate::http::tls::Tls;
use crate::limits::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT, SHUTDOWN_GRACE,
};

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

    /// The listener goes on to this phase.
    fn phase(&self, _phase: Phase) {}

    /// So many connections were cut off at the end.
    fn cut_off(&self, _count: usize) {}
}

/// How far a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It was told to stop and still serves; each answer is the last of its connection.
    Leaving,
    /// It lets nobody in, and waits for the requests in flight.
    Closing,
}

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// The certificate of an HTTPS listener; `None` for plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For a request's head to arrive, and for an idle connection to be closed.
    pub head_timeout: Duration,
    /// How long to go on serving after the order to stop.
    pub drain_delay: Duration,
    /// For requests in flight to end after that.
    pub shutdown_grace: Duration,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            connections_max: CONNECTIONS_MAX,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            drain_delay: Duration::ZERO,
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
    mut stop: watch::Receiver<bool>,
) -> Stopped {
    let follower = options.tls.as_ref().map(|tls| {
        let follow = Arc::clone(tls).follow(Arc::clone(&clock));
        AbortOnDrop(tokio::spawn(follow).abort_handle())
    });
    let mut acceptor = Acceptor {
        listener,
        protocol: connection::protocol(options.head_timeout),
        connections: JoinSet::new(),
        phase: watch::Sender::new(Phase::Serving),
        handler,
        options,
        clock,
    };
    // An error says that nobody is left who could give the order: that is one, too.
    let ordered = async move {
        let _either_way = stop.wait_for(|stop| *stop).await;
    };
    acceptor.accept_until(ordered).await;
    acceptor.enter(Phase::Leaving);
    if !acceptor.options.drain_delay.is_zero() {
        let noticed = acceptor.clock.sleep(acceptor.options.drain_delay);
        acceptor.accept_until(noticed).await;
    }
    acceptor.enter(Phase::Closing);
    drop(follower);
    acceptor.finish().await
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The socket and its connections.
struct Acceptor<H> {
    listener: TcpListener,
    protocol: http1::Builder,
    connections: JoinSet<()>,
    phase: watch::Sender<Phase>,
    handler: Arc<H>,
    options: ListenerOptions,
    clock: Arc<dyn Clock>,
}

impl<H: Handler> Acceptor<H> {
    async fn accept_until(&mut self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let has_room = self.connections.len() < self.options.connections_max;
            tokio::select! {
                biased;
                () = &mut end => return,
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    report_panic(ended);
                    self.handler.connections(self.connections.len());
                }
                accepted = self.listener.accept(), if has_room => {
                    let Ok((stream, address)) = accepted else {
                        // Either the client has gone already, or we are out of descriptors: time
                        // heals.
                        self.clock.sleep(ACCEPT_PAUSE).await;
                        continue;
                    };
                    // Small answers must not wait for the client's acknowledgement of earlier ones.
                    let _best_effort = stream.set_nodelay(true);
                    self.connections.spawn(connection::serve(
                        stream,
                        address,
                        connection::Terms {
                            protocol: self.protocol.clone(),
                            tls: self.options.tls.clone(),
                            handshake_timeout: self.options.handshake_timeout,
                            clock: Arc::clone(&self.clock),
                            phase: self.phase.subscribe(),
                        },
                        Arc::clone(&self.handler),
                    ));
                    self.handler.connections(self.connections.len());
                }
            }
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
        self.handler.phase(phase);
    }

    /// Waits for the requests in flight.
    async fn finish(self) -> Stopped {
        let Self { listener, mut connections, handler, options, clock, phase, .. } = self;
        drop(listener);
        let drained = timeout(clock.as_ref(), options.shutdown_grace, async {
            while let Some(ended) = connections.join_next().await {
                report_panic(ended);
                handler.connections(connections.len());
            }
        })
        .await;
        if drained.is_ok() {
            return Stopped::Finished;
        }
        let left = connections.len();
        handler.cut_off(left);
        connections.shutdown().await;
        handler.connections(0);
        drop(phase);
        Stopped::CutOff(left)
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request handler panicked; its connection was closed");
    }
}
