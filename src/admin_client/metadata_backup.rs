//! `drystone admin metadata backup FILE` and `verify-backup FILE`.
//!
//! What always holds: FILE is a whole and verified backup, durable under its name, or it isn't there
//! (or is what it was before).

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use metadata::backup::{BackupContents, BackupFile};

/// The path of the admin listener.
const PATH: &str = "/metadata/backup";

/// How long the answer's beginning, or the next piece of it, may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Bytes of a refusal that are shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Flags of `backup`.
#[derive(Args, Debug)]
pub(super) struct BackupArguments {
    /// Where to write the backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Replace FILE if it is there.
    #[arg(long)]
    replace: bool,
}

/// Flags of `verify-backup`.
#[derive(Args, Debug)]
pub(super) struct VerifyArguments {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Takes a backup of a running cluster.
pub(super) async fn take(endpoint: &str, arguments: &BackupArguments) -> Result<ExitCode> {
    let path = std::path::absolute(&arguments.file)?;
    if !arguments.replace && path.exists() {
        bail!("{} is there already; give --replace to replace it", path.display());
    }
    let partial = partial_path(&path)?;
    let written = write(endpoint, &partial).await;
    let verified = written.and_then(|()| verify_file(&partial));
    let contents = match verified {
        Ok(contents) => contents,
        Err(error) => {
            // It is worth nothing.
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
    };
    fs::rename(&partial, &path).with_context(|| format!("{} can't be named", path.display()))?;
    sync_parent(&path)?;
    print(&path, &contents);
    Ok(ExitCode::SUCCESS)
}

/// Verifies a backup; asks nobody.
pub(super) fn verify(arguments: &VerifyArguments) -> Result<ExitCode> {
    let contents = verify_file(&arguments.file)?;
    print(&arguments.file, &contents);
    Ok(ExitCode::SUCCESS)
}

/// Reads and verifies every byte.
pub(super) fn verify_file(path: &Path) -> Result<BackupContents> {
    let context = || format!("{} can't be used as a backup", path.display());
    let backup = BackupFile::open_path(path).with_context(context)?;
    let bar = bar("Verifying", Some(backup.length()?));
    let contents = backup.check(&|bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    contents.with_context(context)
}

async fn write(endpoint: &str, partial: &Path) -> Result<()> {
    let mut body = ask(endpoint).await?;
    let context = || format!("{} can't be written", partial.display());
    let mut file = File::create(partial).with_context(context)?;
    let bar = bar("Taking the backup", None);
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .context("the server stopped sending the backup")?;
        let Some(frame) = frame else { break };
        let frame = frame.context("the backup broke off; take it again")?;
        if let Some(piece) = frame.data_ref() {
            file.write_all(piece).with_context(context)?;
            bar.inc(piece.len() as u64);
        }
    }
    bar.set_message("Making it durable");
    file.sync_all().with_context(context)?;
    bar.finish_and_clear();
    Ok(())
}

/// Asks the admin listener; gives the answer's body once it has begun.
async fn ask(endpoint: &str) -> Result<Incoming> {
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let work = async {
        let stream = tokio::net::TcpStream::connect(authority)
            .await
            .with_context(|| format!("no server answers at {endpoint}; give --endpoint"))?;
        let host = super::http::host_of(&stream)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the connection.
        tokio::spawn(connection);
        let request = http::Request::builder()
            .uri(PATH)
            .header(http::header::HOST, host)
            .body(Empty::<bytes::Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body();
        if !status.is_success() {
            let why = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
            let why = why.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            bail!("the server answered {status}: {}", String::from_utf8_lossy(&why).trim());
        }
        Ok(body)
    };
    tokio::time::timeout(PATIENCE, work).await.context("the server did not answer in time")?
}

fn partial_path(path: &Path) -> Result<PathBuf> {
    let mut name = path.file_name().context("the backup needs a file name")?.to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    match fs::metadata(&partial) {
        Ok(metadata) => ensure!(metadata.is_file(), "{} is in the way", partial.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(partial)
}

fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("the backup has no directory")?;
    File::open(parent)?.sync_all().with_context(|| format!("{} can't be synced", parent.display()))
}

/// Shown where standard error is a terminal.
fn bar(what: &'static str, length: Option<u64>) -> ProgressBar {
    let target = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(length, target).with_message(what);
    let template = if length.is_some() {
        "{msg} {wide_bar} {bytes} of {total_bytes}"
    } else {
        "{msg} {spinner} {bytes}, {bytes_per_sec}"
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar
}

fn time(at: model::time::Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.as_nanos()))
        .map_or_else(|_| at.as_nanos().to_string(), |instant| instant.to_string())
}

fn print(path: &Path, contents: &BackupContents) {
    let header = &contents.header;
    let rows = |table: &str| {
        let found = contents.rows().find(|(name, _)| *name == table);
        HumanCount(found.map_or(0, |(_, rows)| rows))
    };
    println!("{}: a whole backup, every checksum is right", path.display());
    println!("  cluster  {}", header.cluster);
    println!("  taken    {}", time(header.time));
    println!("  by       Drystone {}, metadata replica {}", header.release, header.replica);
    println!("  covers   log index {}", header.index);
    println!(
        "  holds    {} objects, {} uploads, {} extents in {} buckets",
        rows("versions"),
        rows("uploads"),
        rows("extents"),
        rows("buckets")
    );
    println!("  size     {}", HumanBytes(contents.length));
}
