//! How the cluster is: whether it can serve, what isn't as it should be, and how far data is from
//! being lost, in words for people and codes for machines.
//!
//! In: what is known of disks, replicas and this process. Out: reasons, each with a [`Code`], and the
//! colour that they come to. A reason either stops clients from being served, or warns of what would at
//! the next failure. What always holds: a reason that stops clients can't be muted.

pub mod codes;
mod disks;
pub mod explain;
pub mod gauges;
mod metadata;
pub mod mutes;
mod process;
mod stripes;

use serde::{Deserialize, Serialize};

pub use codes::{Code, Severity};
pub use disks::{DiskFacts, of_disks};
pub use metadata::{backup_late, clock_skew, mixed_releases, of_replicas};
pub use process::{certificate_expires, disk_slow};
pub use stripes::{Margin, Repairs, margin_of, of_stripes, of_upkeep, tolerance_low};

/// Something that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word: one of [`Code::ALL`].
    pub code: String,
    /// How grave it is.
    #[serde(default)]
    pub severity: Severity,
    /// One sentence for people.
    pub message: String,
    /// Whether clients can't be served because of it.
    pub blocking: bool,
    /// Until when an operator doesn't want to hear of it, ISO 8601; `null` when it isn't muted.
    #[serde(default)]
    pub muted_until: Option<String>,
    /// Whether it keeps clients from being served, be it by other processes than this one: it can't be
    /// muted.
    #[serde(default)]
    pub stops_clients: bool,
}

impl Reason {
    /// Something that keeps nobody from being served.
    pub fn warning(code: Code, message: String) -> Self {
        let (severity, code) = (code.severity(), code.to_string());
        let (blocking, muted_until, stops_clients) = (false, None, false);
        Self { code, severity, message, blocking, muted_until, stops_clients }
    }

    /// Something that keeps clients from being served.
    pub fn blocking(code: Code, message: String) -> Self {
        // Only the order to stop is no failure.
        let severity = if code == Code::Stopping { code.severity() } else { Severity::Red };
        Self { severity, blocking: true, stops_clients: true, ..Self::warning(code, message) }
    }

    /// Says it as something that is in nobody's way here; it can't be muted for that.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self { blocking: false, ..self }
    }

    /// The same, as grave as can be.
    #[must_use]
    pub fn as_red(self) -> Self {
        Self { severity: Severity::Red, ..self }
    }

    /// Whether an operator doesn't want to hear of it for now.
    pub const fn is_muted(&self) -> bool {
        self.muted_until.is_some()
    }
}

/// What it all comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// All is well, or what isn't is muted.
    #[default]
    Green,
    /// The cluster serves and has something to spare.
    Yellow,
    /// Something can't be served, or one more failure loses it.
    Red,
}

impl Colour {
    /// The worst of what isn't muted.
    pub fn of(reasons: &[Reason]) -> Self {
        let heard = reasons.iter().filter(|reason| !reason.is_muted());
        let colour = |reason: &Reason| match reason.severity {
            Severity::Yellow => Self::Yellow,
            Severity::Red => Self::Red,
        };
        heard.map(colour).max().unwrap_or_default()
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// The answer to `/health` and `/health/ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether clients can be served.
    pub ready: bool,
    /// What the reasons come to.
    #[serde(default)]
    pub status: Colour,
    /// How far data is from being lost.
    #[serde(default)]
    pub margin: Margin,
    /// What isn't as it should be.
    pub reasons: Vec<Reason>,
}

impl Health {
    /// Ready, unless one of the reasons is in the way.
    pub fn new(reasons: Vec<Reason>, margin: Margin) -> Self {
        let ready = !reasons.iter().any(|reason| reason.blocking);
        Self { ready, status: Colour::of(&reasons), margin, reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_is_not_muted_gives_the_colour() {
        let check = |reasons: &[Reason], ready, colour| {
            let health = Health::new(reasons.to_vec(), Margin::default());
            assert_eq!((health.ready, health.status), (ready, colour), "{reasons:?}");
        };
        let yellow = Reason::warning(Code::DiskDown, String::new());
        let red = Reason::warning(Code::StripeAtRisk, String::new());
        let muted = Reason { muted_until: Some("then".to_owned()), ..red.clone() };
        check(&[], true, Colour::Green);
        check(std::slice::from_ref(&yellow), true, Colour::Yellow);
        check(&[yellow.clone(), red], true, Colour::Red);
        check(&[muted.clone(), yellow], true, Colour::Yellow);
        check(&[muted], true, Colour::Green);
        let full = Reason::blocking(Code::NoOpenGroup, String::new());
        check(std::slice::from_ref(&full), false, Colour::Red);
        check(&[full.as_warning()], true, Colour::Red);
        check(&[Reason::blocking(Code::Stopping, String::new())], false, Colour::Yellow);
    }

    #[test]
    fn the_document_of_older_releases_is_read() {
        let old =
            r#"{"ready":true,"reasons":[{"code":"disks_missing","message":"m","blocking":false}]}"#;
        let health: Health = serde_json::from_str(old).expect("read");
        assert_eq!(health.reasons[0].severity, Severity::Yellow);
        assert!(!health.reasons[0].is_muted() && health.status == Colour::Green);
        let text = serde_json::to_string(&health).expect("written");
        assert!(text.contains(r#""status":"green""#) && text.contains(r#""severity":"yellow""#));
    }
}
