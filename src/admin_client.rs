//! `drystone admin …`: asks a running server by its admin listener.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;

/// An answer longer than this is none of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of `drystone admin`.
#[derive(Args, Debug)]
pub struct AdminArguments {
    /// The server's admin listener.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DRYSTONE_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:9001"
    )]
    endpoint: String,

    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Show disks, fault tolerance left, usage, repair queue and metadata replicas.
    Status {
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
}

/// Carries out an admin command.
pub fn run(arguments: &AdminArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.command {
        AdminCommand::Status { json } => {
            let answer = runtime.block_on(get(&arguments.endpoint, "/status"))?;
            let text = String::from_utf8(answer).context("the server's answer is not text")?;
            if json {
                println!("{text}");
            } else {
                let status = serde_json::from_str(&text)
                    .context("the server's answer is not a status that this program knows")?;
                print!("{}", gateway::admin::render::text(&status));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn get(endpoint: &str, path: &str) -> Result<Vec<u8>> {
    let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
    let work = async {
        let stream = tokio::net::TcpStream::connect(authority)
            .await
            .with_context(|| format!("no server answers at {endpoint}; give --endpoint"))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header(http::header::HOST, authority)
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        drop(sender);
        driver.abort();
        ensure!(status.is_success(), "the server answered {status}");
        Ok(body.to_bytes().to_vec())
    };
    tokio::time::timeout(ANSWER_TIMEOUT, work).await.context("the server did not answer in time")?
}
