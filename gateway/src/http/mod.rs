//! HTTP/1.1 by hyper, plain or in TLS: sockets in, requests out, and the answers back.
//!
//! Knows no S3: what a request means is the business of the [`listener::Handler`] that it is given
//! to. What always holds: every wait on a client has a limit; a client that is refused while its
//! body is still coming sees the refusal; stopping lets requests in flight finish.

pub mod body;
pub mod connection;
pub mod framing;
pub mod listener;
pub mod response;
pub mod socket;
pub mod stream;
pub mod tls;
