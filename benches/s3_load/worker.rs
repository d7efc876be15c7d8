//! The workers: each has one connection and makes one request after the other until the goal.
//!
//! In: a [`Target`], an operation and a [`Goal`]. Out: an [`Outcome`] with every latency. Objects
//! are numbered; preparing and putting give each number out once, so that a later run can find them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method};
use sha2::{Digest, Sha256};

use crate::client::{Answer, Call, Client, Endpoint, Sink};
use crate::options::{Operation, Options, Payload};
use crate::signer::{EMPTY_SHA256, Signer};

/// Keys that one listing asks for.
const LIST_KEYS: u64 = 1000;

/// When a phase ends: after so many requests, or so much time, whichever comes first.
#[derive(Clone, Copy)]
pub struct Goal {
    /// Requests to make.
    pub requests: u64,
    /// Time after which no further request is begun.
    pub duration: Option<Duration>,
}

impl Goal {
    /// Ends after this many requests, however long they take.
    pub fn requests(requests: u64) -> Self {
        Self { requests, duration: None }
    }
}

/// What the requests of a phase came to.
#[derive(Default)]
pub struct Outcome {
    /// Microseconds of every request that succeeded.
    pub latencies_us: Vec<u32>,
    /// Requests that failed, or that were answered with anything but success.
    pub errors: u64,
    /// Payload bytes sent and received by requests that succeeded.
    pub bytes: u64,
    /// From the first request to the end of the last one.
    pub elapsed: Duration,
    /// Processor time that this program used meanwhile.
    pub client_cpu: Duration,
}

/// The bucket under test, and what all workers share.
pub struct Target {
    endpoint: Rc<Endpoint>,
    signer: Rc<Signer>,
    bucket: String,
    prefix: String,
    objects: u64,
    payload: Bytes,
    payload_hash: HeaderValue,
    empty_hash: HeaderValue,
    get_sink: Sink,
    begun: Cell<u64>,
    fresh: Cell<u64>,
    complained: Cell<bool>,
}

impl Target {
    /// Builds the payload once: bytes that no server can compress.
    pub fn new(options: &Options) -> Result<Self> {
        let endpoint = options.endpoint.as_deref().context("no --endpoint")?;
        let endpoint = Rc::new(Endpoint::parse(endpoint)?);
        let signer = Signer::new(
            endpoint.host()?,
            &options.access_key,
            &options.secret_key,
            &options.region,
        );
        let payload = incompressible(options.size);
        let (payload_hash, empty_hash) = match options.payload {
            Payload::Signed => (hex::encode(Sha256::digest(&payload)), EMPTY_SHA256),
            Payload::Unsigned => ("UNSIGNED-PAYLOAD".to_owned(), "UNSIGNED-PAYLOAD"),
        };
        Ok(Self {
            endpoint,
            signer: Rc::new(signer),
            bucket: options.bucket.clone(),
            prefix: options.prefix.clone(),
            objects: options.objects,
            get_sink: if options.verify { Sink::Compare(payload.clone()) } else { Sink::Count },
            payload,
            payload_hash: HeaderValue::from_str(&payload_hash)?,
            empty_hash: HeaderValue::from_static(empty_hash),
            begun: Cell::new(0),
            fresh: Cell::new(0),
            complained: Cell::new(false),
        })
    }

    /// Makes the bucket; it is well if it is there already.
    pub async fn create_bucket(&self) -> Result<()> {
        let mut client = Client::new(self.endpoint.clone(), self.signer.clone());
        let call = self.bodiless(Method::PUT, format!("/{}", self.bucket), String::new());
        let answer = client.call(call, &Sink::Keep).await?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(
            matches!(answer.status, 200 | 409),
            "creating the bucket: {} {body}",
            answer.status
        );
        Ok(())
    }

    /// Forgets what the preparation counted: deleting begins with the first prepared object, and
    /// what `mixed` puts comes after the last one.
    pub fn restart_counting(&self) {
        self.begun.set(0);
        self.fresh.set(self.objects);
    }

    fn key_path(&self, number: u64) -> String {
        format!("/{}/{}{number:010}", self.bucket, self.prefix)
    }

    fn bodiless(&self, method: Method, path: String, query: String) -> Call {
        Call { method, path, query, body: Bytes::new(), payload_hash: self.empty_hash.clone() }
    }

    fn take_number(counter: &Cell<u64>) -> u64 {
        counter.replace(counter.get() + 1)
    }

    fn complain(&self, text: &str) {
        if !self.complained.replace(true) {
            eprintln!("s3_load: first error: {text}");
        }
    }
}

/// Runs `concurrency` workers until the goal and adds up what they saw.
pub async fn run_workers(
    target: &Rc<Target>,
    operation: Operation,
    concurrency: usize,
    goal: Goal,
) -> Result<Outcome> {
    let started = now();
    let cpu_before = cpu_used();
    let workers: Vec<_> = (0..concurrency as u64)
        .map(|seed| {
            let worker = Worker::new(target.clone(), seed);
            tokio::task::spawn_local(worker.run(operation, goal, started))
        })
        .collect();
    let mut total = Outcome::default();
    for worker in workers {
        let outcome = worker.await.context("a worker failed")?;
        total.latencies_us.extend_from_slice(&outcome.latencies_us);
        total.errors += outcome.errors;
        total.bytes += outcome.bytes;
    }
    total.elapsed = started.elapsed();
    total.client_cpu = cpu_used().saturating_sub(cpu_before);
    Ok(total)
}

