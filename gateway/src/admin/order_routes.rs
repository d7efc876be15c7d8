//! The paths of orders to the cluster: which is which, and what its document is.
//!
//! In: method, path and body. Out: the answer of whoever carries orders out. What always holds: an
//! order that can't be read reaches nobody.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::answers::{json, plain, respond};
use crate::admin::orders::{AdminOrders, OrderError};
use crate::http::response::ResponseBody;

/// An order to the cluster, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderPath {
    /// `POST /metadata/transfer`.
    Transfer,
    /// `POST /metadata/add`.
    AddReplica,
    /// `POST /metadata/remove`.
    RemoveReplica,
    /// `GET /metadata/check`.
    Check,
    /// `GET` and `POST /cluster/tokens`.
    Tokens,
    /// `DELETE /cluster/tokens/ID`.
    Token(String),
    /// `POST /nodes/ID/remove`.
    RemoveNode(u32),
}

impl OrderPath {
    /// What a path is for; `None` when it is for no order.
    pub fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "/metadata/transfer" => Self::Transfer,
            "/metadata/add" => Self::AddReplica,
            "/metadata/remove" => Self::RemoveReplica,
            "/metadata/check" => Self::Check,
            "/cluster/tokens" => Self::Tokens,
            path => {
                if let Some(id) = path.strip_prefix("/cluster/tokens/") {
                    let is_one =
                        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
                    return is_one.then(|| Self::Token(id.to_owned()));
                }
                let node = path.strip_prefix("/nodes/")?.strip_suffix("/remove")?;
                Self::RemoveNode(node.parse().ok()?)
            }
        })
    }

    /// The methods that it takes, as the `Allow` header has them.
    pub const fn allowed(&self) -> &'static str {
        match self {
            Self::Transfer | Self::AddReplica | Self::RemoveReplica | Self::RemoveNode(_) => "POST",
            Self::Check => "GET",
            Self::Tokens => "GET, POST",
            Self::Token(_) => "DELETE",
        }
    }

    /// Whether it takes this method.
    pub fn allows(&self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Has an order carried out. The method is one that its path allows.
pub async fn carry_out(
    orders: &dyn AdminOrders,
    path: OrderPath,
    method: &Method,
    body: &[u8],
) -> Response<ResponseBody> {
    match path {
        OrderPath::Transfer => {
            let done = async { orders.transfer(read(body)?).await };
            answer(StatusCode::OK, done.await)
        }
        OrderPath::AddReplica => {
            let done = async { orders.add_replica(read(body)?).await };
            answer(StatusCode::CREATED, done.await)
        }
        OrderPath::RemoveReplica => {
            let done = async { orders.remove_replica(read(body)?).await };
            answer(StatusCode::OK, done.await)
        }
        OrderPath::Check => answer(StatusCode::OK, orders.check().await),
        OrderPath::Tokens if method == Method::POST => {
            let done = async { orders.create_token(read(body)?).await };
            answer(StatusCode::CREATED, done.await)
        }
        OrderPath::Tokens => answer(StatusCode::OK, orders.tokens().await),
        OrderPath::Token(id) => {
            let revoked = orders.revoke_token(id.clone()).await;
            answer(StatusCode::OK, revoked.map(|()| serde_json::json!({ "revoked": id })))
        }
        OrderPath::RemoveNode(node) => {
            let removed = orders.remove_node(node).await;
            answer(StatusCode::OK, removed.map(|()| serde_json::json!({ "removed": node })))
        }
    }
}

/// An order's document; none is an empty one.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, OrderError> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| OrderError::Invalid(format!("the order can't be read: {error}")))
}

/// What came of an order.
pub fn answer<T: Serialize>(
    done: StatusCode,
    result: Result<T, OrderError>,
) -> Response<ResponseBody> {
    match result {
        Ok(document) => json(done, &document),
        Err(error) => {
            if error.status().is_server_error() {
                tracing::warn!(%error, "an order was not carried out");
            }
            let text = Bytes::from(format!("{error}\n"));
            respond(error.status(), "text/plain; charset=utf-8", text)
        }
    }
}

/// The answer of a process that can't carry orders out.
pub fn nobody() -> Response<ResponseBody> {
    let text = "This process keeps no metadata; ask the admin listener of one that does.\n";
    plain(StatusCode::NOT_IMPLEMENTED, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_orders_or_none() {
        let check = |path: &str, expected: Option<(OrderPath, &str)>| {
            let found = OrderPath::parse(path);
            let allowed = found.as_ref().map(OrderPath::allowed);
            assert_eq!(found.zip(allowed), expected, "{path}");
        };
        check("/metadata/transfer", Some((OrderPath::Transfer, "POST")));
        check("/metadata/check", Some((OrderPath::Check, "GET")));
        check("/cluster/tokens", Some((OrderPath::Tokens, "GET, POST")));
        check("/cluster/tokens/0aF9", Some((OrderPath::Token("0aF9".to_owned()), "DELETE")));
        check("/nodes/7/remove", Some((OrderPath::RemoveNode(7), "POST")));
        for none in [
            "/metadata",
            "/metadata/transfer/",
            "/cluster/tokens/",
            "/cluster/tokens/a/b",
            "/nodes/remove",
            "/nodes/x/remove",
            "/nodes/-1/remove",
            "/nodes/7",
        ] {
            check(none, None);
        }
        assert!(OrderPath::Tokens.allows(&Method::GET) && OrderPath::Tokens.allows(&Method::POST));
        assert!(!OrderPath::Tokens.allows(&Method::DELETE));
    }
}
