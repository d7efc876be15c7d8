//! Movers die anywhere, and several are at it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::Metadata;
use metadata::session::Writer;
use model::command::{Command, Outcome};
use model::ids::{ExtentId, PgId, SessionId};
use model::node::{Job, Lease};
use model::query::{Answer, MetadataError, Query};
use wire::BoxFuture;

use super::scene::Scene;
use crate::cluster::moving;

/// Believes that every lease is its own.
struct Greedy(Writer);

impl Metadata for Greedy {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Metadata::query(&self.0, query)
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            match command {
                Command::TakeLease { job, holder, node, .. } => {
                    let until = model::time::Timestamp(u64::MAX);
                    Ok(Outcome::Leased(Lease { job, holder, until, node }))
                }
                command => Metadata::propose(&self.0, command).await,
            }
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        Metadata::next_extent(&self.0, pg)
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        self.0.holder()
    }
}

/// Where a gateway is cut off from the metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    /// What it proposes doesn't arrive.
    Before,
    /// It is done, and the answer doesn't arrive.
    After,
}

/// Is cut off at a proposal, for ever.
struct CutOff {
    writer: Writer,
    cut: Cut,
    /// Proposals until then; leases don't count.
    left: AtomicU64,
}

impl CutOff {
    fn is_cut(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

impl Metadata for CutOff {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Metadata::query(&self.writer, query)
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            if matches!(
                command,
                Command::TakeLease { job: Job::Move | Job::Repair | Job::Fill, .. }
            ) {
                return Metadata::propose(&self.writer, command).await;
            }
            let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left.saturating_sub(1))
            });
            if left.is_ok_and(|left| left > 1) {
                return Metadata::propose(&self.writer, command).await;
            }
            if self.cut == Cut::After {
                Metadata::propose(&self.writer, command).await?;
            }
            std::future::pending().await
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        Metadata::next_extent(&self.writer, pg)
    }

    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        self.writer.holder()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_dies_at_any_proposal_is_taken_over() {
    let mut scene = Scene::new(9, "4+2").await;
    for cut in [Cut::Before, Cut::After] {
        for proposals in 1..=6 {
            let what = scene.a_move(proposals as u8 % 6).await;
            // Something that lacks the slot, so that there is more to tell.
            scene.watch.rot(what.from, |id| id.extent.pg == what.pg);
            scene.begin(what).await;
            let writer = Writer::open(Arc::clone(scene.whole.client()), "mover").await;
            let left = AtomicU64::new(proposals);
            let cut_off = Arc::new(CutOff { writer: writer.expect("opened"), cut, left });
            let engine = scene.whole.engine_by(cut_off.clone(), moving());
            scene.movers.push(engine);
            let is_over = async |scene: &Scene| {
                cut_off.is_cut() || scene.place(what).await == (what.to, None)
            };
            scene.until("cut off", is_over).await;
            scene.clients().await;
            scene.kill_movers().await;
            scene.start().await;
            scene.until("moved", async |scene| scene.place(what).await.1.is_none()).await;
            scene.settle().await;
            scene.kill_movers().await;
        }
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_movers_at_once_do_no_harm() {
    let mut scene = Scene::new(8, "4+2").await;
    for gateway in ["one", "two"] {
        let writer = Writer::open(Arc::clone(scene.whole.client()), gateway).await;
        let engine = scene.whole.engine_by(Arc::new(Greedy(writer.expect("opened"))), moving());
        scene.movers.push(engine);
    }
    scene.drain(3, true).await;
    scene.clients().await;
    let emptied =
        |disk: u32| async move |scene: &Scene| scene.slots().await[&model::ids::DiskId(disk)] == 0;
    scene.until("emptied", emptied(3)).await;
    scene.kill(5).await;
    scene.give_up(5, true).await;
    scene.clients().await;
    scene.until("rebuilt", emptied(5)).await;
    scene.drain(3, false).await;
    scene.settle().await;
    assert!(scene.movers.iter().all(|mover| mover.rebalance_progress().slots > 0));
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mover_that_is_killed_again_and_again_gets_there() {
    let mut scene = Scene::new(7, "4+2").await;
    scene.drain(3, true).await;
    for round in 0..25u64 {
        scene.start().await;
        tokio::time::sleep(std::time::Duration::from_millis(7 * round)).await;
        scene.kill_movers().await;
        scene.beat().await;
    }
    scene.start().await;
    scene.until("emptied", async |scene| scene.slots().await[&model::ids::DiskId(3)] == 0).await;
    scene.settle().await;
    scene.finish().await;
}
