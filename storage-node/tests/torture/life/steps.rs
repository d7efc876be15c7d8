//! What is done with a disk, a step at a time, and what may come of each.

use std::time::Duration;

use model::ids::{PgId, ShardId};
use model::shard::{DiskHealth, ScrubOrder, ShardAppend, ShardError, ShardRead, ShardState};
use storage_node::Store;
use wire::clock::{Clock, SystemClock};
use wire::entropy::Entropy;

use super::super::check;
use super::super::model::{Fate, PGS};
use super::super::{Checked, ensure};
use super::{Life, Weather};
use crate::world::{other_shard, shard, wait};

impl Life {
    pub(super) fn step(&mut self, store: &Store) -> Checked {
        match self.entropy.below(24) {
            0..=4 => self.put(store),
            5..=7 => self.append(store),
            8 | 9 => self.sync(store),
            10 | 11 => self.delete(store),
            12 => {
                store.look_after();
                self.note("tick");
                Ok(())
            }
            13 => self.checkpoint(store),
            14 | 15 => self.read(store),
            16 => self.inventory(store),
            17 => self.again(store),
            18 => self.imposter(store),
            19 | 20 => self.compact(store),
            21 => self.verify(store),
            22 if self.habits.loose => self.scrub(store),
            _ => self.repair(store),
        }
    }

    fn put(&mut self, store: &Store) -> Checked {
        let (id, length) = self.model.fresh(&self.entropy);
        self.write(store, "put", id, length)
    }

    fn write(&mut self, store: &Store, what: &str, id: ShardId, length: u32) -> Checked {
        let outcome = wait(store.append(vec![shard(id, length as usize)], true));
        let before = self.model.shards.get(&id).map(|entry| entry.fate);
        let done = self.done(&format!("{what} {id} ({length})"), &outcome)?;
        match (done, before) {
            (true, _) => self.model.set(id, length, Fate::Kept),
            // A retry that fails takes nothing back.
            (false, Some(Fate::Kept | Fate::Answered | Fate::Damaged)) => {}
            (false, _) => self.model.set(id, length, Fate::Open),
        }
        Ok(())
    }

    fn append(&mut self, store: &Store) -> Checked {
        let count = 1 + self.entropy.below(5);
        let batch: Vec<(ShardId, u32)> =
            (0..count).map(|_| self.model.fresh(&self.entropy)).collect();
        let shards: Vec<ShardAppend> =
            batch.iter().map(|(id, length)| shard(*id, *length as usize)).collect();
        self.model.asked(&batch);
        let outcome = wait(store.append(shards, false));
        let (from, to) = (batch[0].0, batch[batch.len() - 1].0);
        self.done(&format!("append {from} to {to}"), &outcome)?;
        if let Ok((incarnation, position)) = outcome {
            ensure!(incarnation == store.incarnation(), "an append of another run");
            self.model.answered(&batch, position);
        }
        Ok(())
    }

    fn sync(&mut self, store: &Store) -> Checked {
        if let Some((run, position)) = self.model.old_receipt() {
            let outcome = wait(store.sync(run, position));
            ensure!(
                matches!(outcome, Err(ShardError::WrongIncarnation(_))),
                "a sync of an earlier run is answered by {outcome:?}"
            );
        }
        let Some(position) = self.model.receipt(&self.entropy) else { return Ok(()) };
        let outcome = wait(store.sync(store.incarnation(), position));
        if self.done("sync", &outcome)? {
            self.model.durable(position);
        }
        Ok(())
    }

