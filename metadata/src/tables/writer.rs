//! The tables inside one write transaction.
//!
//! Tables are opened as they are needed: most commands touch four of them. Every change keeps the
//! table's digest.

use redb::{ReadableTable, Table, WriteTransaction};

use super::{Digests, Record, TableId, decode, open_row};
use crate::state::StateError;

type RawTable<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

/// Key and value of a row.
pub type Row = (Vec<u8>, Vec<u8>);

/// The tables of a transaction, and their digests.
pub struct Tables<'txn> {
    transaction: &'txn WriteTransaction,
    open: [Option<RawTable<'txn>>; TableId::COUNT],
    digests: Digests,
    /// The value under construction, used again for every row.
    buffer: Vec<u8>,
}

impl<'txn> Tables<'txn> {
    /// The tables as `transaction` sees them; `digests` are those before it.
    pub fn new(transaction: &'txn WriteTransaction, digests: Digests) -> Self {
        Self { transaction, open: Default::default(), digests, buffer: Vec::new() }
    }

    /// The digests now.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// A record; `None` when there is no such row.
    pub fn get<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>, StateError> {
        let Some(stored) = self.table(R::TABLE)?.get(key)? else {
            return Ok(None);
        };
        let (_, value) = open_row(R::TABLE, key, stored.value())?;
        decode(value).map(Some)
    }

    /// Writes a record; gives back the one that it replaces.
    pub fn put<R: Record>(&mut self, key: &[u8], record: &R) -> Result<Option<R>, StateError> {
        let old = self.put_record(key, record)?;
        old.map(|old| decode(&old)).transpose()
    }

    /// Writes a record, whatever was there.
    pub fn set<R: Record>(&mut self, key: &[u8], record: &R) -> Result<(), StateError> {
        self.put_record(key, record).map(drop)
    }

    /// Removes a record and gives it back.
    pub fn take<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>, StateError> {
        let old = self.remove(R::TABLE, key)?;
        old.map(|old| decode(&old)).transpose()
    }

    /// Removes a row and gives its value back.
    pub fn remove(&mut self, id: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let table = self.table(id)?;
        let Some(stored) = table.remove(key)? else {
            return Ok(None);
        };
        let (seal, value) = open_row(id, key, stored.value())?;
        let value = value.to_vec();
        drop(stored);
        self.digests.0[id as usize].subtract(seal);
        Ok(Some(value))
    }

    /// Writes a row and gives the replaced value back.
    pub fn insert(
        &mut self,
        id: TableId,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StateError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(&[0; 8]);
        buffer.extend_from_slice(value);
        self.insert_sealed(id, key, buffer)
    }

    /// The rows whose keys begin with `prefix`, at most `limit`.
    pub fn scan(
        &mut self,
        id: TableId,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::new();
        for row in self.table(id)?.range(prefix..)?.take(limit) {
            let (key, stored) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (_, value) = open_row(id, key.value(), stored.value())?;
            rows.push((key.value().to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    /// The rows from `start` on, at most `limit`.
    pub fn scan_from(
        &mut self,
        id: TableId,
        start: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::new();
        for row in self.table(id)?.range(start..)?.take(limit) {
            let (key, stored) = row?;
            let (_, value) = open_row(id, key.value(), stored.value())?;
            rows.push((key.value().to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    fn put_record<R: Record>(
        &mut self,
        key: &[u8],
        record: &R,
    ) -> Result<Option<Vec<u8>>, StateError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(&[0; 8]);
        minicbor::encode(record, &mut buffer)
            .map_err(|error| StateError::Damaged(format!("a record can't be encoded: {error}")))?;
        self.insert_sealed(R::TABLE, key, buffer)
    }

    /// `buffer` begins with room for the seal.
    fn insert_sealed(
        &mut self,
        id: TableId,
        key: &[u8],
        mut buffer: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, StateError> {
        let seal = id.seal(key, buffer.get(8..).unwrap_or_default());
        if let Some(head) = buffer.first_chunk_mut::<8>() {
            *head = seal.to_le_bytes();
        }
        let table = self.table(id)?;
        let old = match table.insert(key, buffer.as_slice())? {
            Some(stored) => {
                let (seal, value) = open_row(id, key, stored.value())?;
                Some((seal, value.to_vec()))
            }
            None => None,
        };
        let digest = &mut self.digests.0[id as usize];
        digest.add(seal);
        self.buffer = buffer;
        Ok(old.map(|(seal, value)| {
            digest.subtract(seal);
            value
        }))
    }

    fn table(&mut self, id: TableId) -> Result<&mut RawTable<'txn>, StateError> {
        let slot = &mut self.open[id as usize];
        if slot.is_none() {
            *slot = Some(self.transaction.open_table(id.definition())?);
        }
        slot.as_mut().ok_or_else(|| StateError::Damaged("a table isn't open".to_owned()))
    }
}
