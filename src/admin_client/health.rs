//! `drystone admin health …` and `drystone admin explain`: how the cluster is, and what its words mean.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use gateway::admin::health::mutes::{MuteOrder, Muted};
use gateway::admin::health::{Code, Colour, Health, explain};
use gateway::admin::render_health;

use super::http;
use super::metadata::{read, show};

/// The status when the cluster can't be asked, which says nothing of how it is.
const UNKNOWN: u8 = 3;

/// Flags of `drystone admin health`.
#[derive(Args, Debug)]
pub(super) struct HealthArguments {
    #[command(subcommand)]
    command: Option<HealthCommand>,

    /// Print JSON instead of sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum HealthCommand {
    /// Don't hear of a code for a while: it neither colours the health nor sets off its metric. What
    /// stops clients is heard all the same.
    Mute {
        /// The code, such as DISK_DOWN.
        #[arg(value_parser = parse_code)]
        code: Code,

        /// For how long, such as 30m, 2h or 7d; at most 90d.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
        time: u64,
    },
    /// Hear of a code again.
    Unmute {
        /// The code.
        #[arg(value_parser = parse_code)]
        code: Code,
    },
}

/// Flags of `drystone admin explain`.
#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// The code; without it, all of them are listed.
    #[arg(value_parser = parse_code)]
    code: Option<Code>,
}

/// Prints what a code means; asks no server.
pub(super) fn print_explanation(arguments: &ExplainArguments) -> ExitCode {
    match arguments.code {
        Some(code) => print!("{}", explain::explain(code)),
        None => print!("{}", explain::list()),
    }
    ExitCode::SUCCESS
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &HealthArguments) -> Result<ExitCode> {
    let (code, seconds) = match &arguments.command {
        None => return Ok(look(endpoint, arguments.json).await),
        Some(HealthCommand::Mute { code, time }) => (*code, *time),
        Some(HealthCommand::Unmute { code }) => (*code, 0),
    };
    let order = serde_json::to_vec(&MuteOrder { code: code.to_string(), seconds })?;
    let muted: Muted = read(&http::post(endpoint, "/health/mute", order).await?)?;
    show(arguments.json, &muted, |muted| match &muted.until {
        Some(until) => format!("{code} is muted until {until}.\n"),
        None => format!("{code} is heard.\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the health; its colour is the status.
async fn look(endpoint: &str, json: bool) -> ExitCode {
    let looked = async {
        let health: Health = read(&http::get(endpoint, "/health").await?)?;
        show(json, &health, render_health::health)?;
        anyhow::Ok(health.status)
    };
    match looked.await {
        Ok(Colour::Green) => ExitCode::SUCCESS,
        Ok(Colour::Yellow) => ExitCode::from(1),
        Ok(Colour::Red) => ExitCode::from(2),
        Err(error) => {
            eprintln!("drystone: {error:#}");
            ExitCode::from(UNKNOWN)
        }
    }
}

fn parse_code(text: &str) -> Result<Code> {
    match Code::parse(text) {
        Some(code) => Ok(code),
        None => bail!("there is no such code; `drystone admin explain` lists them"),
    }
}

/// A time with its unit, in seconds.
fn parse_seconds(text: &str) -> Result<u64> {
    const WHAT: &str = "a time is a whole number with s, m, h or d, such as 2h";
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!(WHAT),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(seconds @ 1..) => Ok(seconds),
        _ => bail!(WHAT),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::CommandLine;

    #[test]
    fn times_have_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_seconds(text).ok(), expected, "{text}");
        };
        check("90s", Some(90));
        check("2h", Some(7200));
        check("7d", Some(604_800));
        for wrong in ["", "2", "h", "0h", "-1h", "1.5h", "1w", "99999999999999999999d"] {
            check(wrong, None);
        }
    }

    /// What operators are told to type is there.
    #[test]
    fn every_command_in_an_explanation_is_one() {
        let mut seen = 0;
        for code in Code::ALL {
            let text = code.explanation();
            for part in [text.cause, text.effect, text.remedy, text.margin] {
                let commands = part.split('`').skip(1).step_by(2);
                for command in commands.filter(|command| command.starts_with("drystone ")) {
                    let words = command.split(' ').map(|word| match word {
                        "ID" | "N" => "1",
                        "SIZE" => "1TB",
                        "K+M" => "4+2",
                        "BUCKET/KEY" => "bucket/key",
                        "CODE" => "DISK_DOWN",
                        word => word,
                    });
                    let parsed = CommandLine::command().try_get_matches_from(words);
                    let is_help =
                        |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayHelp;
                    if let Err(error) = parsed {
                        // What needs more than is told is named without its flags.
                        let is_named = matches!(command, "drystone cluster init");
                        assert!(is_help(&error) || is_named, "{code}: {command}: {error}");
                    }
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
