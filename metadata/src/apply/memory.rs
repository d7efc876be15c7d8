//! What the state machine keeps in memory besides the tables: buckets, the cluster map, sessions
//! and counters. Rebuilt from the tables when they are opened; written back within the transaction
//! that changed them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use model::bucket::Bucket;
use model::cluster_map::ClusterMap;
use model::command::{CommandEnvelope, Outcome, Refusal};
use model::ids::SessionId;
use model::time::Timestamp;

use crate::limits::SESSION_WINDOW;
use crate::state::StateError;
use crate::tables::counters::{self, Counters};
use crate::tables::sessions::{self, Remembered, SessionRecord};
use crate::tables::{TableId, Tables, View, Walk, cluster_map, decode};

/// What queries read as often as commands do.
#[derive(Debug, Default)]
pub struct Directory {
    /// Buckets by name.
    pub buckets: BTreeMap<String, Bucket>,
    /// The cluster map, once the cluster is made.
    pub map: Option<Arc<ClusterMap>>,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Who opened it.
    pub gateway: String,
    /// When.
    pub started: Timestamp,
    acknowledged_below: u64,
    outcomes: BTreeMap<u64, Outcome>,
}

/// The memory of the state machine.
#[derive(Debug, Default)]
pub struct Memory {
    directory: Arc<RwLock<Directory>>,
    /// Open sessions.
    sessions: BTreeMap<SessionId, Session>,
    /// Ids, totals, time.
    pub counters: Counters,
    dirty_sessions: BTreeSet<SessionId>,
    map_is_dirty: bool,
}

impl Memory {
    /// Reads everything from the tables; `directory` is filled and goes on being shared.
    pub fn load(view: &View, directory: Arc<RwLock<Directory>>) -> Result<Self, StateError> {
        let mut fresh = Directory::default();
        view.walk(TableId::Buckets, b"", b"", |_, value| {
            let bucket: Bucket = decode(value)?;
            fresh.buckets.insert(bucket.name.as_str().to_owned(), bucket);
            Ok(Walk::On)
        })?;
        fresh.map = view.get(cluster_map::KEY)?.map(Arc::new);
        let mut open = BTreeMap::new();
        view.walk(TableId::Sessions, b"", b"", |key, value| {
            let id = sessions::read_key(key)
                .ok_or_else(|| StateError::Damaged("a session has a bad key".to_owned()))?;
            let record: SessionRecord = decode(value)?;
            let outcomes = record.outcomes.into_iter();
            let session = Session {
                gateway: record.gateway,
                started: record.started,
                acknowledged_below: record.acknowledged_below,
                outcomes: outcomes.map(|known| (known.sequence, known.outcome)).collect(),
            };
            open.insert(id, session);
            Ok(Walk::On)
        })?;
        let counters = view.get(counters::KEY)?.unwrap_or_default();
        *directory.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(Self { directory, sessions: open, counters, ..Self::default() })
    }

    /// The shared directory.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shared directory, to be changed. Queries may see the change before the transaction is
    /// committed; that is as linearizable, as the Raft entry is committed.
    pub fn directory_mut(&mut self) -> RwLockWriteGuard<'_, Directory> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the cluster map.
    pub fn set_map(&mut self, map: ClusterMap) {
        self.directory_mut().map = Some(Arc::new(map));
        self.map_is_dirty = true;
    }

    /// Open sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// Whether a session is open.
    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Adds a session.
    pub fn add_session(&mut self, id: SessionId, gateway: String, started: Timestamp) {
        let outcomes = BTreeMap::new();
        self.sessions.insert(id, Session { gateway, started, acknowledged_below: 0, outcomes });
        self.dirty_sessions.insert(id);
    }

    /// Removes a session.
    pub fn remove_session(&mut self, id: SessionId) {
        if self.sessions.remove(&id).is_some() {
            self.dirty_sessions.insert(id);
        }
    }

    /// The time of the next command: never twice the same, never back.
    pub fn advance_time(&mut self, proposed: Timestamp) -> Timestamp {
        self.counters.time = self.counters.time.plus_nanos(1).max(proposed);
        self.counters.time
    }

    /// The outcome of a command that isn't to be applied: one that was applied before, or one that
    /// its session doesn't allow.
    pub fn recall(&self, envelope: &CommandEnvelope) -> Option<Outcome> {
        if envelope.id.session == SessionId(0) {
            return None;
        }
        let Some(session) = self.sessions.get(&envelope.id.session) else {
            return Some(Outcome::Refused(Refusal::SessionEnded));
        };
        let sequence = envelope.id.sequence;
        if let Some(outcome) = session.outcomes.get(&sequence) {
            return Some(outcome.clone());
        }
        let below = session.acknowledged_below.max(envelope.acknowledged_below);
        // Below: it was applied or given up, and must not be applied late. Far above: the row
        // would grow without bound.
        let allowed = sequence >= session.acknowledged_below
            && envelope.acknowledged_below <= sequence
            && sequence - below.min(sequence) < SESSION_WINDOW;
        (!allowed).then_some(Outcome::Refused(Refusal::InvalidCommand))
    }

    /// Remembers an outcome, and forgets those that are acknowledged.
    pub fn remember(&mut self, envelope: &CommandEnvelope, outcome: &Outcome) {
        let id = envelope.id.session;
        // The command may have ended its own session.
        if let Some(session) = self.sessions.get_mut(&id) {
            session.acknowledged_below =
                session.acknowledged_below.max(envelope.acknowledged_below);
            session.outcomes = session.outcomes.split_off(&session.acknowledged_below);
            session.outcomes.insert(envelope.id.sequence, outcome.clone());
            self.dirty_sessions.insert(id);
        }
    }

    /// Writes what changed to the tables.
    pub fn save(&mut self, tables: &mut Tables<'_>) -> Result<(), StateError> {
        for id in std::mem::take(&mut self.dirty_sessions) {
            let key = sessions::key(id);
            match self.sessions.get(&id) {
                Some(session) => tables.set(&key, &session.to_record())?,
                None => drop(tables.remove(TableId::Sessions, &key)?),
            }
        }
        if std::mem::take(&mut self.map_is_dirty) {
            let map = self.directory().map.clone();
            if let Some(map) = map {
                tables.set(cluster_map::KEY, &*map)?;
            }
        }
        tables.set(counters::KEY, &self.counters)
    }
}

impl Session {
    fn to_record(&self) -> SessionRecord {
        let remembered = |(sequence, outcome): (&u64, &Outcome)| Remembered {
            sequence: *sequence,
            outcome: outcome.clone(),
        };
        SessionRecord {
            gateway: self.gateway.clone(),
            started: self.started,
            acknowledged_below: self.acknowledged_below,
            outcomes: self.outcomes.iter().map(remembered).collect(),
        }
    }
}
