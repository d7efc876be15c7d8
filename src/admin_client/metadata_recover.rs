//! `drystone admin metadata recover …`: what the metadata doesn't know is found again by what lies on
//! the disks, by a running gateway.
//!
//! On a terminal a bar shows how far it is; otherwise lines do, on standard error. The report goes to
//! standard output. With `--json` each change is one document a line, the last of them the report.
//! What always holds: nothing is begun without `--from-shards`; it ends with 0 only when everything
//! that was found is recovered.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use gateway::admin::job::JobState;
use gateway::admin::recovery::{RecoverOrder, RecoverReport};
use gateway::admin::status::ClusterStatus;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::metadata::read;
use super::scrub::parse_bytes;
use super::{http, metadata_release};

const PATH: &str = "/metadata/recovery";

/// The status when it came to its end and not everything is recovered.
const NOT_ALL: u8 = 2;

/// How often it is asked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);

const EXPLANATION: &str = "\
A recovery reads what the disks hold and the metadata doesn't know: what was written after a backup
that was put back or, after `begin-recovery`, everything. It adopts the placement groups, then every
object that is whole, with its headers, its entity tag and its checksum. It deletes nothing, and can be
begun again. What comes back too: objects that were deleted or overwritten lately. All disks must
answer: say how many there were with --disks, and name those that are lost for good with --lost-disk before it begins, since what only they know
is placed anew for ever.

Nothing was begun. Give --from-shards to begin.
";

/// Flags of `recover`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct RecoverArguments {
    /// Begin, from what lies on the disks; without it, nothing is done but explained.
    #[arg(long, conflicts_with_all = ["status", "stop"])]
    from_shards: bool,

    /// A disk that is lost for good, by its number; may be given several times. Every other disk
    /// must answer.
    #[arg(long, value_name = "ID")]
    lost_disk: Vec<u32>,

    /// The highest disk number that the cluster had, so that none is missed that isn't back yet.
    /// Needed when there was no backup.
    #[arg(long, value_name = "COUNT")]
    disks: Option<u32>,

    /// Read at most so many bytes of objects per second; K, M and G are binary [default: as fast as
    /// the disks go].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    rate: Option<u64>,

    /// Whose the buckets are to be that have to be made.
    #[arg(long, value_name = "NAME", default_value = "drystone")]
    bucket_owner: String,

    /// Only show how far a recovery is, or what came of it.
    #[arg(long, conflicts_with = "stop")]
    status: bool,

    /// Stop the one that runs.
    #[arg(long)]
    stop: bool,

    /// Print JSON, one document a line.
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub(super) async fn run(endpoint: &str, arguments: &RecoverArguments) -> Result<ExitCode> {
    let first = if arguments.from_shards {
        let order = RecoverOrder {
            lost_disks: arguments.lost_disk.clone(),
            disks: arguments.disks,
            bytes_per_second: arguments.rate.unwrap_or(0),
            bucket_owner: arguments.bucket_owner.clone(),
        };
        read(&http::post(endpoint, PATH, serde_json::to_vec(&order)?).await?)?
    } else if arguments.stop {
        read(&http::post(endpoint, &format!("{PATH}/stop"), b"{}".to_vec()).await?)?
    } else if arguments.status {
        read(&http::get(endpoint, PATH).await?)?
    } else {
        return explain(endpoint).await;
    };
    let report =
        if arguments.status { first } else { follow(endpoint, first, arguments.json).await? };
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", render(&report));
    }
    finish(&report, arguments)
}

/// Says what would be done, and what is held.
async fn explain(endpoint: &str) -> Result<ExitCode> {
    let status: ClusterStatus = read(&http::get(endpoint, "/status").await?)?;
    println!("{}", metadata_release::told(&status));
    print!("\n{EXPLANATION}");
    Ok(ExitCode::FAILURE)
}

