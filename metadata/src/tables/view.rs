//! The tables as one read transaction sees them: for queries and snapshots.

use std::ops::Bound;
use std::sync::OnceLock;

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::{Digest, Digests, Record, TableId, decode, open_row};
use crate::state::StateError;

type RawTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A consistent state of all tables. Old pages are kept as long as it lives.
pub struct View {
    transaction: ReadTransaction,
    open: [OnceLock<RawTable>; TableId::COUNT],
}

impl View {
    /// The state as of now.
    pub fn new(database: &Database) -> Result<Self, StateError> {
        Ok(Self { transaction: database.begin_read()?, open: Default::default() })
    }

    /// The transaction underneath.
    pub(crate) fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    /// A record; `None` when there is no such row.
    pub fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, StateError> {
        let Some(stored) = self.table(R::TABLE)?.get(key)? else {
            return Ok(None);
        };
        let (_, value) = open_row(R::TABLE, key, stored.value())?;
        decode(value).map(Some)
    }

    /// Rows from `start` on whose keys begin with `prefix`, until `visit` says stop. `visit` may
    /// give a key to seek forward to.
    pub fn walk(
        &self,
        id: TableId,
        prefix: &[u8],
        start: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<Walk, StateError>,
    ) -> Result<(), StateError> {
        let table = self.table(id)?;
        let mut from = start.max(prefix).to_vec();
        'seek: loop {
            let bounds = (Bound::Included(from.as_slice()), Bound::Unbounded);
            for row in table.range::<&[u8]>(bounds)? {
                let (key, stored) = row?;
                let key = key.value();
                if !key.starts_with(prefix) {
                    return Ok(());
                }
                let (_, value) = open_row(id, key, stored.value())?;
                match visit(key, value)? {
                    Walk::On => {}
                    Walk::Stop => return Ok(()),
                    Walk::Seek(next) => {
                        // Backwards would never end.
                        if next.as_slice() <= key {
                            return Err(StateError::Damaged("a scan went backwards".to_owned()));
                        }
                        from = next;
                        continue 'seek;
                    }
                }
            }
            return Ok(());
        }
    }

    /// Rows of a table by the database's own count.
    pub fn count(&self, id: TableId) -> Result<u64, StateError> {
        Ok(self.table(id)?.len()?)
    }

    /// Reads every row of every table and adds the digests up anew.
    pub fn digests(&self) -> Result<Digests, StateError> {
        let mut digests = Digests::default();
        for id in TableId::ALL {
            digests.0[id as usize] = self.digest(id)?;
        }
        Ok(digests)
    }

    /// Reads every row of a table and adds its digest up anew.
    pub fn digest(&self, id: TableId) -> Result<Digest, StateError> {
        let mut digest = Digest::default();
        self.walk(id, b"", b"", |key, value| {
            digest.add(id.seal(key, value));
            Ok(Walk::On)
        })?;
        Ok(digest)
    }

    fn table(&self, id: TableId) -> Result<&RawTable, StateError> {
        let slot = &self.open[id as usize];
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let table = self.transaction.open_table(id.definition())?;
        Ok(slot.get_or_init(|| table))
    }
}

/// How a walk goes on.
pub enum Walk {
    /// With the next row.
    On,
    /// Not at all.
    Stop,
    /// With the first row at or behind this key.
    Seek(Vec<u8>),
}
