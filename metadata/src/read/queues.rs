//! Garbage, Repairs: what the jobs of the engine work off.

use model::extent::Extent;
use model::query::{Answer, GarbageItem};
use model::recovery::Held;
use model::time::Timestamp;
use model::upkeep::{RepairCursor, RepairItem, RepairPage};

use super::behind;
use crate::state::StateError;
use crate::tables::extents::ExtentRecord;
use crate::tables::garbage::{self, Garbage};
use crate::tables::held;
use crate::tables::repair::{self, Repair};
use crate::tables::{TableId, View, Walk, decode};

/// Nothing while something is held: what the tables don't know yet may name it (I-9).
pub(super) fn garbage(view: &View, before: Timestamp, limit: usize) -> Result<Answer, StateError> {
    let mut items = Vec::new();
    if view.get::<Held>(held::KEY)?.is_some() {
        return Ok(Answer::Garbage(items));
    }
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

pub(super) fn repairs(
    view: &View,
    after: Option<RepairCursor>,
    limit: usize,
) -> Result<Answer, StateError> {
    let mut page = RepairPage { total: view.count(TableId::Repair)?, ..RepairPage::default() };
    let start = after.map_or_else(Vec::new, |cursor| behind(&repair::cursor_key(cursor)));
    let mut last = None;
    view.walk(TableId::Repair, b"", &start, |key, value| {
        if page.items.len() == limit {
            page.next = last;
            return Ok(Walk::Stop);
        }
        let cursor = repair::read_key(key)
            .ok_or_else(|| StateError::Damaged("a repair row has a bad key".to_owned()))?;
        let Repair { lacking } = decode(value)?;
        let id = cursor.extent;
        let record = view.get::<ExtentRecord>(&id.to_key())?.ok_or_else(|| {
            StateError::Damaged(format!("extent {id} is to be repaired but not there"))
        })?;
        let ExtentRecord { coding, length, .. } = record;
        page.items.push(RepairItem {
            extent: Extent { id, coding, length, missing: lacking, epoch: 0 },
            spare: i16::from(cursor.priority) - i16::from(repair::NONE_TO_SPARE),
        });
        last = Some(cursor);
        Ok(Walk::On)
    })?;
    Ok(Answer::Repairs(page))
}