/// Waits for its end.
async fn follow(endpoint: &str, mut report: RecoverReport, json: bool) -> Result<RecoverReport> {
    let mut display = Display::new(json);
    while report.state == JobState::Running {
        display.show(&report)?;
        tokio::time::sleep(INTERVAL).await;
        let now: RecoverReport = read(&http::get(endpoint, PATH).await?)?;
        ensure!(now.started == report.started, "another recovery was begun since");
        report = now;
    }
    Ok(report)
}

fn finish(report: &RecoverReport, arguments: &RecoverArguments) -> Result<ExitCode> {
    match report.state {
        JobState::Done if report.is_whole() => Ok(ExitCode::SUCCESS),
        JobState::Done => Ok(ExitCode::from(NOT_ALL)),
        JobState::Running => Ok(ExitCode::SUCCESS),
        JobState::Stopped if arguments.stop => Ok(ExitCode::SUCCESS),
        JobState::Stopped => bail!("the recovery was stopped before its end"),
        JobState::Failed => {
            bail!(
                "the recovery failed: {}",
                report.error.as_deref().unwrap_or("for an unknown reason")
            )
        }
    }
}

/// How one under way is shown.
enum Display {
    /// A bar on the terminal.
    Bar(ProgressBar),
    /// A line for each phase, and for each tenth of the bodies.
    Lines { phase: String, tenths: u64 },
    /// A document for each change.
    Json { last: Option<Box<RecoverReport>> },
}

