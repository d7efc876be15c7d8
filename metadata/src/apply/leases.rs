//! TakeLease: one gateway at a time does a job in the background, or what of it is about a node.

use std::time::Duration;

use model::command::{Outcome, Refusal};
use model::ids::{NodeId, SessionId};
use model::node::{Job, Lease};

use super::{Step, Stop};
use crate::limits::LEASE_MAX;
use crate::tables::leases::{self, Leases};

impl Step<'_, '_> {
    /// A lease that is held stands until its time has passed or its holder's session has ended;
    /// the holder may renew it at any time, which never makes it shorter, or give it back, by taking
    /// it for no time.
    pub(super) fn take_lease(
        &mut self,
        job: Job,
        holder: SessionId,
        duration_ms: u32,
        node: Option<NodeId>,
    ) -> Result<Outcome, Stop> {
        let duration = Duration::from_millis(u64::from(duration_ms));
        if duration > LEASE_MAX || node.is_some() != (job == Job::Fill) {
            return Err(Refusal::InvalidCommand.into());
        }
        if !self.memory.is_open(holder) {
            return Err(Refusal::SessionEnded.into());
        }
        let mut record: Leases = self.tables.get(leases::KEY)?.unwrap_or_default();
        let is_it = |lease: &&Lease| (lease.job, lease.node) == (job, node);
        let held = record.leases.iter().find(is_it).copied();
        let standing =
            held.filter(|lease| lease.until > self.now && self.memory.is_open(lease.holder));
        if let Some(lease) = standing.filter(|lease| lease.holder != holder) {
            return Ok(Outcome::Leased(lease));
        }
        let until = self.now.plus_nanos(duration.as_nanos() as u64);
        let renewed = standing.filter(|_| !duration.is_zero());
        let until = renewed.map_or(until, |lease| lease.until.max(until));
        let lease = Lease { job, holder, until, node };
        record.leases.retain(|other| !is_it(&other));
        if node.is_some() {
            // Nodes come and go: what is over isn't kept.
            let now = self.now;
            record.leases.retain(|other| other.node.is_none() || other.until > now);
        }
        if node.is_none() || until > self.now {
            record.leases.push(lease);
        }
        record.leases.sort_by_key(|lease| (lease.job, lease.node));
        self.tables.set(leases::KEY, &record)?;
        Ok(Outcome::Leased(lease))
    }
}
