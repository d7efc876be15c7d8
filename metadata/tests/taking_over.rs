//! A follower that takes over answers with everything that was acknowledged (I-4), though it holds
//! back what nobody waits for.

use std::sync::Barrier;

use metadata::read;
use metadata::tables::TableId;
use model::command::Command;
use model::names::BucketName;
use model::query::{Answer, Query};

use crate::snapshots::{entry, machine};

/// Entries that the follower holds back.
const ENTRIES: u64 = 300;

/// Queries that come at once.
const QUERIES: usize = 8;

fn name(number: u64) -> BucketName {
    BucketName::parse(&format!("bucket-{number:06}")).expect("valid")
}

#[test]
fn queries_at_once_see_everything_that_a_new_leader_held_back() {
    let (_root, machine) = machine();
    let mut commands = crate::model_apply::history(21, 0);
    let mut held_back = 0;
    for round in 0..6 {
        let first = round * ENTRIES + 1;
        let entries = (first..first + ENTRIES).map(|index| {
            let make = Command::CreateBucket {
                name: name(index),
                owner: "me".to_owned(),
                location: String::new(),
            };
            let commands: Vec<Command> = commands.drain(..).chain([make]).collect();
            (entry(index, commands), None)
        });
        let is_due = machine.take(entries.collect()).is_due;
        held_back += usize::from(!is_due);
        assert!(is_due || machine.has_pending());
        let last = name(first + ENTRIES - 1);
        let start = Barrier::new(QUERIES + 1);
        std::thread::scope(|scope| {
            // What writes when nothing more comes is at work meanwhile.
            scope.spawn(|| {
                start.wait();
                machine.flush().expect("written");
            });
            for query in 0..QUERIES {
                let (start, machine, last) = (&start, &machine, &last);
                scope.spawn(move || {
                    start.wait();
                    match query % 3 {
                        0 => {
                            let query = Query::Bucket { name: last.clone() };
                            let answer = read::answer(machine, &query).expect("read");
                            let Answer::Bucket(found) = answer else { panic!("{answer:?}") };
                            assert_eq!(found.name, *last);
                        }
                        1 => {
                            let query = Query::Buckets {
                                prefix: last.as_str().to_owned(),
                                after: String::new(),
                                limit: 10,
                            };
                            let answer = read::answer(machine, &query).expect("read");
                            let Answer::Buckets(found) = answer else { panic!("{answer:?}") };
                            assert_eq!(found.len(), 1);
                        }
                        _ => {
                            let view = machine.view().expect("there");
                            // One bucket for each entry, and the one of the beginning.
                            let buckets = view.count(TableId::Buckets).expect("counted");
                            assert_eq!(buckets, first + ENTRIES);
                        }
                    }
                });
            }
        });
        assert!(!machine.has_pending());
    }
    assert!(held_back > 0, "nothing was held back");
}
