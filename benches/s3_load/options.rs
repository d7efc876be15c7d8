//! The command line: what to measure, where, and for how long.
//!
//! In: arguments. Out: [`Options`], in which every name is safe to put in a URL unescaped, so that
//! the measured loop neither escapes nor checks anything.

use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Parser, ValueEnum};

/// The operation that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// PutObject with a new key each time.
    Put,
    /// GetObject of random prepared objects.
    Get,
    /// HeadObject of random prepared objects.
    Head,
    /// DeleteObject of every prepared object, once.
    Delete,
    /// ListObjectsV2, 1000 keys from a random place in the prepared objects.
    List,
    /// 45 % get, 30 % head, 15 % put, 10 % delete of what this run has put.
    Mixed,
}

impl Operation {
    /// Whether the operation works on objects that must be there before it is measured.
    pub fn needs_objects(self) -> bool {
        self != Self::Put
    }

    /// The operation's name as it stands in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Mixed => "mixed",
        }
    }
}

/// How request bodies are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Payload {
    /// The SHA-256 of the payload, which is calculated once.
    Signed,
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
}

/// Measures an S3 endpoint with one operation and prints one line of JSON.
#[derive(Debug, Parser)]
#[command(name = "s3_load", version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Options {
    /// Where the server listens, e.g. <http://127.0.0.1:9000> (plain HTTP).
    #[arg(long)]
    pub endpoint: Option<String>,
    /// The access key id.
    #[arg(long, default_value = "")]
    pub access_key: String,
    /// The secret access key.
    #[arg(long, default_value = "")]
    pub secret_key: String,
    /// The region that requests are signed for.
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// What to measure.
    #[arg(long, value_enum, default_value = "put")]
    pub op: Operation,
    /// Size of every object, e.g. 4096, 4KiB, 64MiB.
    #[arg(long, default_value = "4KiB", value_parser = parse_size)]
    pub size: usize,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096).map(|n| n as usize))]
    pub concurrency: usize,
    /// How long to measure, e.g. 500ms, 10s, 2m.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Stop after this many requests, where that comes before the end of the duration.
    #[arg(long)]
    pub requests: Option<u64>,
    /// The bucket, which is created where it is missing.
    #[arg(long, default_value = "s3-load", value_parser = parse_plain)]
    pub bucket: String,
    /// What every key begins with.
    #[arg(long, default_value = "load/", value_parser = parse_plain)]
    pub prefix: String,
    /// How many objects to prepare for get, head, delete, list and mixed.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub objects: u64,
    /// Take the objects as an earlier run with the same prefix left them.
    #[arg(long)]
    pub no_prepare: bool,
    /// How bodies are signed.
    #[arg(long, value_enum, default_value = "signed")]
    pub payload: Payload,
    /// Compare every byte that get receives with what put sends.
    #[arg(long)]
    pub verify: bool,
    /// Print the JSON line only, without the summary on standard error.
    #[arg(long)]
    pub json: bool,
    /// Given by `cargo bench` to every bench program.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The most requests that the measured phase may make: deleting ends with the last object.
    pub fn request_limit(&self) -> u64 {
        let wanted = self.requests.unwrap_or(u64::MAX);
        if self.op == Operation::Delete { wanted.min(self.objects) } else { wanted }
    }
}

/// Splits `12MiB` into the number and the unit.
fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number = digits.parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
    Ok((number, unit.trim()))
}

fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("unknown unit {unit:?}: B, KiB, MiB or GiB")),
    };
    let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes <= 5 << 30);
    let bytes = bytes.ok_or_else(|| format!("{text} is more than one PutObject takes (5 GiB)"))?;
    usize::try_from(bytes).map_err(|_| format!("{text} does not fit into memory"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(format!("unknown unit {unit:?}: ms, s or m")),
    }
}

fn parse_plain(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("only letters, digits and - _ . / can be used here".to_owned())
    }
}
