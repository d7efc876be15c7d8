//! `drystone admin metadata release-held --yes`: ends what a restore began.
//!
//! In: what `/status` tells as held. Out: the order to release just that. What always holds: nothing is
//! released without `--yes`, and nothing else than what was shown.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use gateway::admin::recovery::{ReleaseOrder, Released};
use gateway::admin::render;
use gateway::admin::status::ClusterStatus;

use super::http;
use super::metadata::{read, show};

const WARNING: &str = "\
Released, what was not recovered belongs to nobody: after the usual grace it is deleted from the
disks, for good. Have it recovered before: drystone admin metadata recover --from-shards

Nothing was released. Give --yes to release it.
";

/// Flags of `release-held`.
#[derive(Args, Debug)]
pub(super) struct ReleaseArguments {
    /// Release it: what wasn't recovered is lost for good.
    #[arg(long)]
    yes: bool,

    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Carries out the command.
pub(super) async fn run(endpoint: &str, arguments: &ReleaseArguments) -> Result<ExitCode> {
    let status: ClusterStatus = read(&http::get(endpoint, "/status").await?)?;
    let Some(held) = &status.held else {
        // Whether the metadata could be asked is another matter.
        let is_known = status.cluster.is_some();
        let released = Released { released: false };
        show(arguments.json, &released, |_| format!("{}\n", told(&status)))?;
        return Ok(if is_known { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    if !arguments.yes {
        let released = Released { released: false };
        show(arguments.json, &released, |_| format!("{}\n\n{WARNING}", told(&status)))?;
        return Ok(ExitCode::FAILURE);
    }
    let order = serde_json::to_vec(&ReleaseOrder { until: held.until })?;
    let answer = http::post_patiently(endpoint, "/metadata/recovery/release", order).await?;
    let released: Released = read(&answer)?;
    show(arguments.json, &released, |_| "Nothing is held any more.\n".to_owned())?;
    Ok(ExitCode::SUCCESS)
}

/// What is held, in a sentence.
pub(super) fn told(status: &ClusterStatus) -> String {
    match &status.held {
        Some(held) => format!("Held: {}.", render::held(held)),
        None if status.cluster.is_some() => {
            "Nothing is held: the metadata was not put back, or all was released.".to_owned()
        }
        None => "The metadata can't be asked what is held.".to_owned(),
    }
}
