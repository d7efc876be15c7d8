//! Repair and the shards of objects, as the admin listener tells of them.

use std::net::SocketAddr;

use gateway::admin::inspect::ObjectDocument;
use gateway::admin::repair::RepairDocument;
use gateway::admin::why::WhyDocument;
use gateway::admin::{object_path, render_repair};

use crate::admin::listen;
use crate::world::client::{Call, Reply};
use crate::world::{World, cluster_map};

async fn get(address: SocketAddr, path: &str) -> Reply {
    Call::new(address, "GET", path).send_unsigned().await
}

async fn object(address: SocketAddr, key: &str, query: &str) -> ObjectDocument {
    let path = format!("/objects{}{query}", object_path("bucket", key));
    serde_json::from_str(get(address, &path).await.is(200).text()).expect("the document")
}

async fn why(address: SocketAddr, key: &str) -> WhyDocument {
    let path = format!("/repair/why{}", object_path("bucket", key));
    serde_json::from_str(get(address, &path).await.is(200).text()).expect("the document")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shards_of_an_object_are_told() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    world.call("PUT", "/bucket/large/one").body(vec![2; 300_000]).send().await.is(200);
    for query in ["", "?verify=true", "?limit=1&from=0"] {
        let found = object(address, "large/one", query).await;
        assert_eq!((&*found.bucket, &*found.key, found.size), ("bucket", "large/one", 300_000));
        assert!(found.whole && found.next.is_none() && found.extents[0].known, "{found:?}");
        assert_eq!((found.verified, found.extents[0].spare), (query.contains("verify"), 2));
        let slots = &found.extents[0].slots;
        let places: Vec<_> =
            slots.iter().map(|slot| (&*slot.disk.path, &*slot.state, slot.present)).collect();
        assert_eq!(places.len(), 6);
        assert!(places.iter().all(|(path, state, present)| {
            path.starts_with("/disk") && *state == "present" && *present == 1
        }));
        let text = render_repair::object(&found);
        assert!(
            text.contains("Every shard is where it belongs.") && text.contains("/disk3"),
            "{text}"
        );
    }
    let told = why(address, "large/one").await;
    assert_eq!((told.extents, told.lacking, told.sentences.len()), (1, 0, 1));

    world.shards.lose(4..5);
    let found = object(address, "large/one", "").await;
    let missing: Vec<_> = found.extents[0]
        .slots
        .iter()
        .filter(|slot| slot.state == "missing")
        .map(|slot| slot.disk.id)
        .collect();
    assert_eq!((found.whole, missing), (false, vec![4]));
    let text = render_repair::object(&found);
    assert!(text.contains("0 of 1") && text.contains("repair why bucket/large/one"), "{text}");
    let told = why(address, "large/one").await;
    assert_eq!(told.lacking, 1);
    let sentences = told.sentences.concat();
    assert!(sentences.contains("/disk4") && sentences.contains("does not know yet"), "{sentences}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_every_kind_are_found_and_others_told_to_be_missing() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    let keys = ["a b/c", "ä/日本 🙂", "a%20b", "a?limit=1&b", "tail/", "a//b", "a+b", "%", "'\"<>"];
    for (number, key) in keys.iter().enumerate() {
        let path = object_path("bucket", key);
        let body = vec![1; 100 + number];
        world.call("PUT", &path).body(body).send().await.is(200);
        let found = object(address, key, "").await;
        assert_eq!((&*found.key, found.size), (*key, 100 + number as u64));
        assert_eq!(why(address, key).await.key, *key);
    }
    for (path, status, text) in [
        ("/objects/bucket/none", 404, "There is no object none in the bucket bucket."),
        ("/objects/bucket/a%20b/none", 404, "There is no object a b/none in the bucket bucket."),
        ("/repair/why/bucket/%C3%A4", 404, "There is no object ä in the bucket bucket."),
        ("/objects/elsewhere/key", 404, "There is no bucket elsewhere."),
        ("/repair/why/elsewhere/key", 404, "There is no bucket elsewhere."),
        ("/objects/Not_One/key", 400, "No bucket can have that name."),
        ("/objects/bucket", 400, "An object is named BUCKET/KEY behind the path."),
        ("/objects/bucket/%ff", 400, "A name is not UTF-8."),
        (
            "/objects/bucket/a?deep=1",
            400,
            "`deep=1` is none of verify=true, limit=N and from=BYTE.",
        ),
        ("/repair/whynot", 404, ""),
    ] {
        let reply = get(address, path).await.is(status);
        assert!(text.is_empty() || reply.text() == format!("{text}\n"), "{path}: {}", reply.text());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_outstanding_is_told() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    let reply = get(address, "/repair").await.is(200);
    let found: RepairDocument = serde_json::from_str(reply.text()).expect("the document");
    assert!(found.is_nothing() && found.reasons.is_empty(), "{found:?}");
    let text = render_repair::repair(&found, true);
    assert!(text.starts_with("Outstanding  nothing"), "{text}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_is_for_operators_only_and_changes_nothing() {
    let world = World::start().await;
    let (address, _replica, _jobs, _stop) = listen(&world, cluster_map()).await;
    world.call("PUT", "/bucket/key").body(vec![2; 100]).send().await.is(200);
    for path in ["/repair", "/repair/why/bucket/key", "/objects/bucket/key"] {
        for method in ["POST", "PUT", "DELETE"] {
            let reply = Call::new(address, method, path).body("{}").send_unsigned().await.is(405);
            assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        }
        let head = Call::new(address, "HEAD", path).send_unsigned().await.is(200);
        assert!(head.body.is_empty());
        let mut by_name = Call::new(address, "GET", path);
        by_name.headers = vec![("host".to_owned(), "example.com".to_owned())];
        by_name.send_unsigned().await.is(403);
        Call::new(address, "GET", path).header("origin", "null").send_unsigned().await.is(403);
    }
    let shards = world.shards.count();
    object(address, "key", "?verify=true").await;
    assert_eq!(world.shards.count(), shards);
    world.stop().await;
}
