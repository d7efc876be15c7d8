//! What the health codes mean, as text for a terminal.

use std::fmt::Write as _;

use crate::admin::health::codes::{Blocking, Code, Explanation, Severity};
use crate::admin::render::table;

/// Columns of a line of text.
const WIDTH: usize = 100;

const TITLES: [&str; 4] = ["CODE", "SEVERITY", "STOPS CLIENTS", "CAUSE"];

/// All codes with their causes.
pub fn list() -> String {
    let row = |code: &Code| {
        let cause = code.explanation().cause;
        // The first sentence, or the first part of it, tells them apart.
        let end = cause.find([':', ';', '.']).unwrap_or(cause.len());
        [
            code.as_str().to_owned(),
            severity(*code).to_owned(),
            blocking(*code).to_owned(),
            cause[..end].to_owned(),
        ]
    };
    let rows: Vec<_> = Code::ALL.iter().map(row).collect();
    let mut out = String::new();
    // Writing to a String can't fail.
    let _infallible = table(&mut out, TITLES, &rows);
    out.push_str("\n`drystone admin explain CODE` tells effect, remedy and margin.\n");
    out
}

/// All of one code.
pub fn explain(code: Code) -> String {
    let Explanation { cause, effect, remedy, margin } = code.explanation();
    let mut out = String::new();
    let _infallible =
        writeln!(out, "{}: {}, stops clients {}", code, severity(code), blocking(code));
    for (title, text) in
        [("Cause", cause), ("Effect", effect), ("Remedy", remedy), ("Margin to data loss", margin)]
    {
        let _infallible = write!(out, "\n{title}\n{}", wrapped(text));
    }
    out
}

const fn severity(code: Code) -> &'static str {
    match (code.severity(), code.blocking()) {
        (Severity::Red, _) => "red",
        (Severity::Yellow, Blocking::Sometimes) => "yellow or red",
        (Severity::Yellow, _) => "yellow",
    }
}

const fn blocking(code: Code) -> &'static str {
    match code.blocking() {
        Blocking::Never => "never",
        Blocking::Sometimes => "sometimes",
        Blocking::Always => "always",
    }
}

/// Lines of at most [`WIDTH`] columns, indented. A command stays on one line.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in words(text) {
        if !line.is_empty() && line.chars().count() + word.chars().count() + 3 > WIDTH {
            let _infallible = writeln!(out, "  {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        let _infallible = writeln!(out, "  {line}");
    }
    out
}

/// Words, and what is between backquotes as one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split(' ') {
        match words.last_mut() {
            Some(last) if is_open => {
                last.push(' ');
                last.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        if !word.matches('`').count().is_multiple_of(2) {
            is_open = !is_open;
        }
    }
    words
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_and_explained() {
        let list = list();
        for code in Code::ALL {
            assert!(list.contains(&format!("{code} ")), "{code}");
            let text = explain(*code);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            let Explanation { cause, effect, remedy, margin } = code.explanation();
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in [cause, effect, remedy, margin] {
                assert!(flat.contains(part), "{code}: {part}\n{text}");
            }
        }
    }

    #[test]
    fn one_code_has_four_parts() {
        let expected = "\
MIXED_RELEASES: yellow, stops clients never

Cause
  Some nodes run an older release than others.

Effect
  All is served. What the newer release adds is not used before the last node has it.

Remedy
  Go on with the upgrade: `drystone admin node list` shows the feature level of each node.

Margin to data loss
  Unchanged.
";
        assert_eq!(explain(Code::MixedReleases), expected);
    }

    #[test]
    fn commands_are_not_broken() {
        let text = format!("{} `drystone admin status` follows.", "word ".repeat(18).trim());
        assert!(wrapped(&text).contains("\n  `drystone admin status` follows.\n"), "{text}");
    }
}
