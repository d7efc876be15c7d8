//! The redb file of a replica: made, opened and checked.

use std::sync::Arc;

use minicbor::{Decode, Encode};
use redb::{Database, Durability, ReadableDatabase, TableDefinition, WriteTransaction};

use wire::disk::{Disk, DiskFile, OpenMode};

use super::StateError;
use super::backend::Blocks;
use super::file::StateFile;
use super::snapshot::new_file;
use crate::limits::DATABASE_CACHE_BYTES;
use crate::raft::types::{StoredConfig, StoredLogId};
use crate::tables::{Digests, TableId};

/// What Raft must know of the state, in the same transaction as the state itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Applied {
    /// The last entry whose commands are in the tables.
    #[n(0)]
    pub last: Option<StoredLogId>,
    /// The last membership among them.
    #[n(1)]
    pub membership: StoredConfig,
}

const RAFT: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("raft");
const APPLIED: &str = "applied";
const DIGESTS: &str = "digests";

/// A database with the blocks that it lives in.
pub struct Attached {
    /// The database.
    pub database: Database,
    /// Its blocks.
    pub blocks: Blocks,
}

/// Makes an empty state in the file `name`, replacing any.
pub fn create(disk: &dyn Disk, name: &str) -> Result<Attached, StateError> {
    let attached = attach(new_file(disk, name)?)?;
    let database = &attached.database;
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    for table in TableId::ALL {
        transaction.open_table(table.definition())?;
    }
    write_applied(&transaction, &Applied::default(), Digests::default())?;
    transaction.commit()?;
    Ok(attached)
}

/// Opens the state in the file `name` and reads all of it once: whatever is damaged shows here, before the
/// replica takes part in anything.
pub fn open(disk: &dyn Disk, name: &str) -> Result<Attached, StateError> {
    let file = disk.open(name, OpenMode::Write)?;
    if file.length()? == 0 {
        return Err(StateError::Damaged("the state's file is empty".to_owned()));
    }
    let mut attached = attach(file)?;
    if !attached.database.check_integrity()? {
        return Err(StateError::Damaged("the state fails its integrity check".to_owned()));
    }
    Ok(attached)
}

fn attach(file: Arc<dyn DiskFile>) -> Result<Attached, StateError> {
    let blocks = Blocks::new(StateFile(file))?;
    let mut builder = Database::builder();
    builder.set_cache_size(DATABASE_CACHE_BYTES);
    Ok(Attached { database: builder.create_with_backend(blocks.clone())?, blocks })
}

/// Begins a transaction whose commit isn't synced: the log holds what it writes.
pub fn begin(database: &Database) -> Result<WriteTransaction, StateError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    Ok(transaction)
}

/// Makes everything that was committed durable.
pub fn checkpoint(database: &Database) -> Result<(), StateError> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    transaction.set_durability(Durability::Immediate)?;
    transaction.commit()?;
    Ok(())
}

/// Writes what Raft must know and the digests.
pub fn write_applied(
    transaction: &WriteTransaction,
    applied: &Applied,
    digests: Digests,
) -> Result<(), StateError> {
    let mut encoded = Vec::with_capacity(64);
    minicbor::encode(applied, &mut encoded)
        .map_err(|error| StateError::Damaged(error.to_string()))?;
    let mut table = transaction.open_table(RAFT)?;
    table.insert(APPLIED, sealed(APPLIED, &encoded).as_slice())?;
    table.insert(DIGESTS, sealed(DIGESTS, &digests.to_bytes()).as_slice())?;
    Ok(())
}

/// Reads what [`write_applied`] wrote.
pub fn read_applied(database: &Database) -> Result<(Applied, Digests), StateError> {
    read_applied_in(&database.begin_read()?)
}

/// The same within a transaction.
pub fn read_applied_in(
    transaction: &redb::ReadTransaction,
) -> Result<(Applied, Digests), StateError> {
    let table = transaction.open_table(RAFT)?;
    let damaged = || StateError::Damaged("the applied position can't be read".to_owned());
    let applied = table.get(APPLIED)?.ok_or_else(damaged)?;
    let applied = unsealed(APPLIED, applied.value()).ok_or_else(damaged)?;
    let applied = minicbor::decode(applied).map_err(|_| damaged())?;
    let digests = table.get(DIGESTS)?.ok_or_else(damaged)?;
    let digests = unsealed(DIGESTS, digests.value()).ok_or_else(damaged)?;
    Ok((applied, Digests::from_bytes(digests).ok_or_else(damaged)?))
}

fn seal(key: &str, value: &[u8]) -> u64 {
    let key_sum = twox_hash::XxHash3_64::oneshot(key.as_bytes());
    twox_hash::XxHash3_64::oneshot_with_seed(key_sum, value)
}

fn sealed(key: &str, value: &[u8]) -> Vec<u8> {
    let mut stored = seal(key, value).to_le_bytes().to_vec();
    stored.extend_from_slice(value);
    stored
}

fn unsealed<'v>(key: &str, stored: &'v [u8]) -> Option<&'v [u8]> {
    let (sum, value) = stored.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == seal(key, value)).then_some(value)
}
