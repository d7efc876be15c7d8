//! The targets that backups of the metadata go to, as the operator sees them.
//!
//! In: what became of the backups there. Out: a part of `/status`, reasons for `/health/ready`, and
//! text for a terminal. What always holds: no secret; a process that takes no backups tells of none.

use std::fmt::Write as _;

use metadata::backup::BackupProgress;
use model::time::Timestamp;
use s3::date;
use serde::{Deserialize, Serialize};

use crate::admin::health::{self, Reason};
use crate::admin::render::{known, table};

/// A target of backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupTargetStatus {
    /// `cluster` for the store itself, `remote` for another S3 endpoint.
    pub target: String,
    /// Where the backups are.
    pub place: String,
    /// Who takes them: `this` gateway, `another`, `nobody` while no user has a bucket, or `unknown`;
    /// `null` before that was looked at.
    pub taken_by: Option<String>,
    /// When the newest whole backup was taken, ISO 8601; `null` where none is known.
    pub newest: Option<String>,
    /// Seconds from the epoch to that, for machines.
    pub newest_seconds: Option<u64>,
    /// Bytes of it; `null` where another process took it.
    pub newest_bytes: Option<u64>,
    /// Whether the newest is older than three intervals.
    pub late: bool,
    /// Attempts of this process that failed.
    pub failures: u64,
    /// Why the last one failed; `null` once one has succeeded since.
    pub error: Option<String>,
}

impl BackupTargetStatus {
    /// What became of the backups so far.
    pub fn new(progress: &BackupProgress, now: Timestamp) -> Self {
        let figures = progress.figures();
        Self {
            target: progress.name().to_owned(),
            place: progress.place().to_owned(),
            taken_by: figures.turn.map(|whose| whose.as_str().to_owned()),
            newest: figures.newest.map(date::iso8601),
            newest_seconds: figures.newest.map(Timestamp::as_seconds),
            newest_bytes: figures.newest_bytes,
            late: progress.is_late(now),
            failures: figures.failures,
            error: figures.error,
        }
    }

    /// That it is late.
    pub fn reason(&self) -> Option<Reason> {
        self.late.then(|| {
            let newest = match &self.newest {
                Some(newest) => format!("is of {newest}"),
                None => "was never taken".to_owned(),
            };
            let error = match &self.error {
                Some(error) => format!("; the last attempt failed: {error}"),
                None => String::new(),
            };
            let place = &self.place;
            health::backup_late(format!(
                "The newest backup of the metadata in {place} {newest}, more than three intervals ago{error}."
            ))
        })
    }
}

const TITLES: [&str; 6] = ["BACKUPS", "TAKEN BY", "NEWEST", "BYTES", "FAILED", "PLACE"];

/// The table of targets, and what went wrong last; nothing where there are none.
pub fn render(targets: &[BackupTargetStatus]) -> String {
    let mut out = String::new();
    if targets.is_empty() {
        return out;
    }
    let row = |target: &BackupTargetStatus| {
        let newest = target.newest.clone().unwrap_or_else(|| "none".to_owned());
        [
            target.target.clone(),
            known(target.taken_by.as_ref()),
            if target.late { format!("{newest}, LATE") } else { newest },
            known(target.newest_bytes),
            target.failures.to_string(),
            target.place.clone(),
        ]
    };
    let rows: Vec<_> = targets.iter().map(row).collect();
    // Writing to a String can't fail.
    let _infallible = table(&mut out, TITLES, &rows);
    for target in targets {
        if let Some(error) = &target.error {
            let _infallible = writeln!(out, "The last backup to {} failed: {error}", target.target);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_with_what_went_wrong() {
        assert_eq!(render(&[]), "");
        let cluster = BackupTargetStatus {
            target: "cluster".to_owned(),
            place: "the bucket b".to_owned(),
            taken_by: Some("this".to_owned()),
            newest: Some("2026-11-20T10:00:00.000Z".to_owned()),
            newest_bytes: Some(4096),
            ..BackupTargetStatus::default()
        };
        let remote = BackupTargetStatus {
            target: "remote".to_owned(),
            place: "https://s3.test/b/".to_owned(),
            late: true,
            failures: 3,
            error: Some("no connection".to_owned()),
            ..BackupTargetStatus::default()
        };
        let expected = "\
BACKUPS  TAKEN BY  NEWEST                    BYTES    FAILED  PLACE
cluster  this      2026-11-20T10:00:00.000Z  4096     0       the bucket b
remote   unknown   none, LATE                unknown  3       https://s3.test/b/
The last backup to remote failed: no connection
";
        assert_eq!(render(&[cluster.clone(), remote.clone()]), expected);
        assert_eq!(cluster.reason(), None);
        let reason = remote.reason().expect("it is late");
        assert!(!reason.blocking && reason.code == "BACKUP_LATE");
        let message = "The newest backup of the metadata in https://s3.test/b/ was never taken, more \
                       than three intervals ago; the last attempt failed: no connection.";
        assert_eq!(reason.message, message);
    }
}
