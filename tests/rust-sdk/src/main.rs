//! Drives a server with the AWS SDK for Rust and compares every byte.
//!
//! In: an endpoint and credentials. Out: one line per scenario that passed, and status 0 when all
//! did. It uses the SDK as applications do: default checksums, default retries, path-style names.
//! It makes a bucket of its own and removes it again.

mod scenarios;

use anyhow::Result;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use clap::Parser;

/// Where to connect.
#[derive(Debug, Parser)]
struct Options {
    /// URL of the server, plain HTTP.
    #[arg(long)]
    endpoint: String,
    /// The access key id.
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// The secret access key.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    /// A bucket that does not exist yet.
    #[arg(long, default_value = "rust-sdk")]
    bucket: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let client = connect(&options);
    scenarios::run(&client, &options.bucket).await
}

fn connect(options: &Options) -> Client {
    let credentials =
        Credentials::new(&options.access_key, &options.secret_key, None, None, "command line");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&options.endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}
