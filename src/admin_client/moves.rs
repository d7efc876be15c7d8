//! `drystone admin moves …`: slots of placement groups on their way to other disks.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::upkeep::orders::{CancelOrder, UpkeepOrder, UpkeepStatus};
use gateway::admin::upkeep::progress::MovesStatus;
use gateway::admin::upkeep::render;

use super::http;
use super::metadata::{read, show};
use super::upkeep::{Rate, parse_rate};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);

/// Clears a terminal and goes to its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Flags of `drystone admin moves`.
#[derive(Args, Debug)]
pub(super) struct MovesArguments {
    #[command(subcommand)]
    command: MovesCommand,

    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum MovesCommand {
    /// Show what moves, what is to move, how fast, and why nothing does.
    Status {
        /// Look again every two seconds, until nothing is left to move.
        #[arg(long)]
        watch: bool,
    },
    /// Begin no more moves, and give up those under way, but for the rebuilding of what is lost.
    Pause,
    /// Go on.
    Resume,
    /// Limit what moving and rebuilding may take of each gateway.
    Rate {
        /// Bytes a second (K, M and G are binary), or `default` for the gateway's own setting.
        #[arg(value_name = "BYTES|default", value_parser = parse_rate)]
        rate: Rate,
    },
    /// Give one move up; its slot stays where it is, until it is planned again.
    Cancel {
        /// The placement group.
        pg: u32,
        /// The slot.
        slot: u8,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &MovesArguments) -> Result<ExitCode> {
    let json = arguments.json;
    match arguments.command {
        MovesCommand::Status { watch: false } => {
            show(json, &look(endpoint).await?, render::moves)?;
        }
        MovesCommand::Status { watch: true } => watch(endpoint, json).await?,
        MovesCommand::Pause => pause(endpoint, "pause", json).await?,
        MovesCommand::Resume => pause(endpoint, "resume", json).await?,
        MovesCommand::Rate { rate } => {
            let order = UpkeepOrder { bytes_per_second: Some(rate.0), ..UpkeepOrder::default() };
            super::upkeep::set(endpoint, &order, json).await?;
        }
        MovesCommand::Cancel { pg, slot } => {
            let order = serde_json::to_vec(&CancelOrder { pg, slot })?;
            let done: CancelOrder = read(&http::post(endpoint, "/moves/cancel", order).await?)?;
            let text = format!(
                "The move of slot {slot} of group {pg} was given up. If it is still wanted it is planned again; drystone admin moves pause keeps it from that.\n"
            );
            show(json, &done, |_| text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(endpoint: &str) -> Result<MovesStatus> {
    read(&http::get_patiently(endpoint, "/moves").await?)
}

async fn pause(endpoint: &str, verb: &str, json: bool) -> Result<()> {
    let answer = http::post(endpoint, &format!("/moves/{verb}"), Vec::new()).await?;
    let status: UpkeepStatus = read(&answer)?;
    show(json, &status, |status| {
        if status.is_paused {
            "Moves are paused, but for those of lost slots; those under way are given up.\n"
                .to_owned()
        } else {
            "Moves go on.\n".to_owned()
        }
    })
}

/// Looks again and again until nothing is left to move.
async fn watch(endpoint: &str, json: bool) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal() && !json;
    let mut last = None;
    loop {
        let status = look(endpoint).await?;
        let is_done = status.under_way.is_empty() && status.wanted.all.slots == 0;
        if last.as_ref() != Some(&status) {
            if is_terminal {
                print!("{CLEAR}");
            }
            show(json, &status, render::moves)?;
            if !is_terminal && !json {
                println!();
            }
            std::io::stdout().flush()?;
        }
        if is_done {
            return Ok(());
        }
        last = Some(status);
        tokio::time::sleep(WATCH).await;
    }
}
