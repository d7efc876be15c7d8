//! `drystone storage-node export-owners DIR`: a line of JSON for each live extent.
//!
//! ```text
//! {"extent":"1.2.3","pg":1,"session":2,"sequence":3,"coding":"4+2",
//!  "owner":{"bucket":"photos","bucket_id":1,"key":"a/b","manifest":"…","upload":null,"part":0,
//!           "offset":0,"started":"2026-01-31T12:00:00Z","started_ns":…,"kind":"body"},
//!  "stripes":[{"stripe":0,"bytes":4194304,"shards":[{"slot":0,"bytes":1048576}]}]}
//! ```
//!
//! The kind `record` is that of what a recovery needs to know of an object beside its bodies.
//! Without the key, or where a seal doesn't open, `owner` is null, `sealed_owner` has the seal in
//! hex, and `owner_error` says why.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use engine::OwnerSeal;
use model::owner::{Owner, OwnerKind};
use serde_json::{Value, json};
use storage_node::offline::{
    Depth, ExtentOwner, OfflineError, ShardsDirectory, Survey, owners, survey,
};
use wire::entropy::SystemEntropy;

use super::place::{Place, Purpose};
use super::print::time;
use super::progress::Progress;
use super::{DAMAGE_FOUND, DirectoryArgument};
use crate::directories;

/// Flags of `export-owners`.
#[derive(Args, Debug)]
pub(super) struct ExportArguments {
    #[command(flatten)]
    at: DirectoryArgument,

    /// The cluster key: a `secrets.toml` of any directory of the store, or 64 hexadecimal digits
    /// [default: the `secrets.toml` in the disk's directory].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Why the export ended early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Read(#[from] OfflineError),
    #[error("standard output can't be written")]
    Write(#[from] io::Error),
}

#[derive(Default)]
struct Counts {
    extents: u64,
    sealed: u64,
    damaged: u64,
}

pub(super) fn run(arguments: &ExportArguments, out: &mut dyn Write) -> Result<ExitCode> {
    let place = Place::find(&arguments.at.directory, Purpose::Read)?;
    let directory = place.open()?;
    let seal = find_key(arguments.key_file.as_deref(), place.disk.as_deref())?
        .map(|key| OwnerSeal::new(&key, Arc::new(SystemEntropy::new())));
    if seal.is_none() {
        eprintln!(
            "drystone: there is no secrets.toml with the cluster key beside the shards: owners are exported sealed; give --key-file to open them"
        );
    }
    let survey = {
        let progress = Progress::of_bytes("Reading headers", directory.bytes());
        survey(&directory, Depth::Headers, &|bytes| progress.advance(bytes))?
    };
    let counts = export(&directory, &survey, seal.as_ref(), out)?;
    eprintln!(
        "drystone: {} extents; {} owners sealed, {} damaged",
        counts.extents, counts.sealed, counts.damaged
    );
    // With the key every owner opens, unless something is wrong.
    let is_sound = counts.damaged == 0 && (seal.is_none() || counts.sealed == 0);
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGE_FOUND) })
}

fn export(
    directory: &ShardsDirectory,
    survey: &Survey,
    seal: Option<&OwnerSeal>,
    out: &mut dyn Write,
) -> Result<Counts, ExportError> {
    let mut counts = Counts::default();
    let progress = Progress::of_items("Reading owners", survey.live.len() as u64);
    owners::<ExportError>(directory, survey, &|shards| progress.advance(shards), &mut |extent| {
        let (owner, error) = match (&extent.sealed, seal) {
            (None, _) => {
                counts.damaged += 1;
                (None, Some("the owner is damaged in every record here".to_owned()))
            }
            (Some(_), None) => {
                counts.sealed += 1;
                (None, Some("the cluster key was not given".to_owned()))
            }
            (Some(sealed), Some(seal)) => match seal.open(extent.extent, sealed) {
                Ok(owner) => (Some(owner), None),
                Err(error) => {
                    counts.sealed += 1;
                    (None, Some(error.to_string()))
                }
            },
        };
        counts.extents += 1;
        writeln!(out, "{}", line(&extent, owner.as_ref(), error))?;
        Ok(())
    })?;
    Ok(counts)
}

fn line(extent: &ExtentOwner, owner: Option<&Owner>, error: Option<String>) -> Value {
    let id = extent.extent;
    let mut stripes: Vec<Value> = Vec::new();
    for group in extent.shards.chunk_by(|a, b| a.id.stripe == b.id.stripe) {
        let shards: Vec<Value> = group
            .iter()
            .map(|shard| json!({ "slot": shard.id.slot, "bytes": shard.place.payload_bytes }))
            .collect();
        let bytes = group[0].place.stripe_bytes;
        stripes.push(json!({ "stripe": group[0].id.stripe, "bytes": bytes, "shards": shards }));
    }
    let mut line = json!({
        "extent": id.to_string(),
        "pg": id.pg.0,
        "session": id.session.0,
        "sequence": id.sequence,
        "coding": extent.coding.to_string(),
        "owner": owner.map(owner_json),
        "stripes": stripes,
    });
    if let Some(error) = error {
        line["owner_error"] = json!(error);
        line["sealed_owner"] = json!(extent.sealed.as_ref().map(hex::encode));
    }
    line
}

fn owner_json(owner: &Owner) -> Value {
    json!({
        "bucket": owner.bucket,
        "bucket_id": owner.bucket_id.map(|id| id.0),
        "key": owner.key,
        "manifest": owner.manifest.to_string(),
        "upload": owner.upload.map(|id| id.to_string()),
        "part": owner.part,
        "offset": owner.offset,
        "started": time(owner.started),
        "started_ns": owner.started.as_nanos(),
        "kind": match owner.kind {
            OwnerKind::Body => "body",
            OwnerKind::Record => "record",
        },
    })
}

fn find_key(given: Option<&Path>, disk: Option<&Path>) -> Result<Option<[u8; 32]>> {
    let Some(path) = given else {
        let secrets = disk.and_then(directories::read_secrets);
        return Ok(secrets.and_then(|secrets| secrets.cluster_key()));
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the key file {} can't be read", path.display()))?;
    let digits = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    let key = digits.or_else(|| directories::decode_secrets(&text)?.cluster_key());
    match key {
        Some(key) => Ok(Some(key)),
        None => bail!(
            "the key file {} is neither a sound secrets.toml nor 64 hexadecimal digits",
            path.display()
        ),
    }
}
