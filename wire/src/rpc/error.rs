//! Why a call got no answer.

use model::rpc::MessageError;

use crate::tls::TlsError;

/// Why a server didn't answer a request with an answer. The number is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Ask another node: the service isn't here, or not with this target.
    #[error("the service isn't here")]
    NotHere = 1,
    /// The sender's roles don't let it ask this.
    #[error("the sender may not ask this")]
    NotAllowed = 2,
    /// The request can't be read; it is of another release, or damaged by its sender.
    #[error("the request can't be read")]
    Unreadable = 3,
    /// The server is about to end: ask it over a new connection, or another one.
    #[error("the server is going away")]
    GoingAway = 4,
    /// The deadline passed while the request was carried out; it may have taken effect.
    #[error("the deadline passed at the server")]
    Expired = 5,
    /// The handler broke down, or its answer was too large; the request may have taken effect.
    #[error("the server failed")]
    Failed = 6,
}

impl Refusal {
    /// The refusal with this number. One that isn't known says nothing about what was done.
    pub(super) fn from_number(number: u8) -> Self {
        match number {
            1 => Self::NotHere,
            2 => Self::NotAllowed,
            3 => Self::Unreadable,
            4 => Self::GoingAway,
            5 => Self::Expired,
            _ => Self::Failed,
        }
    }

    /// Whether the request surely wasn't begun.
    pub fn is_before_handler(self) -> bool {
        match self {
            Self::NotHere | Self::NotAllowed | Self::Unreadable | Self::GoingAway => true,
            Self::Expired | Self::Failed => false,
        }
    }

    /// The word used in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotHere => "not_here",
            Self::NotAllowed => "not_allowed",
            Self::Unreadable => "unreadable",
            Self::GoingAway => "going_away",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

/// Why a call got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection could be had, or it ended before the request was sent.
    #[error("{address} can't be reached: {why}")]
    Unreachable {
        /// Who.
        address: String,
        /// What happened.
        why: String,
    },
    /// No answer came; the request may have taken effect.
    #[error("{address} did not answer: {why}")]
    TimedOut {
        /// Who.
        address: String,
        /// What happened.
        why: &'static str,
    },
    /// The server refused.
    #[error("{address} refused: {why}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        why: Refusal,
    },
    /// The answer can't be read; the request has probably taken effect.
    #[error("the answer of {address}: {why}")]
    Answer {
        /// Who.
        address: String,
        /// What is wrong with it.
        why: MessageError,
    },
    /// The request is larger than any may be.
    #[error("the request is too large to be sent")]
    TooLarge,
    /// This side's credentials are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl RpcError {
    /// Whether surely no handler saw the request, so that it can be sent again without harm.
    pub fn is_before_handler(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TooLarge | Self::Tls(_) => true,
            Self::Refused { why, .. } => why.is_before_handler(),
            Self::TimedOut { .. } | Self::Answer { .. } => false,
        }
    }

    /// The word used in metrics.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { why, .. } => why.as_str(),
            Self::Answer { .. } => "unreadable_answer",
            Self::TooLarge => "too_large",
            Self::Tls(_) => "credentials",
        }
    }
}
