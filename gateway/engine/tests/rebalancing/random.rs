//! Anything in any order.

use model::cluster_map::{ClusterMap, DiskState};
use model::command::Command;
use model::ids::DiskId;
use wire::entropy::{Entropy, SeededEntropy};

use super::scene::Scene;
use crate::cluster::moving;

/// Disks of the first groups.
const DISKS: u32 = 8;

/// No more than these.
const DISKS_MAX: usize = 11;

struct Random {
    scene: Scene,
    entropy: SeededEntropy,
    away: Vec<DiskId>,
}

impl Random {
    fn below(&self, end: usize) -> usize {
        self.entropy.below(end as u64) as usize
    }

    fn any_disk(&self, map: &ClusterMap) -> DiskId {
        map.disks[self.below(map.disks.len())].id
    }

    /// Whether every object is whole: then so many disks may go as parity makes up for.
    async fn is_whole(&self) -> bool {
        self.scene.repairs().await.is_empty() && self.scene.is_whole().await
    }

    async fn step(&mut self) {
        let map = self.scene.map().await;
        let disk = self.any_disk(&map);
        let state = map.disk(disk).expect("known").state;
        match self.below(16) {
            0 | 1 => self.scene.kill_movers().await,
            2..=4 => {
                if self.scene.movers.len() < 2 {
                    let gateway = ["mover", "other"][self.scene.movers.len()];
                    self.scene.start_with(gateway, moving()).await;
                }
            }
            5 => {
                // One after the other, so that never more is lost than parity makes up for.
                let may_go = self.away.is_empty() && self.is_whole().await;
                if may_go && state == DiskState::Up {
                    self.scene.kill(disk.0).await;
                    self.away.push(disk);
                }
            }
            6 | 7 => {
                if !self.away.is_empty() {
                    let back = self.away.swap_remove(self.below(self.away.len()));
                    self.scene.watch.revive(back);
                    self.scene.give_up(back.0, false).await;
                    self.scene.set(back.0, DiskState::Up).await;
                }
            }
            8 => {
                if let Some(away) = self.away.first() {
                    self.scene.give_up(away.0, true).await;
                }
            }
            9 => {
                let draining = map.disks.iter().filter(|disk| disk.standing.is_draining).count();
                if draining < 2 {
                    self.scene.drain(disk.0, true).await;
                }
            }
            10 => self.scene.drain(disk.0, false).await,
            11 => {
                if map.disks.len() < DISKS_MAX && self.below(4) == 0 {
                    self.scene.add_disk(10).await;
                }
            }
            12 => self.scene.put([1000, 60_000, 5 << 20][self.below(3)]).await,
            13 => {
                let names: Vec<String> = self.scene.objects.keys().cloned().collect();
                if names.len() > 6 {
                    self.scene.delete(&names[self.below(names.len())]).await;
                }
            }
            14 => {
                let weight = [None, Some(5), Some(20)][self.below(3)];
                self.scene.order(Command::WeighDisk { disk, weight }).await;
            }
            _ => {
                let names: Vec<String> = self.scene.objects.keys().cloned().collect();
                self.scene.check(&names[self.below(names.len())]).await;
            }
        }
        self.scene.beat().await;
        let pause = std::time::Duration::from_millis(self.entropy.below(30));
        tokio::time::sleep(pause).await;
        self.scene.watch.check();
    }
}

async fn anything(seed: u64, steps: usize) {
    let scene = Scene::new(DISKS, "4+2").await;
    let mut random = Random { scene, entropy: SeededEntropy::new(seed), away: Vec::new() };
    for _ in 0..steps {
        random.step().await;
    }
    // At the end everything is well again.
    for disk in std::mem::take(&mut random.away) {
        random.scene.watch.revive(disk);
        random.scene.give_up(disk.0, false).await;
        random.scene.set(disk.0, DiskState::Up).await;
    }
    for disk in random.scene.map().await.disks {
        random.scene.drain(disk.id.0, false).await;
    }
    random.scene.kill_movers().await;
    random.scene.start().await;
    random.scene.settle().await;
    random.scene.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_in_any_order_makes_nothing_worse() {
    for seed in 0..2 {
        anything(seed, 110).await;
    }
}
