//! `drystone config show`: the settings in force, as TOML that the role would take.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;

use crate::settings::{Effective, Fallback, Mistakes, Row};

/// Prints the settings on standard output, and warnings and mistakes on standard error. Status 1
/// when there are mistakes.
pub fn run(effective: &Effective, mistakes: &Mistakes, with_origin: bool) -> Result<ExitCode> {
    io::stdout().lock().write_all(text(effective, with_origin).as_bytes())?;
    for warning in &effective.warnings {
        eprintln!("drystone: warning: {warning}");
    }
    if mistakes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("drystone: {mistakes}");
    Ok(ExitCode::FAILURE)
}

fn text(effective: &Effective, with_origin: bool) -> String {
    effective.rows.iter().map(|row| line(row, effective, with_origin)).collect()
}

fn line(row: &Row, effective: &Effective, with_origin: bool) -> String {
    let key = row.setting.key;
    let Some(value) = &row.value else {
        let why = match (row.setting.fallback)(effective.role) {
            Fallback::Unset(meaning) => meaning,
            Fallback::Required => "required",
            Fallback::InHostDirectory(_) | Fallback::Values(_) => "see the mistakes",
        };
        return format!("# {key} is not set: {why}\n");
    };
    let value = if row.setting.is_secret { "\"***\"".to_owned() } else { value.to_toml() };
    if with_origin {
        format!("{key} = {value} # from {}\n", row.origin)
    } else {
        format!("{key} = {value}\n")
    }
}
