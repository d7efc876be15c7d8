//! Starts `drystone server` on temporary directories and free ports, and stops it again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    /// What it printed until it was ready.
    pub greeting: String,
    /// `host:port` of the S3 listener.
    pub s3: String,
    /// `host:port` of the admin listener.
    pub admin: String,
}

/// A command for the binary, without settings from the environment.
pub fn drystone(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DRYSTONE_") {
            command.env_remove(name);
        }
    }
    command
}

/// The directories `names` below `root`, as arguments.
pub fn directories(root: &Path, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| root.join(name).to_string_lossy().into_owned()).collect()
}

/// Runs to the end, which must come by itself.
pub fn run(root: &Path, arguments: &[&str]) -> Output {
    drystone(arguments).current_dir(root).output().expect("the binary starts")
}

impl Server {
    /// Starts a server below `root` and waits until it says that it listens.
    pub fn start(root: &Path, arguments: &[&str]) -> Self {
        let mut child = drystone(&["server", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(arguments)
            .current_dir(root)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut greeting, mut s3, mut admin) = (String::new(), None, None);
        while s3.is_none() || admin.is_none() {
            let line = lines.next().expect("says where it listens").expect("text");
            let after = |label: &str| line.strip_prefix(label).map(str::to_owned);
            s3 = s3.or(after("S3 listening on http://"));
            admin = admin.or(after("Admin listening on http://"));
            greeting.push_str(&line);
            greeting.push('\n');
        }
        // The rest is read and dropped, so that the pipe never fills up.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, greeting, s3: s3.unwrap_or_default(), admin: admin.unwrap_or_default() }
    }

    /// Sends SIGTERM and waits for the end.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `terminate`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain GET; answers status and body.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// All paths below `root`.
pub fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("readable") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
