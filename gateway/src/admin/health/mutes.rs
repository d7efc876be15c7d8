//! Codes that operators don't want to hear of for a while.
//!
//! In: mutes of the cluster map, and orders. Out: reasons with the end of their mute, and the command
//! that an order comes to. What always holds: a mute ends by itself; a reason that stops clients is
//! heard whatever is muted, also from processes whose clients it doesn't stop.

use std::time::Duration;

use model::cluster_map::{ClusterMap, Mute};
use model::command::{Command, Outcome, Refusal};
use model::query::{Answer, Query};
use model::time::Timestamp;
use s3::date;
use serde::{Deserialize, Serialize};

use super::{Code, Reason};
use crate::admin::gather::StatusGatherer;
use crate::admin::orders::OrderError;

/// The longest mute: what should never be heard of again should be changed instead.
pub const MUTE_MAX: Duration = Duration::from_hours(90 * 24);

/// To `POST /health/mute`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteOrder {
    /// The code.
    pub code: String,
    /// For how long; 0 ends a mute.
    pub seconds: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Muted {
    /// The code.
    pub code: String,
    /// Until when it is muted, ISO 8601; `null` when it isn't any more.
    pub until: Option<String>,
}

/// Marks those that are muted now.
pub fn apply(reasons: &mut [Reason], mutes: &[Mute], now: Timestamp) {
    for reason in reasons.iter_mut().filter(|reason| !reason.stops_clients) {
        let mute = mutes.iter().find(|mute| mute.code == reason.code && mute.until > now);
        reason.muted_until = mute.map(|mute| date::iso8601(mute.until));
    }
}

impl MuteOrder {
    /// What is to be proposed.
    fn mute(&self, now: Timestamp) -> Result<Mute, OrderError> {
        let code = Code::parse(&self.code).ok_or_else(|| {
            let code = &self.code;
            OrderError::Invalid(format!(
                "there is no health code {code}; `drystone admin explain` lists them"
            ))
        })?;
        if self.seconds > MUTE_MAX.as_secs() {
            let days = MUTE_MAX.as_secs() / 86_400;
            return Err(OrderError::Invalid(format!("a code is muted for at most {days} days")));
        }
        let until = if self.seconds == 0 {
            Timestamp(0)
        } else {
            now.plus_nanos(Duration::from_secs(self.seconds).as_nanos() as u64)
        };
        Ok(Mute { code: code.to_string(), until })
    }
}

impl StatusGatherer {
    /// Mutes a code for the whole cluster, or ends that.
    pub async fn mute(&self, order: &MuteOrder) -> Result<Muted, OrderError> {
        let unavailable =
            |error: model::query::MetadataError| OrderError::Unavailable(error.to_string());
        let mute = order.mute(self.client().clock().now())?;
        let command = Command::MuteHealth(mute.clone());
        let map = self.client().query(Query::ClusterMap { known_epoch: 0 }).await;
        match map.map_err(unavailable)? {
            Answer::ClusterMap(Some(map)) => check_level(&map, &command)?,
            _ => return Err(OrderError::Unavailable("the cluster isn't made yet".to_owned())),
        }
        match self.client().propose_one(command).await.map_err(unavailable)? {
            Outcome::Refused(Refusal::InvalidCommand) => {
                Err(OrderError::Refused("too many codes are muted already".to_owned()))
            }
            Outcome::Refused(refusal) => Err(OrderError::Failed(refusal.to_string())),
            _ => {
                let is_muted = mute.until != Timestamp(0);
                let until = is_muted.then(|| date::iso8601(mute.until));
                Ok(Muted { code: mute.code, until })
            }
        }
    }
}

fn check_level(map: &ClusterMap, command: &Command) -> Result<(), OrderError> {
    if map.allows(command) {
        return Ok(());
    }
    let text = "nodes of an older release can't keep mutes; upgrade them first";
    Err(OrderError::Refused(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::{Colour, Health, Margin};
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn order(code: &str, seconds: u64) -> Result<Mute, OrderError> {
        MuteOrder { code: code.to_owned(), seconds }.mute(Timestamp(100 * SECOND))
    }

    #[test]
    fn a_mute_ends_by_itself() {
        let mutes = [order("disk_down", 60).expect("a mute")];
        assert_eq!(mutes[0], Mute { code: "DISK_DOWN".to_owned(), until: Timestamp(160 * SECOND) });
        let colour = |now| {
            let mut reasons = vec![Reason::warning(Code::DiskDown, String::new())];
            apply(&mut reasons, &mutes, Timestamp(now * SECOND));
            Health::new(reasons, Margin::default()).status
        };
        assert_eq!(colour(100), Colour::Green);
        assert_eq!(colour(159), Colour::Green);
        assert_eq!(colour(160), Colour::Yellow);
    }

    #[test]
    fn a_mute_is_of_its_code_and_never_of_what_stops_clients() {
        let mutes = [order("NO_OPEN_GROUP", 60).expect("a mute")];
        let now = Timestamp(100 * SECOND);
        let mut reasons = vec![
            Reason::warning(Code::NoOpenGroup, String::new()),
            Reason::warning(Code::DiskDown, String::new()),
            Reason::blocking(Code::NoOpenGroup, String::new()),
            // As a process tells it that isn't a gateway.
            Reason::blocking(Code::NoOpenGroup, String::new()).as_warning(),
        ];
        apply(&mut reasons, &mutes, now);
        let muted: Vec<_> = reasons.iter().map(|reason| reason.muted_until.as_deref()).collect();
        assert_eq!(muted, [Some("1970-01-01T00:02:40.000Z"), None, None, None]);
        let health = Health::new(reasons, Margin::default());
        assert!(!health.ready && health.status == Colour::Red);
    }

    #[test]
    fn what_is_no_code_or_too_long_is_refused() {
        let refused = |code, seconds| order(code, seconds).expect_err("refused").to_string();
        assert!(refused("DISK", 1).starts_with("there is no health code DISK;"));
        assert_eq!(refused("DISK_DOWN", 90 * 86_400 + 1), "a code is muted for at most 90 days");
        assert_eq!(order("DISK_DOWN", 0).expect("ended").until, Timestamp(0));
    }
}
