//! `drystone admin recode …`: what a bucket holds gets the coding of a storage class.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use gateway::admin::classes::{RecodeRequest, RecodeStatus, Recoded};

use super::http;
use super::metadata::{read, show};

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(1);

/// Columns of the progress bar.
const BAR: usize = 30;

/// Flags of `drystone admin recode`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct RecodeArguments {
    #[command(subcommand)]
    command: Option<RecodeCommand>,

    /// The bucket.
    #[arg(required = true)]
    bucket: Option<String>,

    /// The class that the bucket uses from now on [default: the one that it uses].
    #[arg(long)]
    class: Option<String>,

    /// Only tell what there is to recode.
    #[arg(long, conflicts_with_all = ["watch", "cancel"])]
    plan: bool,

    /// Show how far it is, until it is done.
    #[arg(long, conflicts_with = "cancel")]
    watch: bool,

    /// Recode the bucket no further; what was recoded stays so.
    #[arg(long, conflicts_with = "class")]
    cancel: bool,

    /// Print JSON instead of sentences.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum RecodeCommand {
    /// Show the buckets that are being recoded, how far they are, and how long it goes on.
    Status {
        /// Look again every second, until nothing is left to recode.
        #[arg(long)]
        watch: bool,
        /// Print JSON instead of sentences.
        #[arg(long)]
        json: bool,
    },
}

/// Carries out a command.
pub(super) async fn run(endpoint: &str, arguments: &RecodeArguments) -> Result<ExitCode> {
    if let Some(RecodeCommand::Status { watch: is_watching, json }) = arguments.command {
        if is_watching {
            watch(endpoint, None, json).await?;
        } else {
            show(json, &look(endpoint).await?, |found| text(found))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(bucket) = &arguments.bucket else { bail!("name a bucket") };
    let request = RecodeRequest {
        class: arguments.class.clone(),
        plan: arguments.plan,
        cancel: arguments.cancel,
    };
    let order = serde_json::to_vec(&request)?;
    let answer = http::post_patiently(endpoint, &format!("/recode/{bucket}"), order).await?;
    let recoded: Recoded = read(&answer)?;
    show(arguments.json, &recoded, |recoded| format!("{}\n", recoded.sentence))?;
    if arguments.watch {
        watch(endpoint, Some(bucket), arguments.json).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn look(endpoint: &str) -> Result<Vec<RecodeStatus>> {
    read(&http::get(endpoint, "/recode").await?)
}

/// Looks again and again until nothing of the bucket, or of any, is left to recode.
async fn watch(endpoint: &str, bucket: Option<&str>, json: bool) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    loop {
        let mut found = look(endpoint).await?;
        found.retain(|status| bucket.is_none_or(|bucket| status.bucket == bucket));
        if json {
            show(json, &found, |_| String::new())?;
        } else {
            if is_terminal {
                print!("\x1b[2J\x1b[H");
            }
            print!("{}", text(&found));
            std::io::stdout().flush()?;
        }
        if found.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn text(found: &[RecodeStatus]) -> String {
    if found.is_empty() {
        return "Nothing is left to recode.\n".to_owned();
    }
    found.iter().map(line).collect()
}

fn line(status: &RecodeStatus) -> String {
    let RecodeStatus { bucket, class, coding, objects_done, bytes_done, .. } = status;
    // Writing to a string can't fail.
    let mut line = format!("{bucket} to {class} ({coding}): ");
    match (status.objects_total, status.bytes_total) {
        (Some(objects), Some(bytes)) => {
            let filled = match bytes {
                0 => BAR,
                bytes => {
                    let share = u128::from(*bytes_done) * BAR as u128 / u128::from(bytes);
                    usize::try_from(share).unwrap_or(BAR).min(BAR)
                }
            };
            let _ = write!(
                line,
                "[{}{}] {objects_done} of {objects} objects, {bytes_done} of {bytes} bytes",
                "#".repeat(filled),
                ".".repeat(BAR - filled)
            );
        }
        _ => line += "what there is to do is being counted",
    }
    if let Some(seconds) = status.seconds_left {
        let _ = write!(line, ", {seconds} s left");
    }
    if status.failed > 0 {
        let text = "objects can't be recoded now and are tried again";
        let _ = write!(line, ", {} {text}", status.failed);
    }
    if let Some(paused) = &status.paused {
        let _ = write!(line, ". {paused}");
    }
    line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is() {
        let status = RecodeStatus {
            bucket: "b".to_owned(),
            class: "MIRROR".to_owned(),
            coding: "1+2".to_owned(),
            objects_done: 1,
            objects_total: Some(2),
            bytes_done: 50,
            bytes_total: Some(100),
            failed: 0,
            seconds_left: Some(7),
            paused: None,
        };
        let half = format!("{}{}", "#".repeat(15), ".".repeat(15));
        assert_eq!(
            line(&status),
            format!("b to MIRROR (1+2): [{half}] 1 of 2 objects, 50 of 100 bytes, 7 s left\n")
        );
        let counting = RecodeStatus { bytes_total: None, seconds_left: None, ..status };
        assert!(line(&counting).ends_with("is being counted\n"));
        assert_eq!(text(&[]), "Nothing is left to recode.\n");
    }
}