impl Display {
    fn new(json: bool) -> Self {
        if json {
            return Self::Json { last: None };
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { phase: String::new(), tenths: 0 };
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {wide_bar}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::Bar(ProgressBar::new(0).with_style(style))
    }

    fn show(&mut self, report: &RecoverReport) -> Result<()> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(report.bodies);
                bar.set_position(report.handled());
                bar.set_message(progress(report));
                bar.tick();
            }
            Self::Lines { phase, tenths } => {
                let now = report.handled().saturating_mul(10) / report.bodies.max(1);
                if *phase != report.phase || now > *tenths {
                    (*phase, *tenths) = (report.phase.clone(), now);
                    eprintln!("{}", progress(report));
                }
            }
            Self::Json { last } => {
                if last.as_deref() != Some(report) {
                    println!("{}", serde_json::to_string(report)?);
                    *last = Some(Box::new(report.clone()));
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

/// One line of how far it is.
fn progress(report: &RecoverReport) -> String {
    let RecoverReport { phase, groups, extents, bodies, adopted, adopted_bytes, .. } = report;
    if *bodies > 0 {
        return format!(
            "{phase}: {} of {} bodies, {} recovered",
            HumanCount(report.handled()),
            HumanCount(*bodies),
            HumanBytes(*adopted_bytes)
        );
    }
    match (*extents, *groups, *adopted) {
        (0, 0, 0) => phase.clone(),
        _ => format!(
            "{phase}: {} placement groups, {} extents",
            HumanCount(*groups),
            HumanCount(*extents)
        ),
    }
}

fn render(report: &RecoverReport) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = match report.state {
        JobState::Running => writeln!(text, "The recovery runs: {}.", report.phase),
        JobState::Stopped => writeln!(text, "The recovery was stopped."),
        JobState::Failed => writeln!(text, "The recovery failed."),
        JobState::Done if report.is_whole() => {
            writeln!(text, "The recovery is done: all that was found is recovered.")
        }
        JobState::Done => writeln!(text, "The recovery is done; not all is recovered."),
    };
    let rows = [
        ("placement groups found again", report.groups),
        ("slots that moved since, and are found", report.settled_slots),
        ("shards given to their disks", report.brought_home),
        ("shards in places that can't be read", report.misplaced_shards),
        ("extents listed", report.extents),
        ("  known to the metadata already", report.known_extents),
        ("  without a readable owner", report.ownerless_extents),
        ("objects recovered", report.adopted),
        ("  bytes", report.adopted_bytes),
        ("  without their headers", report.without_headers),
        ("parts of uploads recovered", report.adopted_parts),
        ("older bodies left out", report.superseded),
        ("bodies that are not whole", report.incomplete),
        ("bodies that can't be read", report.unreadable),
        ("uploads that were not completed", report.unfinished_uploads),
        ("refused by the metadata", report.refused),
    ];
    for (name, count) in rows {
        let _ = writeln!(text, "{name:<38}{count:>16}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "{problem}");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        recover: RecoverArguments,
    }

    fn parse(words: &[&str]) -> Option<RecoverArguments> {
        let line = Line::try_parse_from(["recover"].iter().chain(words)).ok()?;
        Some(line.recover)
    }

    fn report(state: &str, problems: &[&str]) -> RecoverReport {
        let counts = [
            "groups",
            "settled_slots",
            "brought_home",
            "misplaced_shards",
            "extents",
            "known_extents",
            "ownerless_extents",
            "bodies",
            "adopted",
            "adopted_bytes",
            "adopted_parts",
            "superseded",
            "incomplete",
            "unreadable",
            "without_headers",
            "unfinished_uploads",
            "refused",
        ];
        let mut document = serde_json::json!({
            "state": state, "phase": "adopting objects", "error": null,
            "started": "2026-11-21T10:00:00.000Z", "ended": null, "problems": problems,
        });
        for (count, name) in (0u64..).zip(counts) {
            let zeroed = matches!(name, "ownerless_extents");
            document[name] = serde_json::json!(if zeroed { 0 } else { count });
        }
        serde_json::from_value(document).expect("a report")
    }

    #[test]
    fn nothing_begins_without_its_flag() {
        assert!(!parse(&[]).expect("explained").from_shards);
        let words = ["--from-shards", "--lost-disk", "3", "--lost-disk", "5", "--rate", "2M"];
        let given = parse(&words).expect("valid");
        assert!(given.from_shards && !given.status && !given.stop);
        assert_eq!((&*given.lost_disk, given.rate), (&[3, 5][..], Some(2 << 20)));
        assert_eq!(given.bucket_owner, "drystone");
        for wrong in [
            &["--from-shards", "--stop"][..],
            &["--from-shards", "--status"],
            &["--status", "--stop"],
            &["--rate", "0"],
            &["--lost-disk", "x"],
            &["--release"],
        ] {
            assert!(parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn the_status_tells_whole_from_not_whole() {
        let begin = parse(&["--from-shards"]).expect("valid");
        let code = |report: &RecoverReport| {
            finish(report, &begin)
                .map(|code| format!("{code:?}"))
                .map_err(|error| error.to_string())
        };
        let is = |code: ExitCode| Ok(format!("{code:?}"));
        assert_eq!(code(&report("done", &[])), is(ExitCode::SUCCESS));
        assert_eq!(code(&report("done", &["b/k can't be read"])), is(ExitCode::from(2)));
        let mut ownerless = report("done", &[]);
        ownerless.ownerless_extents = 1;
        assert_eq!(code(&ownerless), is(ExitCode::from(2)));
        let stopped = report("stopped", &[]);
        assert_eq!(code(&stopped), Err("the recovery was stopped before its end".to_owned()));
        let stop = parse(&["--stop"]).expect("valid");
        assert!(finish(&stopped, &stop).is_ok());
        let mut failed = report("failed", &[]);
        failed.error = Some("disk 3 does not answer".to_owned());
        let error = code(&failed).expect_err("failed");
        assert_eq!(error, "the recovery failed: disk 3 does not answer");
    }

    #[test]
    fn the_report_is_a_table_and_its_problems() {
        let text =
            render(&report("done", &["photos/a is not whole: too many of its shards are lost"]));
        assert!(text.starts_with("The recovery is done; not all is recovered.\n"), "{text}");
        for row in [
            "shards given to their disks                          2\n",
            "objects recovered                                    8\n",
            "  known to the metadata already                      5\n",
            "uploads that were not completed                     15\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
        assert!(text.ends_with("photos/a is not whole: too many of its shards are lost\n"));
        let mut running = report("running", &[]);
        assert_eq!(progress(&running), "adopting objects: 7 of 7 bodies, 9 B recovered");
        (running.bodies, running.phase) = (0, "listing the disks".to_owned());
        assert_eq!(progress(&running), "listing the disks: 0 placement groups, 4 extents");
    }
}
