//! Compaction with crashes, wherever they come.

use std::collections::BTreeMap;
use std::time::Duration;

use model::shard::ShardError;
use storage_node::{Store, StoreOptions};
use wire::disk::{Disk, SimulatedDisk};
use wire::entropy::{Entropy, SeededEntropy};

use super::{clock, delete, eager, open_at, rebuilt, try_open, with_grace};
use crate::world::{extent, id, put, wait, whole};

/// Shards of a round of the scenario.
const ROUND: u32 = 14;

/// Puts, deletes and compacts; gives what was acknowledged.
fn scenario(store: &Store, kept: &mut BTreeMap<u32, bool>) -> Result<(), ShardError> {
    for round in 0..2 {
        for n in round * ROUND..(round + 1) * ROUND {
            kept.insert(n, false);
            put(store, id(1, n, 0), 9000)?;
            kept.insert(n, true);
        }
        for n in (0..(round + 1) * ROUND).filter(|n| n % 3 != 0 && n % 5 == round) {
            kept.remove(&n);
            wait(store.delete(vec![extent(1, n)]))?;
        }
        wait(store.compact())?;
    }
    Ok(())
}

#[test]
fn power_may_fail_at_every_change_of_the_disk() {
    let options = StoreOptions { checkpoint_log_bytes: 96 << 10, ..eager() };
    let mut changes: u64 = 0;
    let mut crashes = 0;
    loop {
        let (disk, clock) = (SimulatedDisk::new(changes), clock());
        let mut kept = BTreeMap::new();
        disk.cut_power_after(changes);
        let done = try_open(disk.clone(), options, &clock).is_ok_and(|store| {
            let done = scenario(&store, &mut kept).is_ok();
            store.abort();
            done
        });
        for lost_index in [false, true] {
            disk.crash();
            crashes += 1;
            if lost_index {
                let _ = disk.remove("shards/index.redb");
            }
            let store = open_at(disk.clone(), options, &clock);
            check_kept(&store, &kept, changes);
            wait(store.compact()).expect("compacted");
            check_kept(&store, &kept, changes);
            assert_eq!(store.damaged_regions(), [], "after {changes} changes");
            store.abort();
        }
        if done {
            break;
        }
        changes += 1;
    }
    println!("{crashes} crashes, {changes} changes of the disk");
    assert!(changes > 150, "the scenario is too short to prove anything");
}

fn check_kept(store: &Store, kept: &BTreeMap<u32, bool>, changes: u64) {
    for n in 0..2 * ROUND {
        match (whole(store, id(1, n, 0), 9000), kept.get(&n)) {
            (Ok(()), Some(_)) | (Err(ShardError::NotFound(..)), None | Some(false)) => {}
            // Its deletion was under way, and nobody was told that it is done.
            (Ok(()), None) => assert!(is_last_delete(kept, n), "{n} is back ({changes})"),
            (found, fate) => panic!("after {changes} changes: shard {n}: {found:?}, {fate:?}"),
        }
    }
}

/// Whether shard `n` may have been the one whose deletion the crash interrupted: no shard was put
/// after it.
fn is_last_delete(kept: &BTreeMap<u32, bool>, n: u32) -> bool {
    let round = kept.last_key_value().map_or(0, |(last, _)| last / ROUND);
    let deleted = |n: u32, round: u32| !n.is_multiple_of(3) && n % 5 == round;
    let later = (n + 1..(round + 1) * ROUND).filter(|other| deleted(*other, round));
    deleted(n, round) && later.into_iter().all(|other| kept.contains_key(&other))
}

#[test]
fn figures_are_those_of_a_rebuild_after_anything() {
    for seed in 0..8 {
        let entropy = SeededEntropy::new(seed);
        let (disk, clock) = (SimulatedDisk::new(seed), clock());
        let options = if seed % 2 == 0 { eager() } else { with_grace() };
        let mut store = open_at(disk.clone(), options, &clock);
        let mut live: BTreeMap<u32, usize> = BTreeMap::new();
        for n in 0..400u32 {
            match entropy.below(12) {
                0..=6 => {
                    let length = 1 + entropy.below(9000) as usize;
                    put(&store, id(1, n, 0), length).expect("put");
                    live.insert(n, length);
                }
                7..=9 => {
                    let at = entropy.below(live.len() as u64 + 1) as usize;
                    if let Some((&n, _)) = live.iter().nth(at) {
                        delete(&store, [n]);
                        live.remove(&n);
                    }
                }
                10 => clock.advance(Duration::from_mins(entropy.below(4))),
                _ if n % 3 == 0 => drop(wait(store.compact()).expect("compacted")),
                _ if n % 3 == 1 => wait(store.checkpoint()).expect("checkpoint"),
                _ => {
                    store.abort();
                    disk.crash();
                    store = open_at(disk.clone(), options, &clock);
                }
            }
        }
        wait(store.compact()).expect("compacted");
        let payload: usize = live.values().sum();
        let report = store.report();
        assert!(report.live_bytes as usize >= payload + live.len() * 112);
        assert!(report.live_bytes as usize <= payload + live.len() * 128);
        let store = rebuilt(&disk, &store, options, &clock);
        for (n, length) in live {
            whole(&store, id(1, n, 0), length).expect("there");
        }
    }
}
