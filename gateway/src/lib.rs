//! How the world speaks to Drystone: HTTP in, S3 operations on the engine, and the admin listener.
//!
//! A request goes through these rooms, each of which takes what the one before gave:
//!
//! | room | takes | gives |
//! | --- | --- | --- |
//! | [`http`] | a socket | hyper's request, its body under limits of time |
//! | `s3::route` | method, target, headers | an operation on a bucket and key |
//! | [`auth`] | the request's head | who signed it, and a permit |
//! | [`ops`] | permit and request | the answer, by way of the engine |
//! | [`payload`] | the body, in `ops` that want one | verified bytes in the engine |
//!
//! Authentication, permission, and conditions that can refuse a request are all evaluated before
//! its body is asked for, so that a client that sent `Expect: 100-continue` keeps its bytes.
//!
//! The binary makes a [`Gateway`] and an [`admin::AdminHandler`] and runs a
//! [`http::listener::serve`] for each.

pub mod admin;
pub mod auth;
pub mod backup_store;
mod gateway;
mod handle;
pub mod http;
mod limits;
pub mod metrics;
pub mod ops;
pub mod payload;
mod refusal;
pub mod remote_store;
mod request;

pub use gateway::{Gateway, GatewayOptions, Identity};
pub use request::S3Request;
