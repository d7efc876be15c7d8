//! Backups of the metadata in the cluster itself: whole or not there, and not the clients' to change.

use bytes::Bytes;
use gateway::backup_store::{BACKUP_BUCKET, ClusterStore};
use metadata::backup::schedule::BackupStore as _;

use crate::world::{World, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_objects_that_clients_can_only_read() {
    let world = World::start().await;
    let store = ClusterStore::new(world.engine.clone(), "owner".to_owned()).expect("made");
    assert_eq!(store.names().await.expect("none yet"), Vec::<String>::new());
    let backup = noise(3_000_000);
    for name in ["one", "two"] {
        let mut writing = store.begin(name).await.expect("begun");
        for piece in backup.chunks(1_000_000) {
            writing.put(Bytes::copy_from_slice(piece)).await.expect("taken");
        }
        writing.finish().await.expect("kept");
    }
    // One that isn't finished is none.
    let mut given_up = store.begin("three").await.expect("begun");
    given_up.put(Bytes::from_static(b"half")).await.expect("taken");
    drop(given_up);
    assert_eq!(store.names().await.expect("listed"), ["one", "two"]);

    let object = format!("/{BACKUP_BUCKET}/one");
    let found = world.call("GET", &object).send().await.is(200);
    assert_eq!(found.body, backup);
    world.call("HEAD", &object).send().await.is(200);
    // Nobody made the bucket, and nobody comes across it who goes through all buckets.
    for target in ["/", "/?max-buckets=1", "/?prefix=drystone"] {
        let all = world.call("GET", target).send().await.is(200);
        assert!(!all.text().contains(BACKUP_BUCKET), "{}", all.text());
        assert_eq!(all.text().contains("<Name>bucket</Name>"), !target.contains("prefix"));
        assert_eq!(all.element("ContinuationToken"), None, "{target}");
    }
    for name in ["a-first", "z-last"] {
        world.call("PUT", &format!("/{name}")).send().await.is(200);
    }
    let page = world.call("GET", "/?max-buckets=2").send().await.is(200);
    let token = page.element("ContinuationToken").expect("there is another");
    let target = format!("/?continuation-token={token}&max-buckets=2");
    let rest = world.call("GET", &target).send().await.is(200);
    assert!(rest.text().contains("<Name>z-last</Name>") && !rest.text().contains(BACKUP_BUCKET));
    assert_eq!(rest.element("ContinuationToken"), None);
    let list = world.call("GET", &format!("/{BACKUP_BUCKET}?list-type=2")).send().await.is(200);
    assert!(list.text().contains("<Key>two</Key>"));
    for (method, target) in [
        ("PUT", object.as_str()),
        ("DELETE", object.as_str()),
        ("POST", &format!("{object}?uploads")),
        ("DELETE", &format!("/{BACKUP_BUCKET}")),
        ("PUT", &format!("/{BACKUP_BUCKET}")),
    ] {
        world.call(method, target).send().await.is_error(403, "AccessDenied");
    }
    let named = "<Delete><Object><Key>one</Key></Object></Delete>";
    let many = world.call("POST", &format!("/{BACKUP_BUCKET}?delete")).body(named).send().await;
    assert!(!many.text().contains("<Deleted>"), "{}", many.text());
    world.call("GET", &object).send().await.is(200);
    store.remove("one").await.expect("removed");
    assert_eq!(store.names().await.expect("listed"), ["two"]);
    world.call("GET", &object).send().await.is_error(404, "NoSuchKey");
}
