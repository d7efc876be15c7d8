//! `drystone admin scrub …`: begins a scrub and follows it to its end.
//!
//! On a terminal a progress bar shows how far it is; otherwise a line tells each tenth, on standard
//! error. The result goes to standard output. With `--json` each change is one document a line, the
//! last of them the result.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use gateway::admin::job::{Job, JobState, Scope, ScrubOrder};
use indicatif::{ProgressBar, ProgressStyle};

use super::http;

/// How often the server is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// The status when the scrub was carried out and not every shard is whole.
const NOT_CLEAN: u8 = 2;

/// Flags of `drystone admin scrub`.
#[derive(Args, Debug)]
pub(super) struct ScrubArguments {
    #[command(subcommand)]
    scope: ScopeArguments,

    /// Read at most so many bytes per second; K, M and G are binary [default: as fast as the disks
    /// go].
    #[arg(long, global = true, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,

    /// Print the job's number and don't wait for its end; `drystone admin scrub job ID` does.
    #[arg(long, global = true)]
    no_wait: bool,

    /// Print JSON, one document a line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ScopeArguments {
    /// All segments of a disk, by its number in `drystone admin status`.
    Disk {
        /// The disk.
        id: u32,
    },
    /// The extents of a placement group.
    Pg {
        /// The placement group.
        id: u32,
    },
    /// The objects of a bucket.
    Bucket {
        /// The bucket.
        name: String,
    },
    /// One object.
    Object {
        /// The object, as BUCKET/KEY.
        #[arg(value_name = "BUCKET/KEY", value_parser = parse_object)]
        name: ObjectName,
    },
    /// Everything.
    All,
    /// Follow a scrub that runs already.
    Job {
        /// Its number.
        id: u64,
    },
    /// Stop a scrub that runs.
    Stop {
        /// Its number.
        id: u64,
    },
}

/// An object as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectName {
    pub(super) bucket: String,
    pub(super) key: String,
}

/// Reads an object's name.
pub(super) fn parse_object(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok(ObjectName { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        _ => Err("an object is written BUCKET/KEY".to_owned()),
    }
}

/// Reads a number of bytes.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| "a number, such as 50M".to_owned())?;
    number
        .checked_shl(shift)
        .filter(|bytes| *bytes > 0 && *bytes >> shift == number)
        .ok_or_else(|| "a number above 0, such as 50M".to_owned())
}

/// Begins or follows a scrub.
pub(super) async fn run(endpoint: &str, arguments: &ScrubArguments) -> Result<ExitCode> {
    let scope = match &arguments.scope {
        ScopeArguments::Disk { id } => Scope::Disk { disk: *id },
        ScopeArguments::Pg { id } => Scope::Pg { pg: *id },
        ScopeArguments::Bucket { name } => Scope::Bucket { bucket: name.clone() },
        ScopeArguments::Object { name } => {
            Scope::Object { bucket: name.bucket.clone(), key: name.key.clone() }
        }
        ScopeArguments::All => Scope::All,
        ScopeArguments::Job { id } => {
            let job = read_job(&http::get(endpoint, &format!("/jobs/{id}")).await?)?;
            return finish(follow(endpoint, job, arguments.json).await?, arguments.json);
        }
        ScopeArguments::Stop { id } => {
            http::post(endpoint, &format!("/jobs/{id}/stop"), Vec::new()).await?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let order = ScrubOrder { scope, bytes_per_second: arguments.rate.unwrap_or(0) };
    let answer = http::post(endpoint, "/scrub", serde_json::to_vec(&order)?).await?;
    let job = read_job(&answer)?;
    if arguments.no_wait {
        if arguments.json {
            println!("{}", serde_json::to_string(&job)?);
        } else {
            println!("{}", job.id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    finish(follow(endpoint, job, arguments.json).await?, arguments.json)
}

fn read_job(answer: &[u8]) -> Result<Job> {
    serde_json::from_slice(answer)
        .context("the server's answer is not a job that this program knows")
}

/// Waits for the end of a job.
async fn follow(endpoint: &str, mut job: Job, json: bool) -> Result<Job> {
    let mut display = Display::new(&job, json);
    let path = format!("/jobs/{}", job.id);
    while job.state == JobState::Running {
        display.show(&job)?;
        tokio::time::sleep(POLL).await;
        let now = read_job(&http::get(endpoint, &path).await?)?;
        ensure!(now.started == job.started, "the server was restarted, which ended the scrub");
        job = now;
    }
    Ok(job)
}

/// Prints the result.
fn finish(job: Job, json: bool) -> Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(&job)?);
    } else {
        println!("{}", summary(&job));
    }
    match (job.state, job.error) {
        (JobState::Failed, error) => {
            bail!("the scrub failed: {}", error.as_deref().unwrap_or("for an unknown reason"))
        }
        (JobState::Stopped, _) => bail!("the scrub was stopped before its end"),
        (JobState::Running | JobState::Done, _) => {}
    }
    let is_clean = job.damaged + job.missing + job.unreached == 0;
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(NOT_CLEAN) })
}

