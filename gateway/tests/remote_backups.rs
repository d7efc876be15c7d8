//! Backups of the metadata at another S3 endpoint, which is a gateway of our own: whole or not there,
//! whatever becomes of the connections in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gateway::auth::Secret;
use gateway::remote_store::{Endpoint, RemoteSettings, RemoteStore, TrustError};
use metadata::backup::schedule::BackupStore as _;
use model::ids::ClusterId;
use model::time::Timestamp;
use wire::BoxFuture;
use wire::clock::{Clock, SystemClock};

use crate::https;
use crate::proxy::{Deed, Proxy};
use crate::world::client::{ACCESS_KEY, REGION, SECRET_KEY};
use crate::world::{World, noise};

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// S3 takes no smaller part but the last.
const PART_BYTES: usize = 5 << 20;

/// The system's clock, but the pauses between attempts are over at once.
struct Hurried(SystemClock);

impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let is_pause = duration < Duration::from_secs(9);
        if is_pause { Box::pin(std::future::ready(())) } else { self.0.sleep(duration) }
    }
}

fn settings(endpoint: &str) -> RemoteSettings {
    RemoteSettings {
        endpoint: Endpoint::parse(endpoint).expect("an endpoint"),
        bucket: "bucket".to_owned(),
        prefix: "of/".to_owned(),
        region: REGION.to_owned(),
        access_key: ACCESS_KEY.to_owned(),
        secret_key: Secret::new(SECRET_KEY.to_owned()),
        authority: None,
    }
}

fn store_of(settings: RemoteSettings, cluster: ClusterId) -> RemoteStore {
    let clock = Arc::new(Hurried(SystemClock::new()));
    RemoteStore::new(settings, cluster, clock).expect("made").with_part_bytes(PART_BYTES)
}

fn store_at(address: impl std::fmt::Display) -> RemoteStore {
    store_of(settings(&format!("http://{address}")), CLUSTER)
}

/// Puts a whole backup, in pieces as the metadata gives them.
async fn put(store: &RemoteStore, name: &str, backup: &[u8]) -> std::io::Result<()> {
    let mut writing = store.begin(name).await?;
    for piece in backup.chunks(700_000) {
        writing.put(Bytes::copy_from_slice(piece)).await?;
    }
    writing.finish().await
}

async fn uploads_at(world: &World) -> usize {
    let found = world.call("GET", "/bucket?uploads").send().await.is(200);
    found.text().matches("<UploadId>").count()
}

