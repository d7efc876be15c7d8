//! Disks of every released format are opened, and read as they were written.
//!
//! `tests/fixtures/storage-node/vN.image` is a disk of version N, `vN.shards` says what is on it. A
//! format that is released gets its image by the ignored test at the end; images are never made
//! anew, or they would prove nothing.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::checksum::block_checksums;
use model::coding::Coding;
use model::ids::{ClusterId, DiskId, DiskUuid, ExtentId, PgId, SessionId, ShardId};
use model::shard::{ShardAppend, ShardError, ShardRead};
use twox_hash::XxHash3_64;
use wire::clock::{Clock, SimulatedClock};
use wire::disk::{Disk, OpenMode, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::{Depth, OfflineError, RecordCounts, ShardsDirectory, report_index, survey};
use crate::index::{INDEX_NAME, SUMS_NAME};
use crate::segment::Kind;
use crate::{DiskIdentity, Store, StoreOptions};

#[path = "../../../tests/fixtures/image.rs"]
mod image;

/// The format that a fixture is made of.
const VERSION: u32 = 1;
/// All that there are.
const VERSIONS: [u32; 1] = [1];

fn identity() -> DiskIdentity {
    DiskIdentity { cluster: ClusterId([0xc1; 16]), disk: DiskId(7), uuid: DiskUuid([0xd2; 16]) }
}

fn path(version: u32, ending: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/storage-node");
    PathBuf::from(fixtures).join(format!("v{version}.{ending}"))
}

fn open(disk: &SimulatedDisk, clock: Arc<dyn Clock>) -> Store {
    let options = StoreOptions {
        segment_bytes: 12 << 10,
        allocation_step_bytes_max: 4 << 10,
        index_cache_bytes: 1 << 20,
        ..StoreOptions::default()
    };
    let never = Duration::from_hours(1);
    let disk = Arc::new(disk.clone());
    Store::open(disk, identity(), options, clock, never, Arc::default()).expect("opened")
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

fn load(version: u32) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1);
    let shards = disk.subdirectory("shards").expect("made");
    let packed = std::fs::read(path(version, "image")).expect("a fixture");
    for (name, content) in image::unpack(&packed) {
        let file = shards.open(&name, OpenMode::CreateNew).expect("new");
        file.write_at(&[IoSlice::new(&content)], 0).expect("written");
        file.sync_data().expect("synced");
    }
    shards.sync_directory().expect("synced");
    disk
}

/// What a line of `vN.shards` says: `live ID LENGTH CHECKSUM` or `deleted ID LENGTH CHECKSUM`.
struct Expected {
    is_live: bool,
    id: ShardId,
    length: u32,
    checksum: u64,
}

