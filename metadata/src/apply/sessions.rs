//! OpenSession, EndSession.

use model::command::{Outcome, Refusal};
use model::ids::SessionId;

use super::{Step, Stop};
use crate::limits::{GATEWAY_NAME_BYTES_MAX, SESSIONS_MAX};

impl Step<'_, '_> {
    pub(super) fn open_session(&mut self, gateway: &str) -> Result<Outcome, Stop> {
        if gateway.len() > GATEWAY_NAME_BYTES_MAX {
            return Err(Refusal::InvalidCommand.into());
        }
        let earlier: Vec<SessionId> = self
            .memory
            .sessions()
            .filter(|(_, session)| session.gateway == gateway)
            .map(|(id, _)| id)
            .collect();
        if self.memory.sessions().count() - earlier.len() >= SESSIONS_MAX {
            return Err(Refusal::InvalidCommand.into());
        }
        for id in earlier {
            self.memory.remove_session(id);
        }
        self.memory.counters.session += 1;
        let id = SessionId(self.memory.counters.session);
        self.memory.add_session(id, gateway.to_owned(), self.now);
        Ok(Outcome::SessionOpened(id))
    }

    pub(super) fn end_session(&mut self, session: SessionId) -> Outcome {
        self.memory.remove_session(session);
        Outcome::Done
    }
}
