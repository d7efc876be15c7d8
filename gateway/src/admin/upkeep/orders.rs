//! The documents of orders to disks, nodes and moves, and of their answers.
//!
//! What always holds: an unknown field is refused, so that nothing is left undone in silence.

use model::cluster_map::UpkeepWish;
use serde::{Deserialize, Deserializer, Serialize};

use crate::admin::orders::OrderError;
use crate::admin::upkeep::plan::ChangePlan;

/// To `POST /disks/ID/drain`, `undrain`, `out` and `in`, and `/nodes/ID/drain` and `undrain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeOrder {
    /// Change nothing, and tell what would come of it.
    #[serde(default)]
    pub plan: bool,
    /// Give a disk up though some data can't be read without it.
    #[serde(default)]
    pub force: bool,
}

/// To `POST /disks/ID/weigh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeighOrder {
    /// Its share of the data, like the size in GiB; `null` goes back to the size. It must be named.
    #[serde(deserialize_with = "Option::deserialize")]
    pub weight: Option<u32>,
    /// Change nothing, and tell what would come of it.
    #[serde(default)]
    pub plan: bool,
}

/// To `POST /nodes/ID/move`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The rack that it is in.
    pub rack: String,
    /// The zone; the node's own where none is said.
    #[serde(default)]
    pub zone: Option<String>,
    /// Change nothing, and tell what would come of it.
    #[serde(default)]
    pub plan: bool,
}

/// What came of an order to change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Whether something is other than before.
    pub changed: bool,
    /// What was ordered, in a sentence.
    pub sentence: String,
    /// What comes of it.
    pub plan: ChangePlan,
}

/// To `POST /moves/cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// The placement group.
    pub pg: u32,
    /// The slot that moves.
    pub slot: u8,
}

/// To `POST /upkeep`: what isn't named stays, and `null` goes back to the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpkeepOrder {
    /// Whether moves pause, but for those of lost slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_paused: Option<bool>,
    /// Bytes a second that moves and repair may take of a gateway.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<Option<u64>>,
    /// Seconds until a silent disk is reported.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub suspect_after_seconds: Option<Option<u32>>,
    /// Seconds until a silent disk gets no new shards.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub down_after_seconds: Option<Option<u32>>,
    /// Seconds until a disk that is down is given up and rebuilt elsewhere.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub out_after_seconds: Option<Option<u32>>,
    /// Percent of a disk's file system that are taken when it is reported as nearly full.
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub nearfull_percent: Option<Option<u8>>,
}

/// A field that was named, even if with `null`.
#[expect(clippy::option_option, reason = "not named, set to the default, and set are three cases")]
fn named<'de, T, D>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(from).map(Some)
}

/// A span of time that an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// What holds.
    pub seconds: u64,
    /// Whether nobody set it.
    pub is_default: bool,
}

/// To `GET` and `POST /upkeep`: how the cluster keeps itself whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpkeepStatus {
    /// Whether moves pause, but for those of lost slots.
    pub is_paused: bool,
    /// Bytes a second that moves and repair may take of a gateway; `null` for the gateway's own
    /// setting.
    pub bytes_per_second: Option<u64>,
    /// Until a silent disk is reported.
    pub suspect_after: Span,
    /// Until a silent disk gets no new shards.
    pub down_after: Span,
    /// Until a disk that is down is given up and rebuilt elsewhere.
    pub out_after: Span,
    /// Percent of a disk's file system that are taken when it is reported as nearly full.
    pub nearfull_percent: u64,
}

impl UpkeepStatus {
    /// What the cluster map says.
    pub fn new(wish: &UpkeepWish) -> Self {
        let span = |set: Option<u32>, seconds: std::time::Duration| Span {
            seconds: seconds.as_secs(),
            is_default: set.is_none(),
        };
        Self {
            is_paused: wish.is_paused,
            bytes_per_second: wish.bytes_per_second,
            suspect_after: span(wish.suspect_after_seconds, wish.suspect_after()),
            down_after: span(wish.down_after_seconds, wish.down_after()),
            out_after: span(wish.out_after_seconds, wish.out_after()),
            nearfull_percent: wish.nearfull_percent(),
        }
    }
}