    fn delete(&mut self, store: &Store) -> Checked {
        let Some((id, _)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let mut extents = vec![id.extent];
        if self.entropy.below(3) == 0 {
            extents.extend(self.model.any(&self.entropy, |_| true).map(|(id, _)| id.extent));
        }
        let outcome = wait(store.delete(extents.clone()));
        let done = self.done(&format!("delete {extents:?}"), &outcome)?;
        let now = self.clock.monotonic();
        for extent in extents {
            self.model.deleted(extent, done, now);
        }
        Ok(())
    }

    fn compact(&mut self, store: &Store) -> Checked {
        if self.weather == Weather::Full {
            return Ok(());
        }
        let outcome = wait(store.compact());
        self.tally.compacted += outcome.as_ref().map_or(0, |report| report.segments);
        self.done("compact", &outcome).map(drop)
    }

    fn verify(&mut self, store: &Store) -> Checked {
        let Some((id, _)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let outcome = wait(store.verify(vec![id.extent]));
        if !self.done(&format!("verify {:?}", id.extent), &outcome)? {
            return Ok(());
        }
        let states = outcome.unwrap_or_default();
        let damaged = store.damaged(None, 10_000).map_err(|error| error.to_string())?;
        // What can't be made durable any more, a moved copy included, is not called sound.
        let is_stuck = store.report().health == DiskHealth::ReadOnly;
        let same = self.model.shards.iter().filter(|(other, _)| other.extent == id.extent);
        for (id, entry) in same {
            let state = states.iter().find(|(found, _)| found == id).map(|(_, state)| *state);
            let fits = match (entry.fate, state) {
                (Fate::Kept | Fate::Answered, Some(ShardState::Sound))
                | (Fate::Absent | Fate::Gone, None)
                | (Fate::Open | Fate::Damaged | Fate::Haunted, _) => true,
                (Fate::Kept | Fate::Answered, Some(ShardState::Damaged)) => {
                    self.excuse.misread || self.excuse.unsynced_lost || is_stuck
                }
                (Fate::Kept | Fate::Answered, None) | (Fate::Absent | Fate::Gone, Some(_)) => false,
            };
            ensure!(fits, "shard {id}, which is {:?}, is verified as {state:?}", entry.fate);
            let told = state != Some(ShardState::Damaged) || damaged.contains(id) || is_stuck;
            ensure!(told, "shard {id} is verified as damaged and not listed so");
        }
        Ok(())
    }

    /// A pass over the whole disk, waited for: what rot has hit is listed then.
    fn scrub(&mut self, store: &Store) -> Checked {
        if !self.is_calm() || self.excuse.misread {
            return Ok(());
        }
        store
            .scrub(ScrubOrder::Begin { bytes_per_second: 0 })
            .map_err(|error| error.to_string())?;
        let before = store.report().scrub.last_ended;
        let clock = SystemClock::new();
        while store.report().scrub.last_ended == before && !self.disk.is_powerless() {
            ensure!(clock.monotonic() < Duration::from_mins(1), "a scrub doesn't end");
            std::thread::park_timeout(Duration::from_micros(300));
        }
        self.note("scrub");
        let listed = store.damaged(None, 10_000).map_err(|error| error.to_string())?;
        for id in listed {
            let fate = self.model.shards.get(&id).map(|entry| entry.fate);
            let fits = matches!(fate, Some(Fate::Damaged | Fate::Open | Fate::Haunted));
            ensure!(
                fits || self.excuse.misread_before,
                "shard {id}, which is {fate:?}, is listed as damaged"
            );
        }
        Ok(())
    }

    fn checkpoint(&mut self, store: &Store) -> Checked {
        // redb gives up for good when space runs out under it; the store knows when not to ask.
        if self.weather == Weather::Full {
            return Ok(());
        }
        let outcome = wait(store.checkpoint());
        self.done("checkpoint", &outcome).map(drop)
    }

    fn read(&mut self, store: &Store) -> Checked {
        let Some((id, entry)) = self.model.any(&self.entropy, |_| true) else { return Ok(()) };
        let offset = self.entropy.below(u64::from(entry.length)) as u32;
        let length = 1 + self.entropy.below(u64::from(entry.length - offset)) as u32;
        let answers = wait(store.read(vec![ShardRead { id, offset, length }]));
        let Ok(answers) = answers else {
            ensure!(self.weather == Weather::Lost, "a read is refused: {answers:?}");
            return Ok(());
        };
        let Some(known) = self.model.shards.get_mut(&id) else { return Ok(()) };
        let told = check::tells_damage(store, &self.disk);
        for answer in &answers {
            check::judge(id, known, answer, false, told, self.excuse)?;
            if let Ok(blocks) = answer {
                let from = blocks.first_block * 65_536;
                let covers = from <= offset
                    && u64::from(from) + blocks.payload.len() as u64
                        >= u64::from(offset) + u64::from(length);
                ensure!(covers, "a read gives another range");
            }
        }
        self.note(&format!("read {id}"));
        Ok(())
    }

    fn inventory(&mut self, store: &Store) -> Checked {
        let pg = PgId(self.entropy.below(u64::from(PGS)) as u32);
        let limit = 1 + self.entropy.below(20) as u32;
        let after = self.model.any(&self.entropy, |_| true).map(|(id, _)| id);
        let outcome = wait(store.inventory(pg, after, limit));
        let Ok(page) = outcome else {
            ensure!(!self.is_calm(), "an inventory failed: {outcome:?}");
            return Ok(());
        };
        let end = if page.len() < limit as usize { None } else { page.last().map(|(id, _)| *id) };
        let in_page = |id: &ShardId| {
            id.extent.pg == pg
                && after.is_none_or(|after| *id > after)
                && end.is_none_or(|end| *id <= end)
        };
        for (id, entry) in self.model.shards.iter().filter(|(id, _)| in_page(id)) {
            let listed = page.binary_search(&(*id, entry.length)).is_ok();
            match entry.fate {
                Fate::Kept | Fate::Answered => ensure!(listed, "the inventory lacks {id}"),
                Fate::Absent | Fate::Gone => ensure!(!listed, "the inventory has {id}"),
                Fate::Open | Fate::Damaged | Fate::Haunted => {}
            }
        }
        self.note("inventory");
        Ok(())
    }

    /// A retry: of what is there, or of what a crash has taken.
    fn again(&mut self, store: &Store) -> Checked {
        let suits = |fate| matches!(fate, Fate::Kept | Fate::Absent);
        let Some((id, entry)) = self.model.any(&self.entropy, suits) else { return Ok(()) };
        self.write(store, "again", id, entry.length)
    }

    /// Other bytes under an id that is taken (I-3).
    fn imposter(&mut self, store: &Store) -> Checked {
        if !self.is_calm() {
            return Ok(());
        }
        let suits = |fate| matches!(fate, Fate::Kept | Fate::Answered);
        let Some((id, entry)) = self.model.any(&self.entropy, suits) else { return Ok(()) };
        let length = entry.length as usize + self.entropy.below(2) as usize;
        let outcome = wait(store.append(vec![other_shard(id, length)], true));
        self.note(&format!("imposter {id}"));
        ensure!(
            matches!(outcome, Err(ShardError::Exists(_)))
                || (outcome.is_err() && self.disk.is_powerless()),
            "other bytes under the id {id} are answered by {outcome:?}"
        );
        Ok(())
    }

    fn repair(&mut self, store: &Store) -> Checked {
        let damaged = |fate| fate == Fate::Damaged;
        let Some((id, entry)) = self.model.any(&self.entropy, damaged) else { return Ok(()) };
        self.write(store, "repair", id, entry.length)
    }
}
