//! Trust: the certificate authority and the join tokens, with those that are used up, until they end.

use model::query::{Answer, Trust};

use crate::state::StateError;
use crate::tables::View;
use crate::tables::trust::{KEY, TrustRecord};

pub(super) fn trust(view: &View) -> Result<Answer, StateError> {
    let record: TrustRecord = view.get(KEY)?.unwrap_or_default();
    let tokens = record.tokens.into_iter().map(|known| known.token);
    Ok(Answer::Trust(Box::new(Trust { authority: record.authority, tokens: tokens.collect() })))
}