struct Worker {
    target: Rc<Target>,
    client: Client,
    random: u64,
    /// Numbers of the objects that this worker has put and not deleted (`mixed` only).
    own: Vec<u64>,
}

impl Worker {
    fn new(target: Rc<Target>, seed: u64) -> Self {
        let client = Client::new(target.endpoint.clone(), target.signer.clone());
        let random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { target, client, random, own: Vec::new() }
    }

    async fn run(mut self, operation: Operation, goal: Goal, started: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let mut clock = now();
        loop {
            let late = goal.duration.is_some_and(|limit| clock - started >= limit);
            if late || Target::take_number(&self.target.begun) >= goal.requests {
                return outcome;
            }
            let result = self.request(operation).await;
            let end = now();
            match result {
                Ok(bytes) => {
                    let micros = (end - clock).as_micros();
                    outcome.latencies_us.push(u32::try_from(micros).unwrap_or(u32::MAX));
                    outcome.bytes += bytes;
                }
                Err(error) => {
                    outcome.errors += 1;
                    self.target.complain(&format!("{error:#}"));
                    // A server that refuses connections must not be answered by a busy loop.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            clock = now();
        }
    }

    /// Makes one request and gives the payload bytes that it moved.
    async fn request(&mut self, operation: Operation) -> Result<u64> {
        match operation {
            Operation::Put => self.put().await.map(|(_, bytes)| bytes),
            Operation::Get => self.get().await,
            Operation::Head => self.head().await,
            Operation::Delete => {
                // The counter of begun requests was just raised for this one.
                let number = self.target.begun.get() - 1;
                self.delete(number).await
            }
            Operation::List => self.list().await,
            Operation::Mixed => self.mixed().await,
        }
    }

    async fn mixed(&mut self) -> Result<u64> {
        let dice = self.random_below(100);
        if dice < 45 {
            return self.get().await;
        }
        if dice < 75 {
            return self.head().await;
        }
        if dice >= 90
            && let Some(number) = self.own.pop()
        {
            return self.delete(number).await;
        }
        let (number, bytes) = self.put().await?;
        self.own.push(number);
        Ok(bytes)
    }

    async fn put(&mut self) -> Result<(u64, u64)> {
        let target = &self.target;
        let number = Target::take_number(&target.fresh);
        let call = Call {
            method: Method::PUT,
            path: target.key_path(number),
            query: String::new(),
            body: target.payload.clone(),
            payload_hash: target.payload_hash.clone(),
        };
        let bytes = target.payload.len() as u64;
        checked(self.client.call(call, &Sink::Count).await?, 200)?;
        Ok((number, bytes))
    }

    async fn get(&mut self) -> Result<u64> {
        let path = self.random_key_path();
        let call = self.target.bodiless(Method::GET, path, String::new());
        let answer = checked(self.client.call(call, &self.target.get_sink).await?, 200)?;
        let expected = self.target.payload.len() as u64;
        ensure!(answer.bytes == expected, "{} bytes instead of {expected}", answer.bytes);
        Ok(answer.bytes)
    }

    async fn head(&mut self) -> Result<u64> {
        let path = self.random_key_path();
        let call = self.target.bodiless(Method::HEAD, path, String::new());
        checked(self.client.call(call, &Sink::Count).await?, 200)?;
        Ok(0)
    }

    async fn delete(&mut self, number: u64) -> Result<u64> {
        let path = self.target.key_path(number);
        let call = self.target.bodiless(Method::DELETE, path, String::new());
        checked(self.client.call(call, &Sink::Count).await?, 204)?;
        Ok(0)
    }

    async fn list(&mut self) -> Result<u64> {
        let starts = self.target.objects.saturating_sub(LIST_KEYS) + 1;
        let start = self.random_below(starts);
        let target = &self.target;
        let prefix = target.prefix.replace('/', "%2F");
        // The key before the first wanted one; the bare prefix sorts before all of them.
        let after = if start == 0 { String::new() } else { format!("{:010}", start - 1) };
        let query =
            format!("list-type=2&max-keys={LIST_KEYS}&prefix={prefix}&start-after={prefix}{after}");
        let call = target.bodiless(Method::GET, format!("/{}", target.bucket), query);
        let answer = checked(self.client.call(call, &Sink::Keep).await?, 200)?;
        let keys = answer.body.windows(5).filter(|window| *window == b"<Key>").count() as u64;
        let expected = target.objects.min(LIST_KEYS);
        ensure!(keys >= expected, "{keys} keys listed instead of {expected}");
        Ok(answer.bytes)
    }

    fn random_key_path(&mut self) -> String {
        let number = self.random_below(self.target.objects);
        self.target.key_path(number)
    }

    fn random_below(&mut self, limit: u64) -> u64 {
        self.random = xorshift(self.random);
        self.random % limit.max(1)
    }
}

fn checked(answer: Answer, expected: u16) -> Result<Answer> {
    let body = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == expected, "status {}: {body}", answer.status);
    Ok(answer)
}

fn xorshift(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ (state << 17)
}

fn incompressible(size: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d;
    let words = (0..size.div_ceil(8)).flat_map(|_| {
        state = xorshift(state);
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.collect();
    bytes.truncate(size);
    bytes.into()
}

#[expect(clippy::disallowed_methods, reason = "latency is measured with the real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Processor time of this, the only, thread; zero where the system does not tell.
fn cpu_used() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
