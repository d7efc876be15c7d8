//! Damage among what is compacted: nothing is dropped without proof, and nothing held without need.

use model::shard::ShardError;
use wire::disk::{Disk, OpenMode, SimulatedDisk};

use super::{begin, check_all, clock, content, delete, eager, fill, open_at, rebuilt, segments};
use crate::unruly::Unruly;
use crate::world::{id, put, wait, whole};

const FIRST: &str = "shards/seg-0000000000000001.dss";

#[test]
fn a_damaged_live_record_holds_its_segment_until_it_is_repaired() {
    for header in [false, true] {
        let (disk, clock, store) = begin(eager());
        fill(&store, 0, 40, 4000);
        delete(&store, (0..40).filter(|n| n % 2 == 0));
        // The second record: header, or payload.
        let record = 128 + (88 + 16 + 8 + 4000);
        disk.flip_bit(FIRST, record + if header { 20 } else { 500 }, 2).expect("flipped");
        wait(store.compact()).expect("compacted");
        assert!(segments(&disk).contains(&FIRST["shards/".len()..].to_owned()), "it is kept");
        assert_eq!(store.report().damaged_shards, 1);
        assert!(matches!(whole(&store, id(1, 1, 0), 4000), Err(ShardError::Corrupt(..))));
        for n in (3..40).step_by(2) {
            whole(&store, id(1, n, 0), 4000).expect("the others");
        }
        // Known after a restart, too.
        store.close();
        let store = open_at(disk.clone(), eager(), &clock);
        assert_eq!(store.report().damaged_shards, 1);
        put(&store, id(1, 1, 0), 4000).expect("repaired");
        assert_eq!(store.report().damaged_shards, 0);
        wait(store.compact()).expect("compacted");
        assert!(!segments(&disk).contains(&FIRST["shards/".len()..].to_owned()), "it is gone");
        check_all(&store, 40, 4000, |n| n % 2 == 1);
        assert_eq!(store.damaged_regions(), []);
        let quarantined = disk
            .subdirectory("shards")
            .and_then(|shards| shards.subdirectory("quarantine")?.list())
            .expect("listed");
        assert_eq!(quarantined.len(), usize::from(header), "what can't be proved is kept aside");
        if header {
            let kept = content(&disk, &format!("shards/quarantine/{}", quarantined[0]));
            assert_eq!(kept.len(), 88 + 16 + 8 + 4000);
        }
        rebuilt(&disk, &store, eager(), &clock);
    }
}

/// A bit that is wrong in the page cache, and right on the device, accuses nobody and holds nothing.
#[test]
fn a_flip_in_the_page_cache_keeps_no_segment() {
    const RECORD: u64 = 88 + 16 + 8 + 4000;
    // Of a live record and of one that is garbage: header, owner, checksum, payload.
    for record in [1, 2] {
        for byte in [5, 20, 90, 106, 500, RECORD - 1] {
            let (simulated, clock) = (SimulatedDisk::new(1), clock());
            let disk = Unruly::new(simulated.clone());
            let store = open_at(disk.clone(), eager(), &clock);
            fill(&store, 0, 40, 4000);
            delete(&store, (0..40).filter(|n| n % 2 == 0));
            let flip = Some((&FIRST["shards/".len()..], 128 + record * RECORD + byte));
            *disk.mood.cached_flip.lock().expect("flip") = flip;
            wait(store.compact()).expect("compacted");
            assert!(simulated.open(FIRST, OpenMode::Read).is_err(), "it is gone: {flip:?}");
            assert_eq!((store.report().damaged_shards, store.damaged_regions()), (0, vec![]));
            check_all(&store, 40, 4000, |n| n % 2 == 1);
        }
    }
}

#[test]
fn what_is_not_provably_dead_is_never_dropped() {
    let (disk, clock, store) = begin(eager());
    fill(&store, 0, 40, 4000);
    let first = content(&disk, FIRST);
    store.close();
    // The header of the second record is damaged while the index is rebuilt: it knows nothing of
    // that shard.
    disk.remove("shards/index.redb").expect("removed");
    let record = 128 + (88 + 16 + 8 + 4000);
    disk.flip_bit(FIRST, record + 20, 2).expect("flipped");
    let store = open_at(disk.clone(), eager(), &clock);
    assert!(matches!(whole(&store, id(1, 1, 0), 4000), Err(ShardError::NotFound(..))));
    // And now it reads well again, as devices do.
    disk.flip_bit(FIRST, record + 20, 2).expect("flipped back");
    delete(&store, (0..40).filter(|n| n % 2 == 0));
    wait(store.compact()).expect("compacted");
    assert_eq!(content(&disk, FIRST), first, "nothing proves that it may go");
    for n in (3..40).step_by(2) {
        whole(&store, id(1, n, 0), 4000).expect("the others");
    }
}

#[test]
fn a_segment_that_went_missing_is_written_off_when_its_shards_are_repaired() {
    let (disk, clock, store) = begin(eager());
    fill(&store, 0, 40, 4000);
    delete(&store, 0..4);
    store.close();
    disk.remove(FIRST).expect("removed");
    let store = open_at(disk.clone(), eager(), &clock);
    wait(store.compact()).expect("compacted");
    let lost: Vec<u32> = (4..40).filter(|n| whole(&store, id(1, *n, 0), 4000).is_err()).collect();
    assert!(lost.len() > 5);
    assert_eq!(store.report().damaged_shards, lost.len() as u64);
    for n in lost {
        put(&store, id(1, n, 0), 4000).expect("repaired");
    }
    wait(store.compact()).expect("compacted");
    assert_eq!((store.report().damaged_shards, store.damaged_regions()), (0, vec![]));
    check_all(&store, 40, 4000, |n| n >= 4);
    rebuilt(&disk, &store, eager(), &clock);
}
