//! `drystone storage-node`: runs a storage node of a cluster; and, with a word behind it, looks into
//! the disks of one that isn't running.
//!
//! In comes a directory, of a stopped disk or a copy of one; out go tables or JSON on standard
//! output, and progress and remarks on standard error. All but `rebuild-index` only read: they work
//! on a directory that can't be written to, and leave no trace in it.

use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{host, settings};

mod export_owners;
mod inspect;
mod place;
mod print;
mod progress;
mod rebuild_index;
mod records;
mod verify;

/// The status that says that damage was found.
const DAMAGE_FOUND: u8 = 3;

/// Flags of `drystone storage-node`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StorageNodeArguments {
    #[command(subcommand)]
    command: Option<Tool>,

    #[command(flatten)]
    role: settings::StorageNodeArguments,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Show what a stopped disk holds: its segments, how much of them is live, what is damaged.
    Inspect(inspect::InspectArguments),
    /// Read every byte of a stopped disk and check it. Status 0: all is sound; 3: damage was found;
    /// 1: it could not be checked.
    Verify(verify::VerifyArguments),
    /// Make the index of a stopped disk anew from its segments. The only one that writes.
    RebuildIndex(rebuild_index::RebuildArguments),
    /// Print the owner of every extent of a stopped disk as JSON, one a line: what a lost namespace
    /// is rebuilt from. Needs the cluster key, else owners stay sealed.
    ExportOwners(export_owners::ExportArguments),
}

/// The directory that every tool is given.
#[derive(Args, Debug)]
struct DirectoryArgument {
    /// A disk's directory, as given to `drystone server`, or the directory of its shards; of a
    /// stopped disk or a copy.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs the role, or carries out one of the tools.
pub fn run(arguments: &StorageNodeArguments) -> Result<ExitCode> {
    let Some(tool) = &arguments.command else {
        return host::run(arguments.role.resolve()?.into());
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match tool {
        Tool::Inspect(arguments) => inspect::run(arguments, &mut out),
        Tool::Verify(arguments) => verify::run(arguments, &mut out),
        Tool::RebuildIndex(arguments) => rebuild_index::run(arguments, &mut out),
        Tool::ExportOwners(arguments) => export_owners::run(arguments, &mut out),
    };
    match done.and_then(|code| out.flush().map(|()| code).map_err(Into::into)) {
        // Whoever reads has enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    found.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