fn summary(job: &Job) -> String {
    let Job { scope, sound, damaged, missing, unreached, queued, .. } = job;
    format!(
        "Scrub of {scope}: {sound} shards are sound, {damaged} damaged, {missing} missing, {unreached} not reached; {queued} extents queued for repair."
    )
}

/// How a job under way is shown.
enum Display {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// A line for each tenth.
    Lines { tenths: u64 },
    /// A document for each change.
    Json { last: Option<Job> },
}

impl Display {
    fn new(job: &Job, json: bool) -> Self {
        if json {
            return Self::Json { last: None };
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { tenths: 0 };
        }
        let template = if job.unit == "bytes" {
            "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        } else {
            "{msg} {wide_bar} {human_pos} of {human_len} {prefix}, {eta} left"
        };
        let style = ProgressStyle::with_template(template);
        let bar = ProgressBar::new(job.total)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(job.unit.clone());
        Self::Bar(bar)
    }

    fn show(&mut self, job: &Job) -> Result<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(job.total);
                bar.set_position(job.done);
                bar.set_message(findings(job));
            }
            Self::Lines { tenths } => {
                let now = job.done.saturating_mul(10) / job.total.max(1);
                if now > *tenths {
                    *tenths = now;
                    let Job { done, total, unit, .. } = job;
                    eprintln!("{done} of {total} {unit}, {}", findings(job));
                }
            }
            Self::Json { last } => {
                if last.as_ref() != Some(job) {
                    println!("{}", serde_json::to_string(job)?);
                    *last = Some(job.clone());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn findings(job: &Job) -> String {
    let bad = job.damaged + job.missing;
    match (bad, job.unreached) {
        (0, 0) => "all sound".to_owned(),
        (bad, 0) => format!("{bad} damaged or missing"),
        (bad, unreached) => format!("{bad} damaged or missing, {unreached} not reached"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        scrub: ScrubArguments,
    }

    fn scope(words: &[&str]) -> Option<String> {
        let line = Line::try_parse_from(["scrub"].iter().chain(words)).ok()?;
        Some(format!("{:?} {:?}", line.scrub.scope, line.scrub.rate))
    }

    #[test]
    fn scopes_are_words() {
        assert_eq!(scope(&["disk", "3"]).as_deref(), Some("Disk { id: 3 } None"));
        assert_eq!(scope(&["all", "--rate", "5M"]).as_deref(), Some("All Some(5242880)"));
        let object = scope(&["object", "photos/2026/a b.jpg"]).expect("valid");
        assert!(object.contains("bucket: \"photos\", key: \"2026/a b.jpg\""), "{object}");
        assert_eq!(scope(&["object", "photos"]), None);
        assert_eq!(scope(&["disk", "x"]), None);
        assert_eq!(scope(&[]), None);
    }

    #[test]
    fn rates_have_units() {
        assert_eq!(parse_bytes("7"), Ok(7));
        assert_eq!(parse_bytes("2K"), Ok(2048));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        for wrong in ["", "0", "M", "-1", "5T", "99999999999999999G", "18446744073709551615K"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
