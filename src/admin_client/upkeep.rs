//! `drystone admin upkeep …`: how the cluster keeps itself whole.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use gateway::admin::upkeep::orders::{UpkeepOrder, UpkeepStatus};
use gateway::admin::upkeep::render;

use super::http;
use super::metadata::{read, show};
use super::scrub::parse_bytes;

/// Flags of `drystone admin upkeep`.
#[derive(Args, Debug)]
pub(super) struct UpkeepArguments {
    #[command(subcommand)]
    command: UpkeepCommand,

    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum UpkeepCommand {
    /// Show it.
    Show,
    /// Change what is named; the rest stays.
    Set {
        /// A silent disk is reported after this long: 5s, 2m, or `default`.
        #[arg(long, value_name = "TIME|default", value_parser = parse_span)]
        suspect_after: Option<Span>,
        /// A silent disk gets no new shards after this long.
        #[arg(long, value_name = "TIME|default", value_parser = parse_span)]
        down_after: Option<Span>,
        /// A disk that is down is given up and rebuilt elsewhere after this long.
        #[arg(long, value_name = "TIME|default", value_parser = parse_span)]
        out_after: Option<Span>,
        /// Bytes a second (K, M and G are binary) that moving and rebuilding may take of each gateway.
        #[arg(long, value_name = "BYTES|default", value_parser = parse_rate)]
        rate: Option<Rate>,
        /// A disk is reported as nearly full when so many percent of its file system are taken.
        #[arg(long, value_name = "PERCENT|default", value_parser = parse_percent)]
        nearfull: Option<Percent>,
    },
}

/// Bytes a second; `None` for the gateway's own setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) Option<u64>);

/// Seconds; `None` for the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span(Option<u32>);

/// Percent; `None` for the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Percent(Option<u8>);

fn parse_percent(text: &str) -> Result<Percent, String> {
    if text == "default" {
        return Ok(Percent(None));
    }
    let digits = text.strip_suffix('%').unwrap_or(text);
    let percent: Option<u8> = digits.parse().ok().filter(|percent| *percent <= 100);
    percent.map(|percent| Percent(Some(percent))).ok_or_else(|| "a number such as 85".to_owned())
}

/// Reads a rate.
pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    if text == "default" { Ok(Rate(None)) } else { parse_bytes(text).map(|rate| Rate(Some(rate))) }
}

fn parse_span(text: &str) -> Result<Span, String> {
    if text == "default" {
        return Ok(Span(None));
    }
    let (digits, factor) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let expected = || "a time such as 30s, 10m or 2h, or default".to_owned();
    let number: u32 = digits.parse().map_err(|_| expected())?;
    number.checked_mul(factor).map(|seconds| Span(Some(seconds))).ok_or_else(expected)
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &UpkeepArguments) -> Result<ExitCode> {
    match arguments.command {
        UpkeepCommand::Show => {
            let status: UpkeepStatus = read(&http::get(endpoint, "/upkeep").await?)?;
            show(arguments.json, &status, render::upkeep)?;
        }
        UpkeepCommand::Set { suspect_after, down_after, out_after, rate, nearfull } => {
            let order = UpkeepOrder {
                is_paused: None,
                bytes_per_second: rate.map(|rate| rate.0),
                suspect_after_seconds: suspect_after.map(|span| span.0),
                down_after_seconds: down_after.map(|span| span.0),
                out_after_seconds: out_after.map(|span| span.0),
                nearfull_percent: nearfull.map(|percent| percent.0),
            };
            ensure!(
                order != UpkeepOrder::default(),
                "nothing is named: give --suspect-after, --down-after, --out-after, --rate or --nearfull"
            );
            set(endpoint, &order, arguments.json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Changes what is named, and prints what holds then.
pub(super) async fn set(endpoint: &str, order: &UpkeepOrder, json: bool) -> Result<()> {
    let answer = http::post(endpoint, "/upkeep", serde_json::to_vec(order)?).await?;
    show(json, &read::<UpkeepStatus>(&answer)?, render::upkeep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_span("7"), Ok(Span(Some(7))));
        assert_eq!(parse_span("7s"), Ok(Span(Some(7))));
        assert_eq!(parse_span("10m"), Ok(Span(Some(600))));
        assert_eq!(parse_span("2h"), Ok(Span(Some(7200))));
        assert_eq!(parse_span("default"), Ok(Span(None)));
        for wrong in ["", "s", "-1s", "1.5h", "9999999h", "5d", "5µ"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn percents_are_at_most_a_hundred() {
        assert_eq!(parse_percent("85"), Ok(Percent(Some(85))));
        assert_eq!(parse_percent("70%"), Ok(Percent(Some(70))));
        assert_eq!(parse_percent("default"), Ok(Percent(None)));
        for wrong in ["", "101", "-1", "0.9", "full"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_have_units_too() {
        assert_eq!(parse_rate("5M"), Ok(Rate(Some(5 << 20))));
        assert_eq!(parse_rate("default"), Ok(Rate(None)));
        assert!(parse_rate("fast").is_err());
    }
}
