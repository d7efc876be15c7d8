//! `drystone cluster token …`: what lets new hosts in.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use gateway::admin::orders::{NewToken, Token, TokenOrder};
use gateway::admin::render;

use super::http;
use super::metadata::{read, show};

/// Flags of `drystone cluster token`.
#[derive(Args, Debug)]
pub struct TokenArguments {
    /// The admin listener of a process that keeps metadata.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DRYSTONE_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:9001"
    )]
    endpoint: String,

    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and print it: whoever has it can join, until it ends or is used up.
    Create {
        /// What a new host may do: metadata, storage-node, gateway; all three for
        /// `drystone server`.
        #[arg(long, value_name = "ROLE,…", default_value = "storage-node,gateway")]
        roles: String,
        /// When it ends, from now: 30m, 12h or 7d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_lifetime)]
        expires: u64,
        /// How many hosts it may let in.
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        uses: u32,
    },
    /// Show the tokens that haven't ended, without their secrets; 0 uses left: used up.
    List,
    /// Make a token void.
    Revoke {
        /// The token, as `list` shows it.
        id: String,
    },
}

/// Carries out a command.
pub fn run(arguments: &TokenArguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(carry_out(arguments))?;
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(arguments: &TokenArguments) -> Result<()> {
    let (endpoint, json) = (&*arguments.endpoint, arguments.json);
    match &arguments.command {
        TokenCommand::Create { roles, expires, uses } => {
            let roles = if roles == "server" { "metadata,storage-node,gateway" } else { roles };
            let order =
                TokenOrder { roles: roles.to_owned(), expires_seconds: *expires, uses: *uses };
            let order = serde_json::to_vec(&order)?;
            let new: NewToken = read(&http::post(endpoint, "/cluster/tokens", order).await?)?;
            // The token alone, so that a script can take it.
            show(json, &new, |new| format!("{}\n", new.secret))
        }
        TokenCommand::List => {
            let tokens: Vec<Token> = read(&http::get(endpoint, "/cluster/tokens").await?)?;
            show(json, &tokens, |tokens| render::tokens(tokens))
        }
        TokenCommand::Revoke { id } => {
            let answer = http::delete(endpoint, &format!("/cluster/tokens/{id}")).await?;
            let done: serde_json::Value = read(&answer)?;
            show(json, &done, |_| format!("Token {id} was revoked.\n"))
        }
    }
}

/// Seconds.
fn parse_lifetime(text: &str) -> Result<u64, String> {
    let wrong = || "a time such as 30m, 12h or 7d".to_owned();
    let (digits, seconds) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 60 * 60),
        Some((at, 'd')) => (&text[..at], 24 * 60 * 60),
        Some(_) | None => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).filter(|total| *total > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_units() {
        assert_eq!(parse_lifetime("90s"), Ok(90));
        assert_eq!(parse_lifetime("30m"), Ok(1800));
        assert_eq!(parse_lifetime("7d"), Ok(604_800));
        for wrong in ["", "5", "h", "0h", "-1h", "1.5h", "1w", "99999999999999999999s", "ü"] {
            assert!(parse_lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
