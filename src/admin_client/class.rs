//! `drystone admin class …` and `drystone admin bucket …`: storage classes, and which buckets use them.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::classes::{BucketClass, ClassDocument, ClassOrder};

use super::http;
use super::metadata::{read, show};

/// Flags of `drystone admin class`.
#[derive(Args, Debug)]
pub(super) struct ClassArguments {
    #[command(subcommand)]
    command: ClassCommand,

    /// Print JSON instead of tables and sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ClassCommand {
    /// Show the storage classes, their codings, and the buckets that use them.
    List,
    /// Make a class, or give it another coding. Class STANDARD is what nobody gave another one.
    ///
    /// What is there keeps its coding until its bucket is recoded.
    Set {
        /// Its name, as clients give it in x-amz-storage-class: A-Z, 0-9 and _.
        name: String,
        /// Data and parity shards, such as 4+2; 1+2 keeps three copies.
        #[arg(value_name = "K+M")]
        coding: String,
    },
    /// Take a class away that no bucket uses.
    Remove {
        /// Its name.
        name: String,
    },
}

/// Flags of `drystone admin bucket`.
#[derive(Args, Debug)]
pub(super) struct BucketArguments {
    #[command(subcommand)]
    command: BucketCommand,

    /// Print JSON instead of sentences.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum BucketCommand {
    /// Show the storage class that a bucket uses, or have it use another one from now on.
    ///
    /// What it holds already keeps its class; `drystone admin recode` changes that.
    Class {
        /// The bucket.
        bucket: String,
        /// The class [default: only show it].
        class: Option<String>,
    },
}

/// Carries out a command about classes.
pub(super) async fn run(endpoint: &str, arguments: &ClassArguments) -> Result<ExitCode> {
    let json = arguments.json;
    match &arguments.command {
        ClassCommand::List => {
            let classes: Vec<ClassDocument> = read(&http::get(endpoint, "/classes").await?)?;
            show(json, &classes, |classes| list(classes))?;
        }
        ClassCommand::Set { name, coding } => {
            let order = serde_json::to_vec(&ClassOrder { coding: coding.clone() })?;
            let answer = http::post(endpoint, &format!("/classes/{name}"), order).await?;
            let class: ClassDocument = read(&answer)?;
            show(json, &class, |class| {
                let tolerance = class.tolerance.as_deref().unwrap_or("not known");
                format!(
                    "Class {} has coding {}: any {} disks may be lost, and 100 bytes take {}.\nTolerance of what is put into it: {tolerance}.\n",
                    class.name, class.coding, class.disks_to_lose, class.bytes_per_hundred
                )
            })?;
        }
        ClassCommand::Remove { name } => {
            let answer = http::delete(endpoint, &format!("/classes/{name}")).await?;
            let class: ClassDocument = read(&answer)?;
            show(json, &class, |class| format!("Class {} was removed.\n", class.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries out a command about buckets.
pub(super) async fn run_bucket(endpoint: &str, arguments: &BucketArguments) -> Result<ExitCode> {
    let BucketCommand::Class { bucket, class } = &arguments.command;
    let path = format!("/buckets/{bucket}/class");
    let answer = match class {
        None => http::get(endpoint, &path).await?,
        Some(class) => {
            let order = serde_json::to_vec(&BucketClass { class: class.clone() })?;
            http::post(endpoint, &path, order).await?
        }
    };
    let used: BucketClass = read(&answer)?;
    show(arguments.json, &used, |used| format!("Bucket {bucket} uses class {}.\n", used.class))?;
    Ok(ExitCode::SUCCESS)
}

fn list(classes: &[ClassDocument]) -> String {
    use std::fmt::Write as _;
    let width = classes.iter().map(|class| class.name.len()).max().unwrap_or_default().max(5);
    let mut text = format!("{:width$}  CODING  MAY LOSE  OVERHEAD  WRITABLE  BUCKETS\n", "CLASS");
    for class in classes {
        let buckets = match class.buckets.as_slice() {
            [] if class.name == "STANDARD" => "all others".to_owned(),
            [] => "-".to_owned(),
            buckets => buckets.join(", "),
        };
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "{:width$}  {:6}  {:8}  {:>7}%  {:8}  {buckets}",
            class.name,
            class.coding,
            class.disks_to_lose,
            class.bytes_per_hundred,
            if class.is_writable { "yes" } else { "no" },
        );
    }
    text
}