fn expected(version: u32) -> Vec<Expected> {
    let text = std::fs::read_to_string(path(version, "shards")).expect("a fixture");
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Expected {
    let mut words = line.split(['.', '/', ' ']);
    let mut next = || words.next().expect("a word");
    let is_live = next() == "live";
    let mut number = || next().parse::<u64>().expect("a number");
    let extent = ExtentId {
        pg: PgId(number() as u32),
        session: SessionId(number()),
        sequence: number() as u32,
    };
    let id = ShardId { extent, stripe: number() as u16, slot: number() as u8 };
    let length = number() as u32;
    let checksum = u64::from_str_radix(next(), 16).expect("hex");
    Expected { is_live, id, length, checksum }
}

fn check(store: &Store, expected: &[Expected]) {
    for shard in expected {
        let read = ShardRead { id: shard.id, offset: 0, length: shard.length };
        let answer = wait(store.read(vec![read])).expect("answered").remove(0);
        if shard.is_live {
            let blocks = answer.unwrap_or_else(|error| panic!("{}: {error}", shard.id));
            assert_eq!(XxHash3_64::oneshot(&blocks.payload), shard.checksum, "{}", shard.id);
        } else {
            assert!(matches!(answer, Err(ShardError::NotFound(..))), "{}: {answer:?}", shard.id);
        }
    }
    let live = expected.iter().filter(|shard| shard.is_live).count();
    assert_eq!(store.report().shards, live as u64);
}

#[test]
fn every_released_format_is_read_with_and_without_its_index() {
    for version in VERSIONS {
        let expected = expected(version);
        assert!(expected.iter().any(|shard| shard.is_live));
        assert!(expected.iter().any(|shard| !shard.is_live));
        let disk = load(version);
        let clock = Arc::new(SimulatedClock::new());
        let shards = disk.subdirectory("shards").expect("there");
        {
            let directory = ShardsDirectory::open(Arc::clone(&shards)).expect("ours");
            let found = survey(&directory, Depth::Whole, &|_| {}).expect("surveyed");
            assert_eq!(found.damage().count(), 0, "{:?}", found.findings);
            let mut kinds = RecordCounts::default();
            let mut has_moved_tombstone = false;
            super::dump::<OfflineError>(&directory, &found, None, false, &mut |record| {
                let header = record.header;
                has_moved_tombstone |= header.before > 0;
                match header.kind {
                    Kind::Shard => kinds.shards += 1,
                    Kind::Tombstone => kinds.tombstones += 1,
                    Kind::Mark => kinds.marks += 1,
                    Kind::Remains => kinds.remains += 1,
                }
                Ok(())
            })
            .expect("dumped");
            assert!(has_moved_tombstone);
            assert!(kinds.shards > 0 && kinds.tombstones > 0, "{kinds:?}");
            assert!(kinds.marks > 0 && kinds.remains > 0, "{kinds:?}");
            assert!(report_index(&directory, &found, clock.clone()).agrees());
        }
        let store = open(&disk, clock.clone());
        check(&store, &expected);
        store.close();
        for name in [INDEX_NAME, SUMS_NAME] {
            // Whichever of the two that version had.
            let _ = shards.remove(name);
        }
        let store = open(&disk, clock.clone());
        check(&store, &expected);
        store.close();
        let store = open(&disk, clock);
        check(&store, &expected);
        store.close();
    }
}

/// Appends a shard whose bytes follow from its sequence number, and writes down what it is.
fn put(store: &Store, sequence: u32, length: usize, note: &mut String) {
    let extent = ExtentId { pg: PgId(sequence % 2), session: SessionId(3), sequence };
    let id = ShardId { extent, stripe: 0, slot: 0 };
    let mut payload = vec![0; length];
    SeededEntropy::new(u64::from(sequence)).fill(&mut payload);
    let shard = ShardAppend {
        id,
        coding: Coding::new(1, 0).expect("valid"),
        stripe_bytes: length as u32,
        checksums: block_checksums(id, &payload).into(),
        payload: Bytes::from(payload.clone()),
        owner: Bytes::from(format!("owner of extent {sequence}")),
    };
    wait(store.append(vec![shard], true)).expect("appended");
    let is_deleted = sequence.is_multiple_of(3);
    let word = if is_deleted { "deleted" } else { "live" };
    let checksum = XxHash3_64::oneshot(&payload);
    writeln!(note, "{word} {id} {length} {checksum:016x}").expect("memory");
}

/// Makes the fixture of a format that is about to be released:
/// `cargo test -p storage-node --lib make_the_fixture -- --ignored`.
#[test]
#[ignore = "writes a fixture into the tree"]
fn make_the_fixture() {
    assert!(!path(VERSION, "image").exists(), "fixtures are never made anew: remove it first");
    let disk = SimulatedDisk::new(1);
    let clock = Arc::new(SimulatedClock::new());
    let mut note = String::new();
    let delete = |store: &Store, sequences: &[u32]| {
        let extent = |n: &u32| ExtentId { pg: PgId(n % 2), session: SessionId(3), sequence: *n };
        wait(store.delete(sequences.iter().map(extent).collect())).expect("deleted");
    };
    // Segments that are closed, mostly garbage, and compacted: moved shards and tombstones,
    // remains of what was deleted just before.
    let store = open(&disk, clock.clone());
    for sequence in 1..=24 {
        put(&store, sequence, 900 + 7 * sequence as usize, &mut note);
        clock.advance(Duration::from_millis(10));
    }
    delete(&store, &[3, 6, 9, 12]);
    clock.advance(Duration::from_mins(20));
    delete(&store, &[15, 18]);
    wait(store.checkpoint()).expect("checkpointed");
    wait(store.compact()).expect("compacted");
    store.close();
    // A segment whose tombstones outlive it: they guard graves that are still there.
    let store = open(&disk, clock.clone());
    for sequence in 25..=30 {
        put(&store, sequence, 1500 * (sequence as usize - 24), &mut note);
    }
    delete(&store, &[21, 24, 27, 30]);
    put(&store, 36, 200, &mut note);
    store.close();
    clock.advance(Duration::from_mins(20));
    let store = open(&disk, clock.clone());
    put(&store, 31, 2000, &mut note);
    delete(&store, &[36]);
    wait(store.checkpoint()).expect("checkpointed");
    wait(store.compact()).expect("compacted");
    // A crash: an open segment, changes that the index doesn't have, a mark.
    put(&store, 32, 100, &mut note);
    put(&store, 33, 200, &mut note);
    delete(&store, &[33]);
    for _ in 0..3 {
        clock.advance(Duration::from_secs(2));
        store.look_after();
        // A job behind the tick: when it is answered, the mark is written.
        wait(store.delete(Vec::new())).expect("nothing to delete");
    }
    store.abort();
    let shards = disk.subdirectory("shards").expect("there");
    let mut files = image::Files::new();
    for name in shards.list().expect("names") {
        let file = shards.open(&name, OpenMode::Read).expect("there");
        let mut content = vec![0; file.length().expect("length") as usize];
        file.read_exact_at(&mut content, 0).expect("read");
        files.insert(name, content);
    }
    let packed = image::pack(&files);
    assert!(packed.len() < 200 << 10, "{} bytes", packed.len());
    assert_eq!(image::unpack(&packed), files);
    std::fs::write(path(VERSION, "image"), packed).expect("written");
    std::fs::write(path(VERSION, "shards"), note).expect("written");
}
