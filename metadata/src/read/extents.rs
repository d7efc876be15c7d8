//! Extents, ExtentStates: what is known of extents, for the jobs that compare it with the disks.

use model::extent::Extent;
use model::ids::{ExtentId, PgId, SessionId};
use model::query::Answer;
use model::recovery::Held;
use model::upkeep::{ExtentEntry, ExtentPage, ExtentState};

use super::behind;
use crate::state::StateError;
use crate::tables::counters::{self, Counters};
use crate::tables::extents::ExtentRecord;
use crate::tables::held;
use crate::tables::sessions::{self, SessionRecord};
use crate::tables::{TableId, View, Walk, decode};

pub(super) fn extents(
    view: &View,
    pg: PgId,
    after: Option<ExtentId>,
    limit: usize,
) -> Result<Answer, StateError> {
    let mut page = ExtentPage::default();
    let start = after.map_or_else(Vec::new, |id| behind(&id.to_key()));
    let mut last = None;
    view.walk(TableId::Extents, &pg.0.to_be_bytes(), &start, |key, value| {
        if page.extents.len() == limit {
            page.next = last;
            return Ok(Walk::Stop);
        }
        let id = ExtentId::from_key(key)
            .ok_or_else(|| StateError::Damaged("an extent has a bad key".to_owned()))?;
        let ExtentRecord { coding, length, references, lacking, .. } = decode(value)?;
        let extent = Extent { id, coding, length, missing: lacking, epoch: 0 };
        page.extents.push(ExtentEntry { extent, is_owned: references > 0 });
        last = Some(id);
        Ok(Walk::On)
    })?;
    Ok(Answer::Extents(page))
}

pub(super) fn held(view: &View) -> Result<Answer, StateError> {
    Ok(Answer::Held(view.get(held::KEY)?))
}

pub(super) fn states(view: &View, extents: &[ExtentId]) -> Result<Answer, StateError> {
    let opened = view.get::<Counters>(counters::KEY)?.unwrap_or_default().session;
    let held: Option<Held> = view.get(held::KEY)?;
    let is_held = |id: &ExtentId| held.as_ref().is_some_and(|held| held.covers(id.session));
    let mut sessions = Sessions { view, opened, last: None };
    let mut states = Vec::with_capacity(extents.len());
    for id in extents {
        let record = view.get::<ExtentRecord>(&id.to_key())?;
        states.push(match record {
            Some(record) if record.references > 0 => ExtentState::Owned,
            Some(_) => ExtentState::Garbage,
            None if id.session.0 > opened => ExtentState::Foreign,
            None if is_held(id) => ExtentState::Held,
            None if sessions.has_ended(id.session)? => ExtentState::Ownerless,
            None => ExtentState::InFlight,
        });
    }
    Ok(Answer::ExtentStates(states))
}

/// Looks sessions up; neighbours in a list are mostly of the same one.
struct Sessions<'a> {
    view: &'a View,
    /// The last session that was ever opened.
    opened: u64,
    last: Option<(SessionId, bool)>,
}

impl Sessions<'_> {
    /// Whether a session was opened and has ended. One that this metadata never opened proves
    /// nothing: it may be opened yet, or the tables are not those that the extent was written
    /// under (I-9).
    fn has_ended(&mut self, session: SessionId) -> Result<bool, StateError> {
        if session == SessionId(0) || session.0 > self.opened {
            return Ok(false);
        }
        if let Some((last, ended)) = self.last
            && last == session
        {
            return Ok(ended);
        }
        let ended = self.view.get::<SessionRecord>(&sessions::key(session))?.is_none();
        self.last = Some((session, ended));
        Ok(ended)
    }
}
