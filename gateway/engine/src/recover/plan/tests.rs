//! Bodies out of extents, by hand.

use model::ids::{PgId, SessionId};
use proptest::prelude::*;

use super::*;

const ALL: SlotSet = SlotSet(0b11_1111);

fn coding() -> Coding {
    Coding::parse("4+2").expect("valid")
}

fn owner(manifest: u8, offset: u64, part_bytes: Option<u64>) -> FoundOwner {
    FoundOwner {
        place: Place { bucket: "bucket".to_owned(), key: "key".to_owned() },
        body: BodyName::new(ManifestId([manifest; 16]), None, 0, OwnerKind::Body),
        offset,
        started: Timestamp(u64::from(manifest)),
        part_bytes,
        checksum: None,
    }
}

fn found(sequence: u32, bytes: u64, owner: FoundOwner) -> Found {
    let id = ExtentId { pg: PgId(1), session: SessionId(1), sequence };
    let stripes = bytes.div_ceil(STRIPE) as usize;
    let last_stripe_bytes = (bytes - (stripes as u64 - 1) * STRIPE) as u32;
    Found { id, coding: coding(), stripes: vec![ALL; stripes], last_stripe_bytes, owner, epoch: 0 }
}

fn lengths(extents: &[Found]) -> Result<Vec<(u32, u64)>, IncompleteReason> {
    let chained = chain(extents)?;
    Ok(chained.iter().map(|extent| (extent.id.sequence, extent.length)).collect())
}

#[test]
fn a_body_is_whole_when_its_announced_length_is_there() {
    let part = |sequence, bytes, offset| found(sequence, bytes, owner(1, offset, Some(300 << 20)));
    let (first, second) = (part(1, 256 << 20, 0), part(2, 44 << 20, 256 << 20));
    let both = [second.clone(), first.clone()];
    assert_eq!(lengths(&both), Ok(vec![(1, 256 << 20), (2, 44 << 20)]));
    assert_eq!(lengths(&[first]), Err(IncompleteReason::NoEnd));
    assert_eq!(lengths(&[second]), Err(IncompleteReason::Lost));
    // It ends one stripe too early.
    let short = [part(1, 256 << 20, 0), part(2, 40 << 20, 256 << 20)];
    assert_eq!(lengths(&short), Err(IncompleteReason::NoEnd));
}

#[test]
fn without_an_announced_length_a_short_stripe_ends_it() {
    let part = |sequence, bytes, offset| found(sequence, bytes, owner(1, offset, None));
    assert_eq!(lengths(&[part(1, 100, 0)]), Ok(vec![(1, 100)]));
    assert_eq!(lengths(&[part(1, 4 << 20, 0)]), Err(IncompleteReason::NoEnd));
    let two = [part(1, 8 << 20, 0), part(2, 1, 8 << 20)];
    assert_eq!(lengths(&two), Ok(vec![(1, 8 << 20), (2, 1)]));
}

#[test]
fn an_extent_that_ended_early_counts_up_to_the_next() {
    // Three stripes were sent, the second failed, and both went to another extent.
    let part = |sequence, bytes, offset| found(sequence, bytes, owner(1, offset, Some(12 << 20)));
    let mut first = part(1, 12 << 20, 0);
    first.stripes[1] = SlotSet(1);
    let second = part(2, 8 << 20, 4 << 20);
    assert_eq!(lengths(&[first, second]), Ok(vec![(1, 4 << 20), (2, 8 << 20)]));
}

#[test]
fn of_two_that_begin_at_the_same_place_the_later_is_taken_unless_it_cannot_be_read() {
    let part = |sequence| found(sequence, 100, owner(1, 0, Some(100)));
    assert_eq!(lengths(&[part(1), part(2)]), Ok(vec![(2, 100)]));
    let mut lost = part(2);
    lost.stripes[0] = SlotSet::default();
    assert_eq!(lengths(&[part(1), lost.clone()]), Ok(vec![(1, 100)]));
    assert_eq!(lengths(&[lost]), Err(IncompleteReason::Lost));
}

