//! `drystone storage-node inspect DIR`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use storage_node::offline::{
    Depth, IndexReport, SegmentSurvey, ShardsDirectory, Survey, report_index, survey,
};
use wire::clock::SystemClock;

use super::place::{Place, Purpose};
use super::progress::Progress;
use super::{DirectoryArgument, print, records};

/// Flags of `inspect`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line, each for itself")]
pub(super) struct InspectArguments {
    #[command(flatten)]
    at: DirectoryArgument,

    /// Only the segment with this number, in hexadecimal as in its file name.
    #[arg(long, value_name = "NUMBER", value_parser = parse_segment)]
    segment: Option<u64>,

    /// Print every record instead of a summary.
    #[arg(long)]
    records: bool,

    /// With each record, its stored checksums and whether its content verifies.
    #[arg(long, requires = "records")]
    checksums: bool,

    /// Leave the index alone instead of comparing it with the segments.
    #[arg(long, conflicts_with = "records")]
    no_index: bool,

    /// Print JSON: one document, or one line for each record.
    #[arg(long)]
    json: bool,
}

fn parse_segment(text: &str) -> Result<u64, std::num::ParseIntError> {
    let digits = text.strip_prefix("seg-").unwrap_or(text);
    let digits = digits.strip_suffix(".dss").unwrap_or(digits);
    u64::from_str_radix(digits, 16)
}

pub(super) fn run(arguments: &InspectArguments, out: &mut dyn Write) -> Result<ExitCode> {
    let place = Place::find(&arguments.at.directory, Purpose::Read)?;
    let directory = place.open()?;
    if let Some(only) = arguments.segment {
        let is_there = directory.segments().iter().any(|segment| segment.number == only);
        anyhow::ensure!(is_there, "there is no segment {only:x} in {}", place.shards.display());
    }
    let survey = {
        let progress = Progress::of_bytes("Reading headers", directory.bytes());
        survey(&directory, Depth::Headers, &|bytes| progress.advance(bytes))?
    };
    if arguments.records {
        let wanted = records::Wanted {
            segment: arguments.segment,
            checksums: arguments.checksums,
            json: arguments.json,
        };
        records::print(&directory, &survey, &wanted, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let index = (!arguments.no_index)
        .then(|| report_index(&directory, &survey, Arc::new(SystemClock::new())));
    let shown = Shown { directory: &directory, survey: &survey, index: index.as_ref() };
    let chosen =
        |segment: &&SegmentSurvey| arguments.segment.is_none_or(|only| only == segment.file.number);
    let segments: Vec<&SegmentSurvey> = survey.segments.iter().filter(chosen).collect();
    if arguments.json {
        writeln!(out, "{:#}", shown.json(&segments))?;
    } else {
        shown.text(&segments, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Shown<'a> {
    directory: &'a ShardsDirectory,
    survey: &'a Survey,
    index: Option<&'a IndexReport>,
}

impl Shown<'_> {
    fn text(&self, segments: &[&SegmentSurvey], out: &mut dyn Write) -> Result<()> {
        print::identity(out, self.directory)?;
        if let Some(index) = self.index {
            print::index(out, index)?;
        }
        writeln!(
            out,
            "Live: {} shards, {}; garbage {}; {} segments of {}",
            self.survey.live.len(),
            print::bytes(self.survey.live_bytes()),
            print::bytes(self.survey.garbage_bytes()),
            self.directory.segments().len(),
            print::bytes(self.directory.bytes()),
        )?;
        for finding in &self.survey.findings {
            print::finding(out, finding)?;
        }
        writeln!(
            out,
            "\n{:>16} {:>16} {:>12} {:>5} {:>10} {:>6} {:>8} {:>10} {:>7} {:>12}",
            "segment",
            "log position",
            "bytes",
            "run",
            "shards",
            "tombs",
            "remains",
            "live",
            "live %",
            "live bytes"
        )?;
        for segment in segments {
            let dash = || "-".to_owned();
            let run = segment.file.header.map(|head| head.incarnation.to_string());
            writeln!(
                out,
                "{:>16x} {:>16} {:>12} {:>5} {:>10} {:>6} {:>8} {:>10} {:>7} {:>12}",
                segment.file.number,
                segment.start.map_or_else(dash, |start| start.to_string()),
                segment.end,
                run.unwrap_or_else(dash),
                segment.records.shards,
                segment.records.tombstones,
                segment.records.remains,
                segment.live_shards,
                segment.live_ratio().map_or_else(dash, |ratio| format!("{:.1}", ratio * 100.0)),
                segment.live_bytes,
            )?;
        }
        Ok(())
    }

    fn json(&self, segments: &[&SegmentSurvey]) -> Value {
        let segments: Vec<Value> = segments
            .iter()
            .map(|segment| {
                json!({
                    "segment": segment.file.number,
                    "file_bytes": segment.file.bytes,
                    "start": segment.start,
                    "end": segment.end,
                    "incarnation": segment.file.header.map(|head| head.incarnation.0),
                    "created": segment.file.header.map(|head| print::time(head.created)),
                    "shard_records": segment.records.shards,
                    "tombstones": segment.records.tombstones,
                    "marks": segment.records.marks,
                    "remains": segment.records.remains,
                    "live_shards": segment.live_shards,
                    "live_bytes": segment.live_bytes,
                    "live_ratio": segment.live_ratio(),
                })
            })
            .collect();
        let findings: Vec<Value> = self.survey.findings.iter().map(print::finding_json).collect();
        json!({
            "identity": print::identity_json(self.directory),
            "index": self.index.map(print::index_json),
            "live_shards": self.survey.live.len(),
            "live_bytes": self.survey.live_bytes(),
            "garbage_bytes": self.survey.garbage_bytes(),
            "segments": segments,
            "findings": findings,
        })
    }
}
