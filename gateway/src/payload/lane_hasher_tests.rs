use super::*;

fn bytes(count: usize, seed: u32) -> Bytes {
    (0..count as u32).map(|at| ((at ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn expected(whole: &Bytes) -> Digests {
    let mut digests = BodyDigests::of_copy(None);
    digests.update(whole);
    digests.finish()
}

async fn digest(hasher: &LaneHasher, whole: Bytes, piece_bytes: usize) -> Digests {
    let mut body = hasher.begin(BodyDigests::of_copy(None));
    for at in (0..whole.len()).step_by(piece_bytes) {
        let piece = whole.slice(at..(at + piece_bytes).min(whole.len()));
        body.update(&piece).await.expect("hashed");
        // Others get their turn between the pieces, as on a network.
        tokio::task::yield_now().await;
    }
    body.finish().await.expect("hashed")
}

#[tokio::test]
async fn a_body_alone_has_the_digests_of_the_whole() {
    for piece_bytes in [1 << 14, 100_003, 3_000_000] {
        let whole = bytes(5_000_001, 3);
        let hasher = LaneHasher::new();
        assert_eq!(digest(&hasher, whole.clone(), piece_bytes).await, expected(&whole));
        assert!(hasher.shared.lock().by_number.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bodies_together_have_the_digests_that_they_have_alone() {
    for workers_max in [1, 3] {
        let hasher = LaneHasher::with_workers(workers_max);
        let tasks: Vec<_> = (0..40u32)
            .map(|number| {
                let hasher = hasher.clone();
                tokio::spawn(async move {
                    let whole = bytes(1 + (number as usize * 177_777) % 2_000_000, number);
                    let piece_bytes = 5_000 + number as usize * 9_001;
                    assert_eq!(digest(&hasher, whole.clone(), piece_bytes).await, expected(&whole));
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("the right digest");
        }
        assert!(hasher.shared.lock().by_number.is_empty());
    }
}

#[tokio::test]
async fn an_empty_body_has_digests_too() {
    let hasher = LaneHasher::new();
    assert_eq!(digest(&hasher, Bytes::new(), 1).await, expected(&Bytes::new()));
}

#[tokio::test]
async fn company_that_sends_nothing_holds_nobody_up() {
    let hasher = LaneHasher::new();
    let _silent = hasher.begin(BodyDigests::of_copy(None));
    let whole = bytes(4_000_000, 9);
    assert_eq!(digest(&hasher, whole.clone(), 65_536).await, expected(&whole));
}

#[tokio::test]
async fn a_sender_is_never_far_ahead() {
    let hasher = LaneHasher::new();
    let mut body = hasher.begin(BodyDigests::of_copy(None));
    let piece = bytes(300_000, 1);
    for _ in 0..40 {
        body.update(&piece).await.expect("hashed");
        let waiting = hasher.shared.lock().by_number[&body.number].waiting_bytes;
        assert!(waiting < BACKLOG_BYTES_MAX, "{waiting}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_body_leaves_the_others_alone() {
    let hasher = LaneHasher::new();
    for number in 0..20 {
        let whole = bytes(2_500_000, number);
        let mut dropped = hasher.begin(BodyDigests::of_copy(None));
        let mut kept = hasher.begin(BodyDigests::of_copy(None));
        kept.update(&whole.slice(..1_500_000)).await.expect("hashed");
        dropped.update(&whole.slice(..1_500_000)).await.expect("hashed");
        drop(dropped);
        kept.update(&whole.slice(1_500_000..)).await.expect("hashed");
        assert_eq!(kept.finish().await.expect("hashed"), expected(&whole));
    }
    assert!(hasher.shared.lock().by_number.is_empty());
}

#[test]
fn bodies_that_have_bytes_at_the_same_time_are_hashed_in_one_round() {
    // Without a runtime no worker starts: the rounds are ours.
    let hasher = LaneHasher::new();
    let held: Vec<HashedBody> = (0..20).map(|_| hasher.begin(BodyDigests::of_copy(None))).collect();
    let mut bodies = hasher.shared.lock();
    assert!(!bodies.is_round_due());
    let give = |bodies: &mut Bodies, number: u64, count: usize| {
        let body = bodies.by_number.get_mut(&number).expect("held");
        body.waiting.push_back(bytes(count, 0));
        body.waiting_bytes += count;
    };
    give(&mut bodies, held[0].number, DIGEST_BATCH_BYTES);
    assert!(!bodies.is_round_due(), "there is company to wait for");
    for body in &held[1..LANES_MAX] {
        give(&mut bodies, body.number, DIGEST_BATCH_BYTES);
    }
    assert!(bodies.is_round_due(), "all lanes can be filled");
    for body in &held[LANES_MAX..] {
        give(&mut bodies, body.number, GATHERED_BYTES);
    }
    let urgent = held[LANES_MAX..].iter().map(|body| body.number);
    let round = bodies.take_round(LANES_MAX);
    let numbers: Vec<u64> = round.iter().map(|turn| turn.number).collect();
    assert_eq!(numbers, urgent.chain(0..12).collect::<Vec<u64>>(), "who can't wait comes first");
    assert!(round.iter().all(|turn| turn.pieces.concat().len() == DIGEST_SLICE_BYTES));
    let rest = bodies.take_round(LANES_MAX);
    assert_eq!(rest.iter().map(|turn| turn.number).collect::<Vec<_>>(), [12, 13, 14, 15]);
    drop(bodies);
}

#[test]
fn a_runtime_that_ends_fails_those_who_wait() {
    let hasher = LaneHasher::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut body = hasher.begin(BodyDigests::of_copy(None));
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let _context = handle.enter();
    let lost = futures_util::FutureExt::now_or_never(body.update(&bytes(3_000_000, 1)));
    assert_eq!(lost, Some(Err(HashingLost)));
}

/// A round that a worker has taken, of this body's bytes alone.
fn round_of(hasher: &LaneHasher, hit: &HashedBody) -> Vec<Turn> {
    let mut bodies = hasher.shared.lock();
    let body = bodies.by_number.get_mut(&hit.number).expect("begun");
    body.waiting.push_back(bytes(1000, 0));
    body.waiting_bytes = 1000;
    bodies.take_round(LANES_MAX)
}

#[tokio::test]
async fn a_round_that_panicked_fails_its_bodies_and_no_others() {
    let hasher = LaneHasher::new();
    let [hit, mut spared] = [0, 1].map(|_| hasher.begin(BodyDigests::of_copy(None)));
    let turns = round_of(&hasher, &hit);
    let worker = Worker { shared: Arc::clone(&hasher.shared), has_ended: true };
    worker.give_back(turns, false);
    assert_eq!(hit.finish().await.err(), Some(HashingLost));
    let whole = bytes(300_000, 2);
    spared.update(&whole).await.expect("hashed");
    assert_eq!(spared.finish().await.expect("hashed"), expected(&whole));
}
