//! A join token as it is handed from one operator to another: one string with everything that a new
//! host needs to find the cluster, to know it again, and to be let in.
//!
//! `drystone-join-` and the URL-safe base64 of a JSON document: addresses of metadata nodes, the
//! SHA-256 of the authority's certificate, the token's id, and its secret.

use std::fmt;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::ids::TokenId;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "drystone-join-";

/// Bytes of the secret.
pub const SECRET_BYTES: usize = 32;

/// Addresses that a token carries at most: it is pasted by people.
const ADDRESSES_MAX: usize = 5;

/// What a join token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Where to ask.
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate.
    pub pin: [u8; 32],
    /// The token's public half.
    pub id: TokenId,
    /// Its secret half.
    pub secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, redacted)", self.id)
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    addresses: Vec<String>,
    pin: String,
    id: String,
    secret: String,
}

impl Ticket {
    /// The string.
    pub fn encode(&self) -> Result<String> {
        let document = Document {
            addresses: self.addresses.iter().take(ADDRESSES_MAX).cloned().collect(),
            pin: hex::encode(self.pin),
            id: self.id.to_string(),
            secret: hex::encode(self.secret),
        };
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&document)?)))
    }

    /// Reads the string. What is wrong with it is said without saying what is in it.
    pub fn decode(text: &str) -> Result<Self> {
        let wrong = "this is no join token; give the whole line that `drystone cluster token create` printed";
        let Some(body) = text.trim().strip_prefix(PREFIX) else { bail!(wrong) };
        let document = URL_SAFE_NO_PAD.decode(body).ok().context(wrong)?;
        let document: Document = serde_json::from_slice(&document).ok().context(wrong)?;
        let bytes = |text: &str| -> Option<[u8; 32]> { hex::decode(text).ok()?.try_into().ok() };
        Ok(Self {
            addresses: document.addresses,
            pin: bytes(&document.pin).context(wrong)?,
            id: TokenId::parse(&document.id).context(wrong)?,
            secret: bytes(&document.secret).context(wrong)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_says_nothing_in_its_errors() {
        let ticket = Ticket {
            addresses: vec!["10.0.0.1:9002".to_owned()],
            pin: [1; 32],
            id: TokenId([2; 16]),
            secret: [3; SECRET_BYTES],
        };
        let text = ticket.encode().expect("encoded");
        assert_eq!(Ticket::decode(&format!(" {text}\n")).expect("decoded"), ticket);
        assert!(!format!("{ticket:?}").contains("0303"));
        let cut = &text[..text.len() - 5];
        let error = Ticket::decode(cut).expect_err("cut short").to_string();
        assert!(error.contains("token create") && !error.contains(&cut[20..]), "{error}");
        assert!(Ticket::decode("hello").is_err());
    }
}
