//! Tables that were put back from a backup that is older than what was recoded or moved: the state
//! machine by itself.

use std::collections::BTreeMap;

use metadata::tables::{Digests, TableId, held};
use model::command::{Command, CommitObject, Outcome, Refusal, RepairedExtent, WriteCondition};
use model::extent::{Extent, SlotSet};
use model::ids::{DiskId, ExtentId, ManifestId, PgId, SessionId};
use model::moves::SlotMoved;
use model::names::ClassName;
use model::rebuild::{NO_DISK, SlotFound};
use model::recovery::AdoptObject;
use model::time::Timestamp;
use model::version::{Parts, Version};

use crate::harness::{bucket, key};
use crate::model_apply::Bare;
use crate::model_held::{
    HELD, UNTIL, adopt, adoption, extent, part, refused, restored, version, what_is_held,
    with_record,
};
use crate::model_moves::{a_move, bare, begin, commit, map};

/// Has a client write what is to be adopted, as the tables had it: with these extents of session 1.
fn put(bare: &mut Bare, what: &AdoptObject, extents: Vec<Extent>) {
    let mut parts = what.parts.clone();
    parts[0].extents = extents;
    let write = CommitObject {
        bucket: bucket(),
        key: what.key.clone(),
        manifest: what.manifest,
        size: what.size,
        etag: what.etag,
        headers: what.headers.clone(),
        checksum: None,
        parts,
        condition: WriteCondition::Always,
        record: None,
    };
    let done = bare.apply(Command::CommitObject(write));
    assert!(matches!(done, Outcome::Committed(_)), "{done:?}");
}

