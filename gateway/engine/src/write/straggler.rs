//! Waits for the answers of several disks, but for the slowest only so long.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use wire::clock::Clock;

/// Takes answers as they come, by `take`, which tells whether those so far are enough. Once they
/// are, the rest has `grace` left. True when all came.
pub(super) async fn gather<F: Future>(
    clock: &dyn Clock,
    grace: Duration,
    mut answers: FuturesUnordered<F>,
    mut take: impl FnMut(F::Output) -> bool,
) -> bool {
    let mut enough = false;
    while !enough {
        match answers.next().await {
            Some(answer) => enough = take(answer),
            None => return true,
        }
    }
    if answers.is_empty() {
        return true;
    }
    let mut up = clock.sleep(grace);
    loop {
        tokio::select! {
            biased;
            answer = answers.next() => match answer {
                Some(answer) => { take(answer); }
                None => return true,
            },
            () = &mut up => return false,
        }
    }
}
