//! A metadata node: a process of the program with a directory and a log file of its own.
//!
//! In: where its host directory is. Out: the running process, what it takes of the machine, and
//! what it counts. It is killed when this is dropped.

use std::fs::{File, Metadata};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire::clock::{Clock, SystemClock};

use super::relay::Relay;

/// The program that is measured.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_drystone");

const LIVE_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// What `st_blocks` counts.
const BLOCK_BYTES: u64 = 512;

/// A node.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number in the cluster.
    pub number: u32,
    /// Its admin listener.
    pub admin: SocketAddr,
    /// Before its internal listener, where there is one.
    pub relay: Option<Relay>,
    listen: SocketAddr,
    home: PathBuf,
    process: Option<Child>,
}

/// Bytes of files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files {
    /// The tables.
    pub state: u64,
    /// The Raft log.
    pub log: u64,
    /// Snapshots.
    pub snapshot: u64,
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory now.
    pub resident: u64,
    /// The most memory so far.
    pub resident_peak: u64,
    /// Processor time.
    pub cpu: Duration,
}

impl Node {
    /// A node that doesn't run yet and is to listen at `listen`.
    pub fn new(root: &Path, number: u32, listen: SocketAddr) -> Result<Self> {
        let name = format!("m{number}");
        let home = root.join(&name);
        std::fs::create_dir(&home)?;
        let admin = free_address()?;
        Ok(Self { name, number, admin, relay: None, listen, home, process: None })
    }

    /// What it knows of itself.
    pub fn host_directory(&self) -> PathBuf {
        self.home.join("host")
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        let log = File::options().append(true).create(true).open(self.log())?;
        let process = program()
            .arg("metadata")
            .arg("--host-directory")
            .arg(self.host_directory())
            .args(["--cluster-listen", &self.listen.to_string()])
            .args(["--admin-listen", &self.admin.to_string()])
            .arg(self.data())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{PROGRAM} can't be started"))?;
        self.process = Some(process);
        let clock = SystemClock::new();
        while self.get("/health/live").await.is_err() {
            ensure!(
                clock.monotonic() < LIVE_WITHIN,
                "{} doesn't answer: {}",
                self.name,
                self.said()
            );
            clock.sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Loses its disk.
    pub fn lose_data(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(self.data())?)
    }

    /// The end of its log.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(20);
        lines.get(last..).unwrap_or_default().join("\n")
    }

    /// The sum of a counter of its metrics.
    pub async fn count(&self, counter: &str) -> Result<f64> {
        let text = self.get("/metrics").await?;
        let is_named = |line: &&str| {
            let rest = line.strip_prefix(counter);
            rest.is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        };
        let value =
            |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        Ok(text.lines().filter(is_named).filter_map(value).sum())
    }

    /// The answer of its admin listener.
    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        let host = self.admin;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        Ok(answer)
    }

    /// What its process takes now; nothing while it doesn't run.
    pub fn usage(&self) -> Result<Usage> {
        let Some(process) = &self.process else {
            return Ok(Usage::default());
        };
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let bytes = |name| Ok::<_, anyhow::Error>(kib(name).context("memory")? << 10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
        // The name, which may hold anything, ends with the last bracket.
        let (_, fields) = stat.rsplit_once(')').context("processor time")?;
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let cpu = Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        Ok(Usage { resident: bytes("VmRSS:")?, resident_peak: bytes("VmHWM:")?, cpu })
    }

    /// What its files take of the disk.
    pub fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        add_files(&self.data(), &mut files)?;
        Ok(files)
    }

    /// Memory and files, for people.
    pub fn sizes(&self) -> Result<Value> {
        let (files, usage) = (self.files()?, self.usage()?);
        Ok(json!({
            "resident_mib": usage.resident >> 20,
            "resident_peak_mib": usage.resident_peak >> 20,
            "state_mib": files.state >> 20,
            "log_mib": files.log >> 20,
            "snapshot_mib": files.snapshot >> 20,
        }))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // There is nothing more to do where that fails.
        let _killed = self.kill();
    }
}

fn add_files(directory: &Path, files: &mut Files) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // A file may go while this looks.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            add_files(&entry.path(), files)?;
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let bytes = allocated(&metadata);
        if name.starts_with("state.") {
            files.state += bytes;
        } else if name.starts_with("snapshot") {
            files.snapshot += bytes;
        } else {
            files.log += bytes;
        }
    }
    Ok(())
}

fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks() * BLOCK_BYTES
}

/// A command of the program, with nothing of the surroundings.
fn program() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs a command of the program to its end, and gives what it said.
pub fn run(arguments: &[&str]) -> Result<String> {
    let done = program().args(arguments).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        let words = arguments.get(..2).unwrap_or(arguments).join(" ");
        bail!("drystone {words}: {said}{}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(said)
}

/// An address that nobody listens at now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
