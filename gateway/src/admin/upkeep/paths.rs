//! The paths of orders to disks, nodes and moves.
//!
//! In: method, path and body. Out: the answer. What always holds: an order that can't be read reaches
//! nobody.

use http::{Method, Response, StatusCode};
use model::ids::{DiskId, NodeId};

use crate::admin::answers::{json, plain};
use crate::admin::order_routes::{answer, read};
use crate::admin::upkeep::change::{Change, Drained};
use crate::admin::upkeep::desk::UpkeepDesk;
use crate::admin::upkeep::orders::{ChangeOrder, PlaceOrder, UpkeepOrder, WeighOrder};
use crate::http::response::ResponseBody;

/// An order, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpkeepPath {
    /// `GET /disks`.
    Disks,
    /// `POST /disks/ID/drain` and `undrain`, and the same of nodes.
    Drain(DrainedId, bool),
    /// `POST /disks/ID/out` and `in`.
    Out(u32, bool),
    /// `POST /disks/ID/weigh`.
    Weigh(u32),
    /// `POST /nodes/ID/move`.
    Place(u32),
    /// `GET /nodes/ID/ok-to-stop`.
    OkToStop(u32),
    /// `GET /moves`.
    Moves,
    /// `POST /moves/pause` and `resume`.
    Pause(bool),
    /// `POST /moves/cancel`.
    Cancel,
    /// `GET` and `POST /upkeep`.
    Upkeep,
}

/// What is drained, by the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainedId {
    /// A disk.
    Disk(u32),
    /// A node.
    Node(u32),
}

