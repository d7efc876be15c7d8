//! `drystone storage-node verify DIR`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use storage_node::offline::{Depth, FindingKind, SuperblockState, report_index, survey};
use wire::clock::SystemClock;

use super::place::{Place, Purpose};
use super::progress::Progress;
use super::{DAMAGE_FOUND, DirectoryArgument, print};

/// Flags of `verify`.
#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    at: DirectoryArgument,

    /// Leave the index alone instead of comparing it with the segments.
    #[arg(long)]
    no_index: bool,

    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &VerifyArguments, out: &mut dyn Write) -> Result<ExitCode> {
    let place = Place::find(&arguments.at.directory, Purpose::Read)?;
    let directory = place.open()?;
    let survey = {
        let progress = Progress::of_bytes("Verifying", directory.bytes());
        survey(&directory, Depth::Whole, &|bytes| progress.advance(bytes))?
    };
    let index = (!arguments.no_index)
        .then(|| report_index(&directory, &survey, Arc::new(SystemClock::new())));
    let lost_shards = survey
        .damage()
        .filter(|finding| matches!(finding.kind, FindingKind::Record { live: true, .. }))
        .count();
    let damage = survey.damage().count();
    let superblock = directory.superblock();
    let is_sound = damage == 0
        && matches!(superblock, SuperblockState::Sound { .. })
        && index.as_ref().is_none_or(storage_node::offline::IndexReport::agrees);
    if arguments.json {
        let findings: Vec<Value> = survey.findings.iter().map(print::finding_json).collect();
        let document = json!({
            "identity": print::identity_json(&directory),
            "sound": is_sound,
            "bytes": directory.bytes(),
            "live_shards": survey.live.len(),
            "live_bytes": survey.live_bytes(),
            "damaged_live_shards": lost_shards,
            "damage": damage,
            "findings": findings,
            "index": index.as_ref().map(print::index_json),
        });
        writeln!(out, "{document:#}")?;
    } else {
        print::identity(out, &directory)?;
        if let Some(index) = &index {
            print::index(out, index)?;
        }
        for finding in &survey.findings {
            print::finding(out, finding)?;
        }
        let shards = survey.live.len();
        let (bytes, segments) = (print::bytes(directory.bytes()), directory.segments().len());
        if is_sound {
            writeln!(out, "Sound: {shards} live shards, {segments} segments of {bytes}")?;
        } else {
            writeln!(
                out,
                "NOT SOUND: {damage} damaged places and {lost_shards} damaged shards among {shards} live ones, {segments} segments of {bytes}"
            )?;
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE_FOUND) })
}
