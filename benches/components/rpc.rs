//! The transport: small requests at several depths, and 4 MiB attachments there and back, with TLS
//! and without. Both sides are in this process, so the processor time is that of both together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use model::ids::{ClusterId, NodeId};
use model::node::Roles;
use model::rpc::{Frame, Message, MessageError, Request, Service};
use tokio::net::TcpListener;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::rpc::{
    ClientOptions, Route, RpcClient, RpcServer, Security, ServerLimits, Services, WithoutCaller,
};
use wire::tls::{Authority, Credentials, Identity, NodeKey};

use crate::meter::Meter;

const SMALL_REQUESTS: u64 = 50_000;
const SMALL_BYTES: usize = 200;
const LARGE_BYTES: usize = 4 << 20;
const LARGE_REQUESTS: u64 = 512;
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks for so many bytes, and brings some.
struct Ask {
    wanted: usize,
    header: Bytes,
    attachment: Option<Bytes>,
}

/// Brings what was asked for.
struct Told(Option<Bytes>);

impl Message for Ask {
    fn encode(&self) -> Frame {
        let mut header = self.wanted.to_le_bytes().to_vec();
        header.extend_from_slice(&self.header);
        Frame { header: header.into(), attachments: self.attachment.clone().into_iter().collect() }
    }

    fn decode(mut frame: Frame) -> Result<Self, MessageError> {
        let (wanted, _) = frame.header.split_first_chunk().ok_or(MessageError::Attachments)?;
        let (wanted, header) = (usize::from_le_bytes(*wanted), frame.header.slice(8..));
        Ok(Self { wanted, header, attachment: frame.attachments.pop() })
    }
}

impl Request for Ask {
    const SERVICE: Service = Service::Shards;

    fn is_allowed(&self, sender: Roles) -> bool {
        sender.contains(Roles::GATEWAY)
    }

    fn name(&self) -> &'static str {
        "measure"
    }
}

impl Message for Told {
    fn encode(&self) -> Frame {
        let header = Bytes::from_static(b"told");
        Frame { header, attachments: self.0.clone().into_iter().collect() }
    }

    fn decode(mut frame: Frame) -> Result<Self, MessageError> {
        Ok(Self(frame.attachments.pop()))
    }
}

struct Gives(Bytes);

impl wire::network::Service<Ask, Told> for Gives {
    fn serve(&self, request: Ask) -> BoxFuture<'_, Told> {
        Box::pin(async move { Told((request.wanted > 0).then(|| self.0.slice(..request.wanted))) })
    }
}

/// Measures both kinds of connection.
pub async fn measure() -> Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let cluster = ClusterId([1; 16]);
    let authority = Authority::create(cluster, clock.now())?;
    let identity = |node| Identity { cluster, node: NodeId(node), roles: Roles::ALL };
    let credentials = |node| {
        let key = NodeKey::generate()?;
        let (request, lifetime) = (key.certificate_request()?, Duration::from_hours(1));
        let own = authority.issue(&request, &identity(node), &[], clock.now(), lifetime)?;
        Credentials::new(&own, key.der(), authority.certificate())
    };
    let (server, client) = (Security::Tls(credentials(1)?), Security::Tls(credentials(2)?));
    measure_one("tls", server, client, &clock).await?;
    let (server, client) = (Security::Plain(identity(1)), Security::Plain(identity(2)));
    measure_one("plain", server, client, &clock).await
}

async fn measure_one(
    kind: &str,
    server: Security,
    client: Security,
    clock: &Arc<dyn Clock>,
) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let payload = Bytes::from(vec![7u8; LARGE_BYTES]);
    let services = Services::new();
    services.add(1, Arc::new(WithoutCaller(Arc::new(Gives(payload.clone())) as _)));
    let limits = ServerLimits::default();
    let server = RpcServer::start(listener, server, services, limits, Arc::clone(clock))?;
    let client = RpcClient::new(client, ClientOptions::default(), Arc::clone(clock))?;
    let caller = Caller { client, route: Route { address, node: None, target: 1 } };
    let caller = Arc::new(caller);

    caller.call(None, 0).await.context("the first call, which connects")?;
    for depth in [1, 16, 256] {
        let meter = Meter::start();
        caller.calls(SMALL_REQUESTS, depth, None, 0).await?;
        let meter = meter.stopped();
        meter.print(&format!("rpc/{kind}/small/{depth}_in_flight"), SMALL_REQUESTS, 0);
    }
    let bytes = LARGE_REQUESTS * LARGE_BYTES as u64;
    for depth in [1, 8] {
        let meter = Meter::start();
        caller.calls(LARGE_REQUESTS, depth, Some(&payload), 0).await?;
        let meter = meter.stopped();
        meter.print(&format!("rpc/{kind}/send_4mib/{depth}_in_flight"), LARGE_REQUESTS, bytes);
        let meter = Meter::start();
        caller.calls(LARGE_REQUESTS, depth, None, LARGE_BYTES).await?;
        let meter = meter.stopped();
        meter.print(&format!("rpc/{kind}/receive_4mib/{depth}_in_flight"), LARGE_REQUESTS, bytes);
    }
    drop(caller);
    server.stop(Duration::from_secs(5)).await;
    Ok(())
}

struct Caller {
    client: Arc<RpcClient>,
    route: Route,
}

impl Caller {
    async fn call(&self, attachment: Option<Bytes>, wanted: usize) -> Result<()> {
        let ask = Ask { wanted, header: Bytes::from_static(&[0; SMALL_BYTES]), attachment };
        let told: Told = self.client.call(&self.route, ask, DEADLINE).await?;
        anyhow::ensure!(told.0.map_or(0, |bytes| bytes.len()) == wanted, "something else came");
        Ok(())
    }

    /// So many calls, of which so many at a time.
    async fn calls(
        self: &Arc<Self>,
        calls: u64,
        depth: u64,
        attachment: Option<&Bytes>,
        wanted: usize,
    ) -> Result<()> {
        let begun = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..depth)
            .map(|_| {
                let (caller, begun) = (Arc::clone(self), Arc::clone(&begun));
                let attachment = attachment.cloned();
                tokio::spawn(async move {
                    while begun.fetch_add(1, Ordering::Relaxed) < calls {
                        caller.call(attachment.clone(), wanted).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }
}