#[test]
fn lost_slots_are_told_as_many_as_there_is_room_for() {
    let mut extent = found(1, 9 << 20, owner(1, 0, Some(9 << 20)));
    extent.stripes[1] = SlotSet(0b01_1110);
    let chained = chain(std::slice::from_ref(&extent)).expect("readable");
    assert_eq!(chained[0].missing, SlotSet(0b10_0001));
    // Another stripe lacks others: the slots that lack the most come first.
    extent.stripes[2] = SlotSet(0b10_1110);
    let chained = chain(std::slice::from_ref(&extent)).expect("readable");
    assert_eq!(chained[0].missing, SlotSet(0b01_0001));
    extent.stripes[2] = SlotSet(0b00_1110);
    assert_eq!(chain(&[extent]), Err(IncompleteReason::Lost));
    // The slots that a short stripe doesn't use aren't missing.
    let mut small = found(1, 100, owner(1, 0, Some(100)));
    small.stripes[0] = SlotSet(0b11_0000);
    assert_eq!(chain(&[small]).expect("readable")[0].missing, SlotSet(1));
}

#[test]
fn of_each_key_the_newest_whole_body_is_taken() {
    let old = found(1, 100, owner(1, 0, Some(100)));
    let new = found(2, 200, owner(2, 0, Some(200)));
    let unfinished = found(3, 300, owner(3, 0, Some(301)));
    let plan = plan(vec![old, new, unfinished]);
    assert_eq!((plan.objects.len(), plan.superseded, plan.incomplete.len()), (1, 1, 1));
    assert_eq!((plan.objects[0].size(), plan.objects[0].name.manifest.0[0]), (200, 2));
    assert_eq!(plan.incomplete[0].reason, IncompleteReason::NoEnd);
}

#[test]
fn parts_and_records_are_told_apart() {
    let upload = Some(UploadId([9; 16]));
    let mut first = found(1, 100, owner(1, 0, Some(100)));
    first.owner.body.upload = upload;
    first.owner.body.part = 1;
    let mut again = found(2, 100, owner(2, 0, Some(100)));
    again.owner.body.upload = upload;
    again.owner.body.part = 1;
    let mut record = found(3, 100, owner(3, 0, Some(100)));
    record.owner.body.is_record = true;
    let plan = plan(vec![first, again, record]);
    assert_eq!((plan.objects.len(), plan.parts.len(), plan.records.len()), (0, 1, 1));
    let parts = plan.parts.values().next().expect("one");
    assert_eq!(parts[&1].name.manifest, ManifestId([2; 16]));
}

proptest! {
    /// However a body was cut into extents, and whatever else lies at the same places, it comes out
    /// whole; without any one of its extents it doesn't come out at all.
    #[test]
    fn bodies_are_put_together(
        stripes in proptest::collection::vec(1u64..=64, 1..6), tail in 1u64..STRIPE,
        extra in proptest::collection::vec(0u64..3, 6), knows_length: bool, lost in 0usize..6,
    ) {
        let size = (stripes.iter().sum::<u64>() - 1) * STRIPE + tail;
        let part_bytes = knows_length.then_some(size);
        let (mut all, mut offset) = (Vec::new(), 0);
        let last = stripes.len() - 1;
        for (at, count) in stripes.iter().enumerate() {
            let length = if at == last { (count - 1) * STRIPE + tail } else { count * STRIPE };
            // Stripes behind the end that were sent again elsewhere.
            let beyond = if at == last { 0 } else { extra[at].min(64 - count) * STRIPE };
            all.push(found(2 * at as u32, length + beyond, owner(1, offset, part_bytes)));
            // Given up: one stripe that holds nothing readable.
            let mut given_up = found(2 * at as u32 + 1, STRIPE, owner(1, offset, part_bytes));
            given_up.stripes[0] = SlotSet(1);
            all.push(given_up);
            offset += length;
        }
        let chained = chain(&all).expect("whole");
        let total: u64 = chained.iter().map(|extent| extent.length).sum();
        prop_assert_eq!(total, size);
        let mut at = 0;
        for extent in &chained {
            let found = all.iter().find(|found| found.id == extent.id).expect("it was given");
            prop_assert_eq!(found.owner.offset, at);
            at += extent.length;
        }
        let lost = lost.min(last);
        let needed = all[2 * lost].id;
        all.retain(|found| found.id != needed);
        // What lies beyond the end of the one before may be what was lost.
        let covers = lost > 0 && extra[lost - 1].min(64 - stripes[lost - 1]) >= stripes[lost];
        prop_assert!(covers || chain(&all).is_err());
    }
}
