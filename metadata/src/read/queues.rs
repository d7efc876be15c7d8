//! Garbage, Repairs: what the jobs of the engine work off.

use model::command::LackingExtent;
use model::query::{Answer, GarbageItem, RepairPage};
use model::time::Timestamp;

use crate::state::StateError;
use crate::tables::garbage::{self, Garbage};
use crate::tables::repair::{self, Repair};
use crate::tables::{TableId, View, Walk, decode};

pub(super) fn garbage(view: &View, before: Timestamp, limit: usize) -> Result<Answer, StateError> {
    let mut items = Vec::new();
    view.walk(TableId::Garbage, b"", b"", |key, value| {
        let key = garbage::read_key(key)
            .ok_or_else(|| StateError::Damaged("a garbage row has a bad key".to_owned()))?;
        if items.len() == limit || key.since >= before {
            return Ok(Walk::Stop);
        }
        let Garbage { coding, length } = decode(value)?;
        items.push(GarbageItem { key, coding, length });
        Ok(Walk::On)
    })?;
    Ok(Answer::Garbage(items))
}

pub(super) fn repairs(view: &View, limit: usize) -> Result<Answer, StateError> {
    let mut page = RepairPage { total: view.count(TableId::Repair)?, items: Vec::new() };
    view.walk(TableId::Repair, b"", b"", |key, value| {
        if page.items.len() == limit {
            return Ok(Walk::Stop);
        }
        let extent = repair::read_key(key)
            .ok_or_else(|| StateError::Damaged("a repair row has a bad key".to_owned()))?;
        page.items.push(LackingExtent { extent, slots: decode::<Repair>(value)?.lacking });
        Ok(Walk::On)
    })?;
    Ok(Answer::Repairs(page))
}