async fn read(world: &World, name: &str) -> Bytes {
    let target = format!("/bucket/of/{CLUSTER}/{name}");
    world.call("GET", &target).send().await.is(200).body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_of_every_length_arrive_whole() {
    let world = World::start().await;
    let store = store_at(world.address);
    assert_eq!(store.names().await.expect("listed"), Vec::<String>::new());
    let lengths = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12_345];
    for length in lengths {
        put(&store, &format!("b{length}"), &noise(length)).await.expect("kept");
    }
    let mut names = store.names().await.expect("listed");
    names.sort_by_key(String::len);
    assert_eq!(names.len(), lengths.len());
    for length in lengths {
        assert!(read(&world, &format!("b{length}")).await == noise(length), "{length}");
    }
    assert_eq!(uploads_at(&world).await, 0);

    store.remove("b1").await.expect("removed");
    store.remove("b1").await.expect("it is gone");
    assert!(!store.names().await.expect("listed").contains(&"b1".to_owned()));
    // Another cluster that uses the same bucket and prefix has backups of its own.
    let other = store_of(settings(&format!("http://{}", world.address)), ClusterId([8; 16]));
    assert_eq!(other.names().await.expect("listed"), Vec::<String>::new());
    other.remove("b0").await.expect("there is none of its own");
    assert!(store.names().await.expect("listed").contains(&"b0".to_owned()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_leaves_nothing() {
    let world = World::start().await;
    let store = store_at(world.address);
    let mut given_up = store.begin("half").await.expect("begun");
    given_up.put(noise(PART_BYTES + 1).into()).await.expect("taken");
    assert_eq!(uploads_at(&world).await, 1);
    drop(given_up);
    assert_eq!(store.names().await.expect("listed"), Vec::<String>::new());
    assert_eq!(uploads_at(&world).await, 0, "the next look aborts it");

    // What an earlier process has left is aborted before the next backup; a client's upload isn't.
    let mut left = store.begin("left").await.expect("begun");
    left.put(noise(PART_BYTES + 1).into()).await.expect("taken");
    std::mem::forget(left);
    world.call("POST", "/bucket/of/somebody-elses?uploads").send().await.is(200);
    assert_eq!(uploads_at(&world).await, 2);
    put(&store_at(world.address), "next", b"whole").await.expect("kept");
    assert_eq!(uploads_at(&world).await, 1);
    assert_eq!(store.names().await.expect("listed"), ["next"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_to_look_at_and_shows_no_secret() {
    let world = World::start().await;
    let secret = "canary-of-a-wrong-secret-key";
    let endpoint = format!("http://{}", world.address);
    let check = async |change: &dyn Fn(&mut RemoteSettings), code: &str, advice: &str| {
        let mut settings = settings(&endpoint);
        change(&mut settings);
        let store = store_of(settings, CLUSTER);
        let listed = store.names().await.expect_err("refused");
        let put = put(&store, "name", b"body").await.expect_err("refused");
        for error in [listed, put] {
            let text = format!("{error} {error:?}");
            assert!(text.contains(code) && text.contains(advice), "{text}");
            assert!(!text.contains("canary") && !text.contains(SECRET_KEY), "{text}");
        }
    };
    let wrong =
        |settings: &mut RemoteSettings| settings.secret_key = Secret::new(secret.to_owned());
    check(&wrong, "SignatureDoesNotMatch", "backup_secret_key").await;
    let unknown = |settings: &mut RemoteSettings| settings.access_key = "CANARYcanary".to_owned();
    check(&unknown, "InvalidAccessKeyId", "backup_access_key").await;
    let nowhere = |settings: &mut RemoteSettings| settings.bucket = "nowhere".to_owned();
    check(&nowhere, "NoSuchBucket", "make the bucket").await;
    let abroad = |settings: &mut RemoteSettings| settings.region = "mars-1".to_owned();
    check(&abroad, "AuthorizationHeaderMalformed", "backup_region").await;
    world.stop().await;

    // Nobody listens there now.
    let gone = store_of(settings(&endpoint), CLUSTER).names().await.expect_err("nobody");
    assert!(gone.to_string().contains("no connection"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_tried_again() {
    let world = World::start().await;
    let number = Arc::new(AtomicU32::new(0));
    let proxy = Proxy::start(world.address, move |_| {
        // Of five attempts the last arrives: broken before and after the request, and refused.
        match number.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => Deed::Break,
            1 => Deed::Answer("503 Service Unavailable", String::new()),
            2 => Deed::Swallow,
            3 => Deed::Answer("429 Too Many Requests", String::new()),
            _ => Deed::Forward,
        }
    })
    .await;
    let store = store_at(proxy.address);
    let backup = noise(PART_BYTES + 100);
    put(&store, "stubborn", &backup).await.expect("kept");
    assert_eq!(store.names().await.expect("listed"), ["stubborn"]);
    assert!(read(&world, "stubborn").await == backup);
    // An upload whose beginning was swallowed is one that was left over.
    put(&store_at(world.address), "next", b"whole").await.expect("kept");
    assert_eq!(uploads_at(&world).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_whose_answer_is_lost_is_an_end() {
    let world = World::start().await;
    let proxy = Proxy::start(world.address, |line| {
        let ends = line.starts_with("POST") && line.contains("uploadId=");
        if ends { Deed::Swallow } else { Deed::Forward }
    })
    .await;
    let backup = noise(PART_BYTES + 100);
    put(&store_at(proxy.address), "lost-answer", &backup).await.expect("it is there");
    assert!(read(&world, "lost-answer").await == backup);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_fails_on_its_way_is_taken_back() {
    let world = World::start().await;
    let denied = "<Error><Code>AccessDenied</Code><Message>Not this.</Message></Error>";
    let refuse = |what: &'static str| {
        move |line: &str| {
            let is_it = line.contains(what);
            if is_it { Deed::Answer("403 Forbidden", denied.to_owned()) } else { Deed::Forward }
        }
    };
    for what in ["partNumber=2", "POST /bucket/of/0707070707070707"] {
        let proxy = Proxy::start(world.address, refuse(what)).await;
        let store = store_at(proxy.address);
        let failed = put(&store, "failed", &noise(3 * PART_BYTES)).await.expect_err("refused");
        assert!(failed.to_string().contains("403 Forbidden: AccessDenied: Not this."), "{failed}");
        assert_eq!(uploads_at(&world).await, 0, "{what}");
        assert_eq!(store.names().await.expect("listed"), Vec::<String>::new());
    }
    // A success that isn't one, and an end that says it failed after it began to succeed.
    let error = "<Error><Code>InternalError</Code><Message>Sorry.</Message></Error>";
    let proxy = Proxy::start(world.address, move |line| {
        let ends = line.starts_with("POST") && line.contains("uploadId=");
        if ends { Deed::Answer("200 OK", error.to_owned()) } else { Deed::Forward }
    })
    .await;
    let failed = put(&store_at(proxy.address), "late", &noise(2 * PART_BYTES)).await;
    let failed = failed.expect_err("refused").to_string();
    assert!(failed.contains("InternalError: Sorry."), "{failed}");
    assert_eq!(uploads_at(&world).await, 0);
    let proxy = Proxy::start(world.address, |line| {
        let is_head = line.starts_with("HEAD");
        if is_head { Deed::Answer("200 OK", "five!".to_owned()) } else { Deed::Forward }
    })
    .await;
    let cut = put(&store_at(proxy.address), "cut", b"more than five").await.expect_err("cut");
    assert!(cut.to_string().contains("5 bytes of 14"), "{cut}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_than_were_sent_are_no_backup() {
    let world = World::start().await;
    let proxy = Proxy::start(world.address, |line| {
        if line.starts_with("PUT") { Deed::Change } else { Deed::Forward }
    })
    .await;
    let store = store_at(proxy.address);
    let changed = put(&store, "changed", &noise(1000)).await.expect_err("refused");
    assert!(changed.to_string().contains("XAmzContentSHA256Mismatch"), "{changed}");
    assert_eq!(store.names().await.expect("listed"), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_counts_when_its_authority_is_trusted() {
    let files = https::Files::new();
    files.write("ours");
    let world = https::world(&files.load().expect("loaded")).await;
    let endpoint = format!("https://localhost:{}", world.address.port());
    let store = store_of(settings(&endpoint), CLUSTER);
    let untrusted = store.names().await.expect_err("unknown authority").to_string();
    assert!(untrusted.contains("backup_ca"), "{untrusted}");

    let with = |path| RemoteSettings { authority: Some(path), ..settings(&endpoint) };
    let store = store_of(with(files.certificate()), CLUSTER);
    // It gets as far as to miss its bucket.
    let missing = store.names().await.expect_err("no bucket").to_string();
    assert!(missing.contains("NoSuchBucket"), "{missing}");
    // A name that isn't the certificate's.
    let elsewhere = format!("https://127.0.0.1:{}", world.address.port());
    let elsewhere = RemoteSettings { authority: Some(files.certificate()), ..settings(&elsewhere) };
    let wrong = store_of(elsewhere, CLUSTER).names().await.expect_err("wrong name").to_string();
    assert!(wrong.contains("no TLS connection"), "{wrong}");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    for path in [files.key(), "/none".into()] {
        let refused = RemoteStore::new(with(path), CLUSTER, Arc::clone(&clock)).err();
        assert!(matches!(refused, Some(TrustError::Authority(_))), "{refused:?}");
    }
    world.stop().await;
}