fn adopted(bare: &mut Bare, what: &AdoptObject) {
    let outcome = adopt(bare, what);
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

fn garbage(bare: &Bare) -> Vec<ExtentId> {
    bare.garbage().into_iter().map(|key| key.extent).collect()
}

fn extents(version: &Version) -> Vec<ExtentId> {
    let Parts::Inline(parts) = &version.parts else { panic!("paged") };
    parts.iter().flat_map(|part| &part.extents).map(|extent| extent.id).collect()
}

/// A body of 100 bytes in held extents from this number on, begun long ago.
fn body(manifest: u8, sequence: u32) -> AdoptObject {
    let extents = vec![extent(HELD, sequence, 60), extent(HELD, sequence + 1, 40)];
    adoption("a", manifest, 5, vec![part(0, extents)])
}

#[test]
fn an_object_gets_the_extents_that_its_body_was_recoded_to() {
    let mut bare = restored();
    let first = body(1, 10);
    let (one, other) = (extent(1, 1, 50), extent(1, 2, 50));
    put(&mut bare, &first, vec![one.clone(), other.clone()]);
    let before = version(&bare, "a").expect("put");
    for _ in 0..2 {
        adopted(&mut bare, &first);
        let now = version(&bare, "a").expect("there");
        assert_eq!(extents(&now), [10, 11].map(|sequence| extent(HELD, sequence, 1).id));
        assert_eq!(garbage(&bare), [one.id, other.id]);
        assert_eq!(Version { parts: before.parts.clone(), ..now }, before, "the rest stays");
        assert_eq!((bare.memory.counters.objects, bare.memory.counters.object_bytes), (1, 100));
    }
    // Recoded twice since the body had its name, which its shards have still.
    let again = AdoptObject { manifest: ManifestId([9; 16]), ..body(1, 20) };
    adopted(&mut bare, &again);
    assert_eq!(extents(&version(&bare, "a").expect("there"))[0], extent(HELD, 20, 1).id);
    // With its name but other bytes it isn't the same; nor with other bytes but older.
    let mut damaged = AdoptObject { manifest: again.manifest, ..body(1, 30) };
    damaged.parts[0].md5 = [77; 16];
    adopted(&mut bare, &damaged);
    let other =
        AdoptObject { etag: model::version::ETag { md5: [3; 16], parts: None }, ..body(3, 40) };
    assert_eq!(adopt(&mut bare, &other), refused(Refusal::Superseded));
    let now = version(&bare, "a").expect("there");
    assert_eq!(extents(&now)[0], extent(HELD, 20, 1).id);
    // Deleted like any other.
    let condition = WriteCondition::Always;
    bare.apply(Command::DeleteObject { bucket: bucket(), key: key("a"), condition });
    assert_eq!(garbage(&bare).len(), 6);
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn a_record_of_what_was_recoded_tells_of_the_same_object() {
    let mut bare = restored();
    let parts = |sequence: u32| -> Vec<_> {
        (1..=40u16).map(|n| part(n, vec![extent(HELD, sequence + u32::from(n), 9)])).collect()
    };
    let first = with_record(adoption("a", 1, 5000, parts(100)), 1);
    adopted(&mut bare, &first);
    // One nanosecond after the record before, which is long before its commit.
    let label = ClassName::parse("LEAN").expect("valid");
    let mut recoded = with_record(adoption("a", 1, 9, parts(200)), 2);
    recoded.manifest = ManifestId([2; 16]);
    recoded.parts[..20].clone_from_slice(&first.parts[..20]);
    let mut of_another = recoded.clone();
    of_another.headers.content_type = Some("c/d".to_owned());
    assert_eq!(adopt(&mut bare, &of_another), refused(Refusal::Superseded));
    let coding = model::coding::Coding::parse("2+1").expect("valid");
    let set = Command::SetStorageClass { name: label.clone(), coding: Some(coding) };
    assert_eq!(bare.apply(set), Outcome::Done);
    recoded.headers.class = Some(label.clone());
    for _ in 0..2 {
        adopted(&mut bare, &recoded);
        let now = version(&bare, "a").expect("there");
        assert_eq!((now.manifest, now.modified), (recoded.manifest, Timestamp(5000)));
        assert_eq!((&now.record, now.headers.class), (&recoded.record, Some(label.clone())));
        // The parts that no step came to keep their extents.
        assert_eq!(garbage(&bare).len(), 20 + 1);
        assert_eq!(bare.extents()[&first.parts[3].extents[0].id].references, 1);
    }
    let condition = WriteCondition::Always;
    bare.apply(Command::DeleteObject { bucket: bucket(), key: key("a"), condition });
    assert_eq!(garbage(&bare).len(), bare.extents().len());
    let pages = TableId::Pages as usize;
    assert_eq!(bare.digests.0[pages], Digests::default().0[pages], "no page is left");
}

#[test]
fn what_was_written_since_the_tables_were_put_back_stays() {
    let mut bare = restored();
    let open = Command::OpenSession { gateway: "new".to_owned() };
    let Outcome::SessionOpened(session) = bare.apply(open) else { panic!("refused") };
    assert!(session.0 > UNTIL);
    let first = body(1, 10);
    put(&mut bare, &first, vec![extent(session.0, 1, 100)]);
    let before = version(&bare, "a");
    adopted(&mut bare, &first);
    assert_eq!(adopt(&mut bare, &body(1, 10)), adopt(&mut bare, &first));
    let older = AdoptObject { manifest: ManifestId([9; 16]), ..body(1, 20) };
    assert_eq!(adopt(&mut bare, &older), refused(Refusal::Superseded));
    assert_eq!((version(&bare, "a"), garbage(&bare)), (before, Vec::new()));
}

#[test]
fn below_its_level_a_body_that_is_known_stays_where_it_is() {
    let mut bare = Bare::of_first_release();
    bare.memory.counters.session = UNTIL;
    bare.time = 1_000_000;
    bare.set(held::KEY, &what_is_held(true, false));
    let first = body(1, 10);
    put(&mut bare, &first, vec![extent(1, 1, 100)]);
    let before = version(&bare, "a");
    adopted(&mut bare, &first);
    assert_eq!(version(&bare, "a"), before);
    let slot = SlotFound { pg: PgId(3), slot: 0, from: DiskId(1), to: DiskId(2) };
    assert_eq!(settle(&mut bare, vec![slot]), refused(Refusal::LevelTooLow));
}

fn settle(bare: &mut Bare, slots: Vec<SlotFound>) -> Outcome {
    let before = map(bare);
    let outcome = bare.apply(Command::AdoptPgs { pgs: Vec::new(), slots });
    if matches!(outcome, Outcome::Refused(_)) {
        assert_eq!(map(bare), before, "nothing of it is done");
    }
    outcome
}

/// Slot by slot of a group: where it is by the map, and where it is to be.
fn found(bare: &Bare, pg: u32, slots: &[(u8, DiskId)]) -> Vec<SlotFound> {
    let pg = PgId(pg);
    let disks = map(bare).pg(pg).expect("known").disks.clone();
    let slot = |(slot, to): &(u8, DiskId)| SlotFound {
        pg,
        slot: *slot,
        from: disks[usize::from(*slot)],
        to: *to,
    };
    slots.iter().map(slot).collect()
}

/// Two disks of the eight that aren't in a group.
fn spares(bare: &Bare, pg: u32) -> [DiskId; 2] {
    let map = map(bare);
    let group = &map.pg(PgId(pg)).expect("known").disks;
    let mut spares = map.disks.iter().map(|disk| disk.id).filter(|disk| !group.contains(disk));
    [spares.next(), spares.next()].map(|disk| disk.expect("two of eight are spare"))
}

#[test]
fn slots_that_moved_since_are_given_to_their_disks() {
    let mut bare = bare();
    let [one, other] = spares(&bare, 3);
    let group = map(&bare).pgs[3].disks.clone();
    let moved = found(&bare, 3, &[(0, one), (3, group[0]), (5, other)]);
    assert_eq!(settle(&mut bare, moved.clone()), refused(Refusal::NotHeld));
    bare.set(held::KEY, &what_is_held(false, false));

    let invalid = refused(Refusal::InvalidCommand);
    for wrong in [
        found(&bare, 3, &[(0, group[1])]),
        found(&bare, 3, &[(0, one), (1, one)]),
        found(&bare, 3, &[(0, NO_DISK)]),
        found(&bare, 3, &[(0, DiskId(40))]),
        vec![SlotFound { slot: 6, ..moved[0] }],
        vec![SlotFound { pg: PgId(5000), ..moved[0] }],
        [moved.clone(), vec![SlotFound { slot: 200, ..moved[0] }]].concat(),
    ] {
        assert_eq!(settle(&mut bare, wrong.clone()), invalid, "{wrong:?}");
    }
    let outdated = vec![SlotFound { from: other, ..moved[0] }];
    assert_eq!(settle(&mut bare, outdated), refused(Refusal::MovesOutdated));

    let before = map(&bare);
    let (written, id) = commit("before", 1, PgId(3), 0, before.epoch);
    for _ in 0..2 {
        assert_eq!(settle(&mut bare, moved.clone()), Outcome::Done);
        let now = map(&bare);
        assert_eq!(now.epoch, before.epoch + 1, "once");
        let disks = [one, group[1], group[2], group[0], group[4], other];
        assert_eq!(now.pgs[3].disks, disks);
        let at = |slot| SlotMoved { slot, epoch: now.epoch };
        assert_eq!(now.pgs[3].moved, [at(0), at(3), at(5)]);
        assert_eq!((&now.pgs[..3], &now.pgs[4..]), (&before.pgs[..3], &before.pgs[4..]));
    }
    // Who wrote by the map before is told: so many slots are elsewhere that nobody could read it.
    assert_eq!(bare.apply(written), refused(Refusal::MovesOutdated));
    assert!(!bare.extents().contains_key(&id));

    let groups = Command::AdoptPgs { pgs: Vec::new(), slots: Vec::new() };
    assert_eq!(bare.apply(groups), Outcome::Done);
    let back = found(&bare, 3, &[(0, group[3])]);
    assert_eq!(settle(&mut bare, back), refused(Refusal::GroupsSettled));
    assert_eq!(bare.view().digests().expect("read"), bare.digests);
}

#[test]
fn a_move_that_the_backup_has_under_way_is_over_when_its_group_is_settled() {
    for is_there in [true, false] {
        let mut bare = bare();
        let (written, id) = commit("a", 1, PgId(3), 0b100, map(&bare).epoch);
        assert!(matches!(bare.apply(written), Outcome::Committed(_)));
        let what = a_move(&map(&bare), 3, 2);
        assert_eq!(bare.apply(begin(what)), Outcome::Done);
        let since = map(&bare).pgs[3].moves[0].since;
        let slots = SlotSet(0b100);
        let moving_to = Some(what.to);
        let ahead = RepairedExtent { extent: id, slots, epoch: 0, moving_to, since };
        assert_eq!(bare.apply(Command::ShardsRepaired { repaired: vec![ahead] }), Outcome::Done);
        assert_eq!((bare.queue(), bare.extents()[&id].ahead), (BTreeMap::new(), slots));

        bare.set(held::KEY, &what_is_held(false, false));
        let spares = spares(&bare, 3);
        let third = *spares.iter().find(|disk| **disk != what.to).expect("one of two");
        let to = if is_there { what.to } else { third };
        let moved = found(&bare, 3, &[(2, to)]);
        assert_eq!(settle(&mut bare, moved), Outcome::Done);
        let group = map(&bare).pgs[3].clone();
        assert_eq!((group.disks[2], group.moves), (to, Vec::new()));
        assert!(bare.extents()[&id].ahead.is_empty());
        let queued: Vec<ExtentId> = bare.queue().into_keys().collect();
        assert_eq!(queued, if is_there { vec![] } else { vec![id] });
        assert_ne!(id.session, SessionId(0));
        assert_eq!(bare.view().digests().expect("read"), bare.digests);
    }
}
