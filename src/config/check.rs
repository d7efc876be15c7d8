//! `drystone config check`: whether a role could run with these settings, on this host.

use std::process::ExitCode;

use super::look;
use crate::settings::{Arguments, RoleSettings, key, readable_by_others, unwise_backups};

/// Prints "ok" on standard output, or every mistake on standard error with status 1.
pub fn run<S: RoleSettings>(arguments: &Arguments<S>, elsewhere: bool) -> ExitCode {
    let (effective, mut mistakes) = arguments.effective();
    let mut warnings = effective.warnings.clone();
    warnings.extend(unwise_backups(&effective));
    if !elsewhere {
        // Wanted are the mistakes, not the settings.
        let _settings = S::decide(&effective, &mut mistakes);
        look::at_host(&effective, &mut mistakes);
        warnings.extend(effective.path(key::TLS_KEY).and_then(|path| readable_by_others(&path)));
    }
    for warning in warnings {
        eprintln!("drystone: warning: {warning}");
    }
    if mistakes.is_empty() {
        println!("ok");
        return ExitCode::SUCCESS;
    }
    eprintln!("drystone: {mistakes}");
    ExitCode::FAILURE
}