/// The least that moves and repair can go on with.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// Below it every disk in use would be reported, and above it most are full by then.
const NEARFULL_PERCENT: std::ops::RangeInclusive<u64> = 10..=98;

/// The longest span that makes sense: a month.
const SECONDS_MAX: u64 = 31 * 24 * 3600;

impl UpkeepOrder {
    /// The wish with what is named changed.
    pub fn applied(&self, known: &UpkeepWish) -> Result<UpkeepWish, OrderError> {
        let wish = UpkeepWish {
            is_paused: self.is_paused.unwrap_or(known.is_paused),
            bytes_per_second: self.bytes_per_second.unwrap_or(known.bytes_per_second),
            suspect_after_seconds: self
                .suspect_after_seconds
                .unwrap_or(known.suspect_after_seconds),
            down_after_seconds: self.down_after_seconds.unwrap_or(known.down_after_seconds),
            out_after_seconds: self.out_after_seconds.unwrap_or(known.out_after_seconds),
            nearfull_percent: self.nearfull_percent.unwrap_or(known.nearfull_percent),
        };
        let invalid = |text: String| Err(OrderError::Invalid(text));
        if wish.bytes_per_second.is_some_and(|rate| rate < BYTES_PER_SECOND_MIN) {
            return invalid(format!(
                "The rate must be at least {BYTES_PER_SECOND_MIN} bytes a second; to stop moves, pause them."
            ));
        }
        if !NEARFULL_PERCENT.contains(&wish.nearfull_percent()) {
            return invalid(format!(
                "A disk is reported as nearly full at {} to {} percent.",
                NEARFULL_PERCENT.start(),
                NEARFULL_PERCENT.end()
            ));
        }
        let spans = [wish.suspect_after(), wish.down_after(), wish.out_after()];
        let [suspect, down, out] = spans.map(|span| span.as_secs());
        if suspect == 0 || suspect > down || down > out || out > SECONDS_MAX {
            return invalid(format!(
                "A disk is suspect after {suspect} s, down after {down} s and out after {out} s: these must be at least 1 s, at most {SECONDS_MAX} s, and each as long as the one before."
            ));
        }
        Ok(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let known = UpkeepWish {
            is_paused: true,
            bytes_per_second: Some(1 << 20),
            out_after_seconds: Some(900),
            ..UpkeepWish::default()
        };
        let check = |order: &str, expected: Result<UpkeepWish, &str>| {
            let order: UpkeepOrder = serde_json::from_str(order).expect("an order");
            let found = order.applied(&known).map_err(|error| error.to_string());
            match expected {
                Ok(wish) => assert_eq!(found, Ok(wish)),
                Err(part) => assert!(found.expect_err("refused").contains(part)),
            }
        };
        check("{}", Ok(known));
        check(r#"{"is_paused":false}"#, Ok(UpkeepWish { is_paused: false, ..known }));
        check(
            r#"{"bytes_per_second":null,"down_after_seconds":20}"#,
            Ok(UpkeepWish { bytes_per_second: None, down_after_seconds: Some(20), ..known }),
        );
        check(r#"{"nearfull_percent":70}"#, Ok(UpkeepWish { nearfull_percent: Some(70), ..known }));
        check(r#"{"nearfull_percent":99}"#, Err("at 10 to 98 percent"));
        check(r#"{"bytes_per_second":0}"#, Err("to stop moves, pause them"));
        check(r#"{"suspect_after_seconds":0}"#, Err("suspect after 0 s"));
        check(r#"{"down_after_seconds":4}"#, Err("suspect after 5 s, down after 4 s"));
        check(r#"{"out_after_seconds":9}"#, Err("out after 9 s"));
        check(r#"{"out_after_seconds":4000000000}"#, Err("at most 2678400 s"));
        let unknown = serde_json::from_str::<UpkeepOrder>(r#"{"paused":true}"#);
        assert!(unknown.is_err(), "a misspelt field is told");
    }

    #[test]
    fn orders_are_written_as_they_are_read() {
        let order = UpkeepOrder { out_after_seconds: Some(None), ..UpkeepOrder::default() };
        let text = serde_json::to_string(&order).expect("json");
        assert_eq!(text, r#"{"out_after_seconds":null}"#);
        assert_eq!(serde_json::from_str::<UpkeepOrder>(&text).expect("read back"), order);
    }
}
