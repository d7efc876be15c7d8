//! A cluster's certificates, a service that does as it is told, and a proxy that cuts.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use model::ids::{ClusterId, NodeId};
use model::node::Roles;
use model::rpc::{Frame, Message, MessageError, Request, Service};
use model::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};
use wire::rpc::{
    Caller, CallerService, ClientOptions, Route, RpcClient, RpcError, RpcServer, Security,
    ServerLimits, Services,
};
use wire::tls::{Authority, Credentials, Identity, NodeKey};

pub const CLUSTER: ClusterId = ClusterId([0xc1; 16]);
pub const DAY: Duration = Duration::from_hours(24);
pub const LONG: Duration = Duration::from_secs(30);

/// What the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Gives back what it got; nodes of any role may ask it.
    Echo = 0,
    /// The same; strangers may ask it too.
    Open = 1,
    /// The same; only gateways may ask it.
    Gateways = 2,
    /// Waits for a permit of `World::gate`, then as `Echo`.
    Wait = 3,
    /// Answers with `number` bytes.
    Give = 4,
    /// Panics.
    Panic = 5,
    /// Can't be read by the server.
    Garbled = 6,
}

const OPS: [Op; 7] = [Op::Echo, Op::Open, Op::Gateways, Op::Wait, Op::Give, Op::Panic, Op::Garbled];

/// A request to service number `S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<const S: u8> {
    pub op: Op,
    pub number: u64,
    pub attachments: Vec<Bytes>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub number: u64,
    pub attachments: Vec<Bytes>,
}

pub type AskShards = Ask<1>;
pub type AskMetadata = Ask<2>;
pub type AskRaft = Ask<3>;
pub type AskMembership = Ask<4>;

pub fn ask<const S: u8>(op: Op, number: u64) -> Ask<S> {
    Ask { op, number, attachments: Vec::new() }
}

impl<const S: u8> Message for Ask<S> {
    fn encode(&self) -> Frame {
        let mut header = vec![self.op as u8];
        header.extend(self.number.to_le_bytes());
        Frame { header: header.into(), attachments: self.attachments.clone() }
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        let malformed = || MessageError::Malformed("no ask".to_owned());
        let (op, number) = frame.header.split_first().ok_or_else(malformed)?;
        let op = OPS.get(usize::from(*op)).copied().ok_or_else(malformed)?;
        if op == Op::Garbled {
            return Err(malformed());
        }
        let number = u64::from_le_bytes(number.try_into().map_err(|_| malformed())?);
        Ok(Self { op, number, attachments: frame.attachments })
    }
}

impl<const S: u8> Request for Ask<S> {
    const SERVICE: Service = match S {
        1 => Service::Shards,
        2 => Service::Metadata,
        3 => Service::Raft,
        _ => Service::Membership,
    };

    fn is_allowed(&self, sender: Roles) -> bool {
        match self.op {
            Op::Open => true,
            Op::Gateways => sender.contains(Roles::GATEWAY),
            _ => sender != Roles::NONE,
        }
    }

    fn name(&self) -> &'static str {
        "ask"
    }
}

impl Message for Told {
    fn encode(&self) -> Frame {
        let header = Bytes::copy_from_slice(&self.number.to_le_bytes());
        Frame { header, attachments: self.attachments.clone() }
    }

    fn decode(frame: Frame) -> Result<Self, MessageError> {
        let number = frame.header.as_ref().try_into();
        let number = number.map_err(|_| MessageError::Malformed("not told".to_owned()))?;
        Ok(Self { number: u64::from_le_bytes(number), attachments: frame.attachments })
    }
}

/// Does as it is told, and remembers what that was.
pub struct Obedient {
    /// Numbers of the requests that were begun.
    pub begun: Mutex<HashSet<u64>>,
    /// Who asked last.
    pub caller: Mutex<Option<Caller>>,
    /// Requests that are being worked on.
    pub working: Arc<AtomicUsize>,
    /// Told when `begun` or `working` has changed.
    pub changed: Arc<Notify>,
    pub gate: Semaphore,
}

/// Counts down when a request is done with, or dropped.
struct Working(Arc<AtomicUsize>, Arc<Notify>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        self.1.notify_waiters();
    }
}

impl Obedient {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Mutex::default(),
            caller: Mutex::default(),
            working: Arc::default(),
            changed: Arc::default(),
            gate: Semaphore::new(0),
        })
    }

    pub fn begun(&self) -> HashSet<u64> {
        self.begun.lock().expect("not poisoned").clone()
    }

    /// Waits until it is so.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        tokio::time::timeout(LONG, async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_so(self) {
                    return;
                }
                changed.await;
            }
        })
        .await
        .expect("it comes to be so");
    }
}

impl<const S: u8> CallerService<Ask<S>, Told> for Obedient {
    fn serve(&self, caller: Caller, request: Ask<S>) -> BoxFuture<'_, Told> {
        self.working.fetch_add(1, Ordering::SeqCst);
        let working = Working(Arc::clone(&self.working), Arc::clone(&self.changed));
        self.begun.lock().expect("not poisoned").insert(request.number);
        *self.caller.lock().expect("not poisoned") = Some(caller);
        self.changed.notify_waiters();
        Box::pin(async move {
            let _working = working;
            let Ask { op, number, mut attachments } = request;
            match op {
                Op::Wait => self.gate.acquire().await.expect("never closed").forget(),
                Op::Give => attachments = vec![vec![0x5a; number as usize].into()],
                Op::Panic => panic!("as it was told"),
                Op::Echo | Op::Open | Op::Gateways | Op::Garbled => {}
            }
            Told { number, attachments }
        })
    }
}