impl UpkeepPath {
    /// What a path is for; `None` when it is for no such order.
    pub fn parse(path: &str) -> Option<Self> {
        let number = |text: &str| text.parse::<u32>().ok();
        let (first, rest) = match path.strip_prefix('/')?.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path.strip_prefix('/')?, None),
        };
        Some(match (first, rest) {
            ("disks", None) => Self::Disks,
            ("moves", None) => Self::Moves,
            ("moves", Some("pause")) => Self::Pause(true),
            ("moves", Some("resume")) => Self::Pause(false),
            ("moves", Some("cancel")) => Self::Cancel,
            ("upkeep", None) => Self::Upkeep,
            ("disks", Some(rest)) => {
                let (id, verb) = rest.split_once('/')?;
                let id = number(id)?;
                match verb {
                    "drain" => Self::Drain(DrainedId::Disk(id), true),
                    "undrain" => Self::Drain(DrainedId::Disk(id), false),
                    "out" => Self::Out(id, true),
                    "in" => Self::Out(id, false),
                    "weigh" => Self::Weigh(id),
                    _ => return None,
                }
            }
            ("nodes", Some(rest)) => {
                let (id, verb) = rest.split_once('/')?;
                let id = number(id)?;
                match verb {
                    "drain" => Self::Drain(DrainedId::Node(id), true),
                    "undrain" => Self::Drain(DrainedId::Node(id), false),
                    "move" => Self::Place(id),
                    "ok-to-stop" => Self::OkToStop(id),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// The methods that it takes, as the `Allow` header has them.
    pub const fn allowed(self) -> &'static str {
        match self {
            Self::Disks | Self::OkToStop(_) | Self::Moves => "GET",
            Self::Drain(..)
            | Self::Out(..)
            | Self::Weigh(_)
            | Self::Place(_)
            | Self::Pause(_)
            | Self::Cancel => "POST",
            Self::Upkeep => "GET, POST",
        }
    }

    /// Whether it takes this method.
    pub fn allows(self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Has an order carried out. The method is one that its path allows.
pub async fn carry_out(
    desk: &UpkeepDesk,
    path: UpkeepPath,
    method: &Method,
    body: &[u8],
) -> Response<ResponseBody> {
    if !desk.is_open() {
        let text = "This process is neither a gateway nor a metadata node; ask the admin listener of one.\n";
        return plain(StatusCode::NOT_IMPLEMENTED, text);
    }
    let done = StatusCode::OK;
    match path {
        UpkeepPath::Disks => json(done, &desk.disks().await),
        UpkeepPath::Drain(of, is_draining) => {
            let of = match of {
                DrainedId::Disk(id) => Drained::Disk(DiskId(id)),
                DrainedId::Node(id) => Drained::Node(NodeId(id)),
            };
            let change = Change::Drain { of, is_draining };
            answer(done, async { desk.change(&change, read(body)?).await }.await)
        }
        UpkeepPath::Out(disk, is_out) => {
            let change = Change::Out { disk: DiskId(disk), is_out };
            answer(done, async { desk.change(&change, read(body)?).await }.await)
        }
        UpkeepPath::Weigh(disk) => {
            let changed = async {
                let WeighOrder { weight, plan } = read(body)?;
                let change = Change::Weigh { disk: DiskId(disk), weight };
                desk.change(&change, ChangeOrder { plan, force: false }).await
            };
            answer(done, changed.await)
        }
        UpkeepPath::Place(node) => {
            let changed = async {
                let PlaceOrder { rack, zone, plan } = read(body)?;
                let change = Change::Place { node: NodeId(node), rack, zone };
                desk.change(&change, ChangeOrder { plan, force: false }).await
            };
            answer(done, changed.await)
        }
        UpkeepPath::OkToStop(node) => match desk.ok_to_stop(NodeId(node)).await {
            // For scripts that look at nothing but the status.
            Ok(found) => json(if found.ok { done } else { StatusCode::CONFLICT }, &found),
            Err(error) => answer::<()>(done, Err(error)),
        },
        UpkeepPath::Moves => answer(done, desk.moves().await),
        UpkeepPath::Pause(is_paused) => {
            let order = UpkeepOrder { is_paused: Some(is_paused), ..UpkeepOrder::default() };
            answer(done, desk.set_upkeep(order).await)
        }
        UpkeepPath::Cancel => answer(done, async { desk.cancel(read(body)?).await }.await),
        UpkeepPath::Upkeep if method == Method::POST => {
            answer(done, async { desk.set_upkeep(read(body)?).await }.await)
        }
        UpkeepPath::Upkeep => answer(done, desk.upkeep().await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_orders_or_none() {
        let check = |path: &str, expected: Option<(UpkeepPath, &str)>| {
            let found = UpkeepPath::parse(path);
            assert_eq!(found.map(|found| (found, found.allowed())), expected, "{path}");
        };
        check("/disks", Some((UpkeepPath::Disks, "GET")));
        check("/disks/3/drain", Some((UpkeepPath::Drain(DrainedId::Disk(3), true), "POST")));
        check("/nodes/3/undrain", Some((UpkeepPath::Drain(DrainedId::Node(3), false), "POST")));
        check("/disks/0/out", Some((UpkeepPath::Out(0, true), "POST")));
        check("/disks/0/in", Some((UpkeepPath::Out(0, false), "POST")));
        check("/disks/1/weigh", Some((UpkeepPath::Weigh(1), "POST")));
        check("/nodes/1/move", Some((UpkeepPath::Place(1), "POST")));
        check("/nodes/1/ok-to-stop", Some((UpkeepPath::OkToStop(1), "GET")));
        check("/moves", Some((UpkeepPath::Moves, "GET")));
        check("/moves/cancel", Some((UpkeepPath::Cancel, "POST")));
        check("/upkeep", Some((UpkeepPath::Upkeep, "GET, POST")));
        for none in [
            "",
            "/",
            "/nodes",
            "/nodes/1",
            "/nodes/1/remove",
            "/nodes/x/drain",
            "/disks/",
            "/disks/1",
            "/disks/1/drain/",
            "/disks/-1/drain",
            "/disks/99999999999/drain",
            "/moves/",
            "/upkeep/x",
        ] {
            check(none, None);
        }
        assert!(!UpkeepPath::Moves.allows(&Method::POST));
    }
}
