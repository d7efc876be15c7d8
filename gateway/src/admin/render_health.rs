//! The health as text for a terminal: what `drystone admin health` prints, and its part of
//! `drystone admin status`.

use std::fmt::Write as _;

use crate::admin::figures::durability::DurabilityStatus;
use crate::admin::health::{Colour, Health, Margin, Reason};

/// The colour and the margin, in one line.
pub fn health_line(colour: Colour, margin: &Margin) -> String {
    if margin.text.is_empty() {
        return colour.as_str().to_owned();
    }
    format!("{}; {}", colour.as_str(), margin.text)
}

/// How likely an object is to last, in one line.
pub fn durability(durability: &DurabilityStatus) -> String {
    let DurabilityStatus { nines, rebuild_hours, .. } = durability;
    let (whose, rate) = (durability.whose(), durability.rate_words());
    format!(
        "{nines:.1} nines a year by the model for an object {whose}; a lost disk is rebuilt in {rebuild_hours:.1} h {rate}"
    )
}

/// All of it.
pub fn health(health: &Health) -> String {
    let mut out = health_line(health.status, &health.margin);
    out.push('\n');
    out.push_str(&reasons(&health.reasons));
    if health.reasons.iter().any(|reason| !reason.is_muted()) {
        out.push_str("`drystone admin explain CODE` tells cause, effect and remedy.\n");
    }
    out
}

/// The reasons, the gravest first and those that are muted last.
pub fn reasons(reasons: &[Reason]) -> String {
    let mut sorted: Vec<&Reason> = reasons.iter().collect();
    sorted.sort_by_key(|reason| (reason.is_muted(), std::cmp::Reverse(reason.severity)));
    let mut out = String::new();
    for reason in sorted {
        let Reason { code, message, severity, .. } = reason;
        let word = match (&reason.muted_until, reason.blocking) {
            (Some(until), _) => format!("muted until {until}"),
            (None, true) => "ERROR".to_owned(),
            (None, false) if *severity == crate::admin::health::Severity::Red => "RED".to_owned(),
            (None, false) => "warning".to_owned(),
        };
        // Writing to a String can't fail.
        let _infallible = writeln!(out, "{word}: {message} ({code})");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::health::Code;

    #[test]
    fn the_gravest_come_first_and_the_muted_last() {
        let told = |code, message: &str| Reason::warning(code, message.to_owned());
        let muted = Reason { muted_until: Some("then".to_owned()), ..told(Code::BackupLate, "B.") };
        let reasons = vec![
            muted,
            told(Code::DiskDown, "D."),
            told(Code::StripeAtRisk, "S."),
            Reason::blocking(Code::MapOld, "M.".to_owned()),
        ];
        let margin = Margin {
            more_disks: Some(0),
            more_metadata_replicas: Some(1),
            text: "no further disk may fail; 1 more metadata replica".to_owned(),
        };
        let expected = "\
red; no further disk may fail; 1 more metadata replica
RED: S. (STRIPE_AT_RISK)
ERROR: M. (MAP_OLD)
warning: D. (DISK_DOWN)
muted until then: B. (BACKUP_LATE)
`drystone admin explain CODE` tells cause, effect and remedy.
";
        assert_eq!(health(&Health::new(reasons, margin)), expected);
    }

    #[test]
    fn green_is_one_line() {
        let margin = Margin { text: "2 more disks may fail".to_owned(), ..Margin::default() };
        assert_eq!(health(&Health::new(Vec::new(), margin)), "green; 2 more disks may fail\n");
    }
}