/// The machine's clock, set to another time.
pub struct OtherTime(pub SystemClock, pub i64);

impl Clock for OtherTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.now().as_seconds().saturating_add_signed(self.1))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }
}

/// The machine's clock, whose sleeps are so many times shorter.
pub struct Hurried(pub SystemClock, pub u32);

impl Hurried {
    pub fn by(times: u32) -> Arc<dyn Clock> {
        Arc::new(Self(SystemClock::new(), times))
    }
}

impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration / self.1)
    }
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

pub fn now() -> Timestamp {
    SystemClock::new().now()
}

pub fn authority() -> Authority {
    Authority::create(CLUSTER, now()).expect("an authority")
}

pub fn identity(node: u32, roles: Roles) -> Identity {
    Identity { cluster: CLUSTER, node: NodeId(node), roles }
}

/// A certificate and its key, from some time on, for a while.
pub fn certificate(
    authority: &Authority,
    identity: &Identity,
    from: Timestamp,
    lifetime: Duration,
) -> (Vec<u8>, NodeKey) {
    let key = NodeKey::generate().expect("a key");
    let request = key.certificate_request().expect("a request");
    let addresses = ["127.0.0.1:7".to_owned()];
    let certificate = authority.issue(&request, identity, &addresses, from, lifetime);
    (certificate.expect("a certificate"), key)
}

pub fn credentials(authority: &Authority, node: u32, roles: Roles) -> Arc<Credentials> {
    let (certificate, key) = certificate(authority, &identity(node, roles), now(), DAY);
    Credentials::new(&certificate, key.der(), authority.certificate()).expect("they fit")
}

pub fn tls(authority: &Authority, node: u32, roles: Roles) -> Security {
    Security::Tls(credentials(authority, node, roles))
}

pub fn plain(node: u32, roles: Roles) -> Security {
    Security::Plain(identity(node, roles))
}

/// A server with the obedient service under every number, and what is needed to ask it.
pub struct World {
    pub service: Arc<Obedient>,
    pub services: Arc<Services>,
    pub server: RpcServer,
    pub address: String,
}

pub async fn serve(security: Security) -> World {
    serve_with(security, patient_limits(), clock()).await
}

/// The defaults, for a machine that does many other things at the same time.
pub fn patient_limits() -> ServerLimits {
    ServerLimits { handshake_timeout: LONG, ..ServerLimits::default() }
}

/// The same for clients.
pub fn patient() -> ClientOptions {
    ClientOptions { connect_timeout: LONG, ..ClientOptions::default() }
}

pub async fn serve_with(security: Security, limits: ServerLimits, clock: Arc<dyn Clock>) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (service, services) = (Obedient::new(), Services::new());
    services.add::<AskShards, Told>(7, Arc::clone(&service) as _);
    services.add::<AskMetadata, Told>(7, Arc::clone(&service) as _);
    services.add::<AskRaft, Told>(7, Arc::clone(&service) as _);
    services.add::<AskMembership, Told>(0, Arc::clone(&service) as _);
    let server = RpcServer::start(listener, security, Arc::clone(&services), limits, clock);
    World { service, services, server: server.expect("started"), address }
}

pub fn client(security: Security) -> Arc<RpcClient> {
    RpcClient::new(security, patient(), clock()).expect("a client")
}

pub fn route(address: &str) -> Route {
    Route { address: address.to_owned(), node: None, target: 7 }
}

/// Asks what is at an address.
pub async fn put<const S: u8>(
    client: &RpcClient,
    address: &str,
    request: Ask<S>,
) -> Result<Told, RpcError> {
    client.call(&route(address), request, LONG).await
}

/// A proxy that lets so many bytes through to the server on each connection, then cuts it.
pub struct Proxy {
    pub address: String,
    /// Cuts all connections.
    pub cut: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn proxy(server: &str, bytes: usize) -> Proxy {
    slow_proxy(server, bytes, Duration::ZERO).await
}

/// The same, with a pause behind each 64 KiB in either direction.
pub async fn slow_proxy(server: &str, bytes: usize, pause: Duration) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (server, cut) = (server.to_owned(), Arc::new(Notify::new()));
    let cutting = Arc::clone(&cut);
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&server).await else { continue };
            let cutting = Arc::clone(&cutting);
            tokio::spawn(async move {
                tokio::select! {
                    () = pass(client, server, bytes, pause) => {}
                    () = cutting.notified() => {}
                }
            });
        }
    });
    Proxy { address, cut, task }
}

async fn pass(client: TcpStream, server: TcpStream, bytes: usize, pause: Duration) {
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = pass_one_way(client_read, server_write, bytes, pause) => {}
        () = pass_one_way(server_read, client_write, usize::MAX, pause) => {}
    }
}

async fn pass_one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut left: usize,
    pause: Duration,
) {
    let mut buffer = vec![0u8; 64 << 10];
    while left > 0 {
        let most = left.min(buffer.len());
        let Ok(got @ 1..) = from.read(&mut buffer[..most]).await else { return };
        if to.write_all(&buffer[..got]).await.is_err() {
            return;
        }
        left -= got;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}
