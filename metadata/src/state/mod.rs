//! The replicated state: redb tables behind a checking storage backend, and the machine that
//! applies committed entries to them.

use std::io;

mod backend;
mod copies;
pub(crate) mod database;
mod fence;
mod file;
mod install;
pub(crate) mod machine;
mod restraint;
pub(crate) mod snapshot;

pub use copies::SnapshotScan;
pub use database::Applied;
pub use fence::Fence;
pub use machine::{Captured, Entries, StateMachine, Summary};
pub use restraint::Restraint;
pub use snapshot::{SnapshotFile, new_file};

/// Why the state can't go on. Each fences the replica.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// What was read isn't what was written.
    #[error("the state is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error("the state's database failed: {0}")]
    Database(#[source] Box<redb::Error>),
    /// A file could not be read or written.
    #[error("the state can't be read or written: {0}")]
    Io(#[from] io::Error),
    /// The replica was fenced before.
    #[error("the replica is fenced")]
    Fenced,
}

impl From<StateError> for io::Error {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StateError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);
