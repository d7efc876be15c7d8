//! UnusedGroups: the placement groups that nobody uses.
//!
//! In: the map, and which of its groups hold an extent. Out: those of codings that are out of use, and
//! that hold none. What always holds: no group is told that an extent lies in, be it one that waits to
//! be deleted, or one that the tables may not know.

use std::collections::BTreeSet;

use model::ids::{ExtentId, PgId};
use model::query::Answer;
use model::recovery::Held;

use crate::state::{StateError, StateMachine};
use crate::tables::{TableId, View, Walk, held};

pub(super) fn unused_groups(machine: &StateMachine) -> Result<Answer, StateError> {
    // The map first: what is written meanwhile is found.
    let Some(map) = machine.directory().map.clone() else {
        return Ok(Answer::UnusedGroups(Vec::new()));
    };
    let out_of_use: BTreeSet<PgId> = map.pgs_out_of_use().iter().map(|pg| pg.id).collect();
    let pgs = if out_of_use.is_empty() {
        Vec::new()
    } else {
        machine.read(|view| empty(view, out_of_use))?
    };
    Ok(Answer::UnusedGroups(pgs))
}

/// Those of some groups that hold nothing. Reads a row for each that does.
fn empty(view: &View, mut pgs: BTreeSet<PgId>) -> Result<Vec<PgId>, StateError> {
    if view.get::<Held>(held::KEY)?.is_some() {
        return Ok(Vec::new());
    }
    let start = |pg: &PgId| pg.0.to_be_bytes().to_vec();
    let Some(first) = pgs.first().map(start) else { return Ok(Vec::new()) };
    view.walk(TableId::Extents, b"", &first, |key, _| {
        let id = ExtentId::from_key(key)
            .ok_or_else(|| StateError::Damaged("an extent has a bad key".to_owned()))?;
        pgs.remove(&id.pg);
        Ok(pgs.range(id.pg..).next().map_or(Walk::Stop, |next| Walk::Seek(start(next))))
    })?;
    Ok(pgs.into_iter().collect())
}
