//! Who sends a request, and whether they may: the only way to a permit.
//!
//! In: a request's head. Out: who signed it, and a permit for its operation. No operation runs
//! without one. What always holds: nothing of the body was read before, and nothing secret is
//! answered or logged.

mod authenticate;
pub(crate) mod authorize;
mod secret;

pub use authenticate::{Authenticator, RootCredentials};
pub use authorize::Permit;
pub use secret::Secret;
