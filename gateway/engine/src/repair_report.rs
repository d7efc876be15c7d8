//! Tells the metadata of shards that were found missing or damaged, so that they enter the repair
//! queue. Batched, and each finding only once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::command::{Command, LackingExtent, Outcome, RepairedExtent};
use model::extent::SlotSet;
use model::ids::ExtentId;
use tokio::sync::watch;

use crate::shared::Shared;

/// Findings that wait at most. A reader finds again what didn't fit.
const WAITING_MAX: usize = 10_000;

/// Extents in one command.
const EXTENTS_PER_COMMAND: usize = 512;

/// Findings that are remembered so as not to be told twice; all are forgotten when there are more.
const TOLD_MAX: usize = 100_000;

/// How long they are remembered: repair in another process doesn't tell us that it is done.
const TOLD_KEPT: Duration = Duration::from_mins(10);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct RepairReports {
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    waiting: BTreeMap<ExtentId, SlotSet>,
    told: BTreeMap<ExtentId, SlotSet>,
}

impl RepairReports {
    /// Takes note of a lost shard. Never waits.
    pub(crate) fn report(&self, extent: ExtentId, slot: u8) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let told = findings.told.get(&extent).is_some_and(|slots| slots.contains(slot));
        let full = findings.waiting.len() >= WAITING_MAX;
        if !told && !full {
            findings.waiting.entry(extent).or_default().insert(slot);
        }
    }

    /// These were repaired: if they get lost again, that is to be told again.
    pub(crate) fn forget(&self, repaired: &[RepairedExtent]) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        for item in repaired {
            findings.untell(item.extent, item.slots);
        }
    }

    /// The next batch. It counts as told from here on: whoever repairs it, however quickly, comes
    /// after that.
    fn take(&self) -> Vec<LackingExtent> {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = Vec::new();
        while batch.len() < EXTENTS_PER_COMMAND {
            let Some((extent, slots)) = findings.waiting.pop_first() else { break };
            batch.push(LackingExtent { extent, slots });
        }
        if findings.told.len() + batch.len() > TOLD_MAX {
            findings.told.clear();
        }
        for lacking in &batch {
            let slots = findings.told.entry(lacking.extent).or_default();
            *slots = slots.union(lacking.slots);
        }
        batch
    }

    fn put_back(&self, batch: Vec<LackingExtent>) {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        for lacking in batch {
            findings.untell(lacking.extent, lacking.slots);
            let slots = findings.waiting.entry(lacking.extent).or_default();
            *slots = slots.union(lacking.slots);
        }
    }

    fn forget_all(&self) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).told.clear();
    }
}

impl Findings {
    fn untell(&mut self, extent: ExtentId, slots: SlotSet) {
        let Some(told) = self.told.get_mut(&extent) else { return };
        *told = told.without(slots);
        if told.is_empty() {
            self.told.remove(&extent);
        }
    }
}

/// Proposes what was found, until told to stop.
pub(crate) async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut forgotten = shared.clock.monotonic();
    loop {
        let now = shared.clock.monotonic();
        if now.saturating_sub(forgotten) > TOLD_KEPT {
            shared.reports.forget_all();
            forgotten = now;
        }
        let batch = shared.reports.take();
        if !batch.is_empty() {
            let command = Command::QueueRepair { lacking: batch.clone() };
            match shared.metadata.propose(command).await {
                Ok(Outcome::Refused(refusal)) => {
                    tracing::warn!(%refusal, "the metadata refused a repair report");
                }
                Ok(_) => shared.repair.wake(),
                // Repeating it does no harm.
                Err(_) => shared.reports.put_back(batch),
            }
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = shared.clock.sleep(shared.options.report_interval) => {}
        }
    }
}
