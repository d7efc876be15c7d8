//! SetAuthority, CreateToken, RevokeToken: what nodes are admitted by.

use model::command::{Outcome, Refusal};
use model::ids::{NodeUuid, TokenId};
use model::node::{Authority, JoinToken, Roles};

use super::{Step, Stop};
use crate::limits::{AUTHORITY_BYTES_MAX, TOKEN_USES_MAX, TOKENS_MAX};
use crate::tables::trust::{self, TokenRecord, TrustRecord};

/// How a node comes with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comes {
    /// In a cluster that doesn't ask yet.
    Unasked,
    /// Its uuid isn't in the map.
    First,
    /// Its uuid is in the map, and that is all that speaks for it.
    Again,
    /// It has proven to be a node that was let in once.
    Back,
}

/// Bytes of a SHA-256.
const SHA256_BYTES: usize = 32;

impl Step<'_, '_> {
    pub(super) fn set_authority(&mut self, authority: &Authority) -> Result<Outcome, Stop> {
        let is_valid = |bytes: &[u8]| !bytes.is_empty() && bytes.len() <= AUTHORITY_BYTES_MAX;
        if !is_valid(&authority.certificate) || !is_valid(&authority.sealed_key) {
            return Err(Refusal::InvalidCommand.into());
        }
        let mut trust = self.trust()?;
        match &trust.authority {
            // The key may be sealed anew, with another nonce: it is the same authority.
            Some(known) if known.certificate == authority.certificate => Ok(Outcome::Done),
            Some(_) => Err(Refusal::AuthorityExists.into()),
            None => {
                trust.authority = Some(authority.clone());
                self.set_trust(&trust)?;
                Ok(Outcome::Done)
            }
        }
    }

    pub(super) fn create_token(&mut self, token: &JoinToken) -> Result<Outcome, Stop> {
        let is_valid = token.secret_sha256.len() == SHA256_BYTES
            && token.roles != Roles::NONE
            && Roles::ALL.contains(token.roles)
            && (1..=TOKEN_USES_MAX).contains(&token.uses_left)
            && token.expires > self.now;
        if !is_valid {
            return Err(Refusal::InvalidCommand.into());
        }
        let mut trust = self.trust()?;
        trust.tokens.retain(|known| known.token.expires > self.now);
        if let Some(known) = trust.tokens.iter().find(|known| known.token.id == token.id) {
            // The same again is a retry; it must not bring uses back.
            let is_same = known.token.secret_sha256 == token.secret_sha256
                && known.token.roles == token.roles
                && known.token.expires == token.expires;
            return if is_same { Ok(Outcome::Done) } else { Err(Refusal::InvalidCommand.into()) };
        }
        if trust.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::InvalidCommand.into());
        }
        trust.tokens.push(TokenRecord { token: token.clone(), admitted: Vec::new() });
        self.set_trust(&trust)?;
        Ok(Outcome::Done)
    }

    pub(super) fn revoke_token(&mut self, token: TokenId) -> Result<Outcome, Stop> {
        let mut trust = self.trust()?;
        let known = trust.tokens.len();
        trust.tokens.retain(|known| known.token.id != token);
        if trust.tokens.len() != known {
            self.set_trust(&trust)?;
        }
        Ok(Outcome::Done)
    }

    /// Counts a token down for a node, if it lets the node in; the trust is to be written by the
    /// caller. `roles` are all that the node has or had.
    pub(super) fn use_token(
        &self,
        trust: &mut TrustRecord,
        token: TokenId,
        secret_sha256: &[u8],
        (node, roles): (NodeUuid, Roles),
        comes: Comes,
    ) -> Result<(), Refusal> {
        let now = self.now;
        let known = trust.tokens.iter_mut().find(|known| known.token.id == token);
        let known = known.ok_or(Refusal::TokenInvalid)?;
        let is_valid = known.token.secret_sha256.as_slice() == secret_sha256
            && known.token.expires > now
            && known.token.roles.contains(roles);
        if !is_valid {
            return Err(Refusal::TokenInvalid);
        }
        match (comes, known.admitted.contains(&node)) {
            // What was asked is asked again; its answer was lost.
            (Comes::Unasked | Comes::Again | Comes::Back, true) => return Ok(()),
            // It isn't the node that it says it is, or was taken out of the map since.
            (Comes::Again, false) | (Comes::First, true) => return Err(Refusal::TokenInvalid),
            (Comes::Unasked | Comes::First | Comes::Back, false) => {}
        }
        known.token.uses_left =
            known.token.uses_left.checked_sub(1).ok_or(Refusal::TokenInvalid)?;
        known.admitted.push(node);
        Ok(())
    }

    pub(super) fn trust(&mut self) -> Result<TrustRecord, Stop> {
        Ok(self.tables.get(trust::KEY)?.unwrap_or_default())
    }

    pub(super) fn set_trust(&mut self, trust: &TrustRecord) -> Result<(), Stop> {
        Ok(self.tables.set(trust::KEY, trust)?)
    }
}
