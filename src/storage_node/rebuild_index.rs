//! `drystone storage-node rebuild-index DIR`.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use storage_node::offline::rebuild_index;
use wire::clock::SystemClock;

use super::place::{Place, Purpose};
use super::progress::Progress;
use super::{DAMAGE_FOUND, DirectoryArgument, print};

/// Flags of `rebuild-index`.
#[derive(Args, Debug)]
pub(super) struct RebuildArguments {
    #[command(flatten)]
    at: DirectoryArgument,
}

pub(super) fn run(arguments: &RebuildArguments, out: &mut dyn Write) -> Result<ExitCode> {
    let place = Place::find(&arguments.at.directory, Purpose::Write)?;
    let directory = place.open()?;
    let rebuilt = {
        let progress = Progress::of_bytes("Reading segments", directory.bytes());
        let clock = Arc::new(SystemClock::new());
        rebuild_index(&directory, clock, &|bytes| progress.advance(bytes))?
    };
    print::identity(out, &directory)?;
    writeln!(
        out,
        "The index was made anew: {} live shards, {}; garbage {}; {} damaged regions",
        rebuilt.shards,
        print::bytes(rebuilt.live_bytes),
        print::bytes(rebuilt.garbage_bytes),
        rebuilt.damaged_regions,
    )?;
    for gone in &rebuilt.missing {
        writeln!(
            out,
            "DAMAGE: segment {:x} with {} live shards is missing; the new index doesn't know them",
            gone.segment, gone.shards
        )?;
    }
    let is_sound = rebuilt.damaged_regions == 0 && rebuilt.missing.is_empty();
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE_FOUND) })
}
