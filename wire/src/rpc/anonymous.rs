//! One request by a process that isn't a node yet: it has no certificate, and knows of the cluster
//! only what the join token says.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use model::rpc::{Message, Request};
use tokio::sync::watch;

use super::client::connection::{Answer, Connection, Lost};
use super::client::pool::role_of;
use super::error::{Refusal, RpcError};
use super::frame::{FrameHead, is_sendable};
use super::stream;
use crate::clock::{Clock, SystemClock, timeout};
use crate::tls::{Authority, anonymous_config};

/// Asks the node at `address`, which must have a certificate of the authority with this `pin`
/// (see [`Authority::pin`]) and a role that fits the request. Gives the answer, and the authority's
/// certificate (X.509 in DER).
pub async fn call_anonymous<Q: Request, R: Message>(
    address: &str,
    authority_pin: [u8; 32],
    request: Q,
    deadline: Duration,
) -> Result<(R, Vec<u8>), RpcError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let name = || address.to_owned();
    let unreachable = |why: String| RpcError::Unreachable { address: name(), why };
    let config = anonymous_config(authority_pin, Arc::clone(&clock))?;
    let began = clock.monotonic();
    let met = timeout(&*clock, deadline, stream::connect(address, Some(config), None))
        .await
        .map_err(|_| unreachable("there was no connection in time".to_owned()))?
        .map_err(|error| unreachable(error.to_string()))?;
    let authority = met
        .chain
        .iter()
        .find(|certificate| Authority::pin(certificate) == authority_pin)
        .map(|certificate| certificate.to_vec())
        .ok_or_else(|| unreachable("the authority's certificate is missing".to_owned()))?;
    let roles = met.peer.as_ref().map(|peer| peer.roles).unwrap_or_default();
    if !roles.contains(role_of(Q::SERVICE)) {
        return Err(unreachable(format!("its roles, {roles}, don't let it answer this")));
    }
    let frame = request.encode();
    if !is_sendable(&frame) {
        return Err(RpcError::TooLarge);
    }
    let left = deadline.saturating_sub(clock.monotonic().saturating_sub(began));
    let deadline_ms = u32::try_from(left.as_millis() + 1).unwrap_or(u32::MAX);
    let head = FrameHead::Request { service: Q::SERVICE as u8, target: 0, deadline_ms };
    let connection = Connection::default();
    let (_ends, ended) = watch::channel(());
    let called = timeout(&*clock, left, async {
        let mut answered = pin!(connection.call(head, frame));
        tokio::select! {
            biased;
            answered = &mut answered => answered,
            // What ends the connection tells all who wait, if they haven't got their answer.
            () = connection.run(met, &*clock, deadline, ended) => answered.await,
        }
    });
    let timed_out = |why| RpcError::TimedOut { address: name(), why };
    match called.await.map_err(|_| timed_out("the deadline passed"))? {
        Ok(Answer { outcome: 0, frame }) => {
            let answer =
                R::decode(frame).map_err(|why| RpcError::Answer { address: name(), why })?;
            Ok((answer, authority))
        }
        Ok(Answer { outcome, .. }) => {
            Err(RpcError::Refused { address: name(), why: Refusal::from_number(outcome) })
        }
        Err(Lost::Unsent) => Err(unreachable("the connection ended".to_owned())),
        Err(Lost::Unanswered) => Err(timed_out("the connection ended")),
    }
}
