//! One connection: requests one after the other, until either side has enough.
//!
//! In: an accepted socket and the handler of its requests. Out: nothing; it ends by itself when the
//! client leaves or breaks the protocol, when it stalls, or, after the order to stop, when the
//! request in flight is answered. On an HTTPS listener the client first has its time for a handshake.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use wire::clock::{Clock, timeout};

use crate::http::framing;
use crate::http::listener::{Handler, Phase};
use crate::http::response::ResponseBody;
use crate::http::socket::{ConnectionState, WatchedSocket};
use crate::http::stream::Stream;
use crate::http::tls::Tls;
use crate::limits::{
    CLOSE_TIMEOUT, HEAD_BYTES_MAX, HEADERS_MAX, LINGER_BYTES_MAX, LINGER_TIMEOUT,
    READ_BUFFER_BYTES_MAX, WRITE_STALL_CHECK, WRITE_STALL_TIMEOUT,
};

/// The settings that all connections of a listener share.
#[must_use]
pub fn protocol(head_timeout: std::time::Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .half_close(false)
        .keep_alive(true);
    builder
}

/// Who is at the other end of a request, and what connects us.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The socket's peer, never a header's claim.
    pub address: SocketAddr,
    /// The connection.
    pub connection: Arc<ConnectionState>,
}

/// What the connections of a listener have in common.
pub struct Terms {
    /// From [`protocol`].
    pub protocol: http1::Builder,
    /// The certificate of an HTTPS listener.
    pub tls: Option<Arc<Tls>>,
    /// For a handshake.
    pub handshake_timeout: std::time::Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How far the listener is.
    pub phase: watch::Receiver<Phase>,
}

/// Serves one connection to its end.
pub async fn serve<H: Handler>(
    stream: TcpStream,
    address: SocketAddr,
    terms: Terms,
    handler: Arc<H>,
) {
    let Terms { protocol, tls, handshake_timeout, clock, mut phase } = terms;
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => {
            let shaken = tokio::select! {
                shaken = tls.accept(stream, &*clock, handshake_timeout) => shaken,
                _ = phase.wait_for(|phase| *phase == Phase::Closing) => return,
            };
            match shaken {
                Ok(stream) => Stream::Tls(Box::new(stream)),
                Err(error) => {
                    tracing::debug!(peer = %address, %error, "no TLS connection");
                    return;
                }
            }
        }
    };
    let state = Arc::new(ConnectionState::default());
    let socket = WatchedSocket::new(stream, Arc::clone(&state), Arc::clone(&clock));
    let peer = Peer { address, connection: Arc::clone(&state) };
    let phase_now = phase.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        let (peer, phase) = (peer.clone(), phase_now.clone());
        // Boxed since hyper wants to move it when it hands the socket back.
        Box::pin(async move {
            let mut answer = answer(request, peer, handler).await;
            if *phase.borrow() > Phase::Serving {
                framing::close(&mut answer);
            }
            Ok::<_, Infallible>(answer)
        })
    });
    let mut connection = protocol.serve_connection(socket, service);
    let mut stopping = false;
    let ended = {
        let mut stop_ordered =
            pin!(async { phase.wait_for(|phase| *phase == Phase::Closing).await.is_ok() });
        let mut check = clock.sleep(WRITE_STALL_CHECK);
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
                _ = &mut stop_ordered, if !stopping => {
                    stopping = true;
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                }
                () = &mut check => {
                    if state.stalled_for(clock.monotonic()) >= WRITE_STALL_TIMEOUT {
                        tracing::debug!(peer = %address, "the client takes no byte of its answer");
                        return;
                    }
                    check = clock.sleep(WRITE_STALL_CHECK);
                }
            }
        }
    };
    if let Err(error) = &ended {
        tracing::debug!(peer = %address, %error, "connection ended");
    }
    let mut stream = connection.into_parts().io.into_stream();
    // A client in TLS is told that this is the end, unless the answer was cut short (I-7).
    if stream.is_tls() && ended.is_ok() && !state.has_unread_body() {
        let _best_effort = timeout(clock.as_ref(), CLOSE_TIMEOUT, stream.shutdown()).await;
        return;
    }
    if state.has_unread_body() || ended.is_err_and(|error| error.is_parse()) {
        // A client that never stops sending, or never closes, is left behind.
        let _given_up = timeout(clock.as_ref(), LINGER_TIMEOUT, linger(stream)).await;
    }
}

/// The handler's answer, if the request is beyond doubt.
async fn answer<H: Handler>(
    request: Request<Incoming>,
    peer: Peer,
    handler: Arc<H>,
) -> Response<ResponseBody> {
    let connection = Arc::clone(&peer.connection);
    if let Err(error) = framing::check(&request) {
        tracing::debug!(peer = %peer.address, %error, "request refused");
        connection.leave_body_unread();
        return framing::refusal();
    }
    let is_last = framing::is_last(&request);
    let mut answer = handler.handle(request, peer).await;
    if is_last {
        // Whatever follows is left unread.
        connection.leave_body_unread();
        framing::close(&mut answer);
    }
    answer
}

/// Closes a socket whose client may still be sending. Closing with bytes unread would reset the
/// connection, and the client would lose the answer that says why.
async fn linger(mut stream: Stream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut discarded = vec![0u8; 64 * 1024];
    let mut total = 0usize;
    while let Ok(count) = stream.read(&mut discarded).await {
        total += count;
        if count == 0 || total >= LINGER_BYTES_MAX {
            return;
        }
    }
}
