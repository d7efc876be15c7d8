//! The settings file: TOML, the keys of the table at its top level, nothing else.
//!
//! In comes a path; out go the words of each key with its line, and every mistake of the file.
//! What can't be told apart from a secret is never quoted: of a line that is no TOML only the
//! number is told, of a key that isn't known only its name.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::command_line::Given;
use super::meant::nearest;
use super::mistakes::Mistakes;
use super::origin::Origin;
use super::table::{self, Role, Setting};
use super::value::Kind;

/// A settings file has some twenty lines; what is longer than this is another file.
const BYTES_MAX: u64 = 1 << 20;

/// What a file gives.
#[derive(Default)]
pub struct SettingsFile {
    /// The words of each key, in the order of the keys.
    pub given: Vec<Given>,
    /// What is allowed but unwise.
    pub warnings: Vec<String>,
}

/// Reads the file of a process of `role`.
pub fn read(path: &Path, role: Role, mistakes: &mut Mistakes) -> SettingsFile {
    let (text, mode) = match read_text(path) {
        Ok(read) => read,
        Err(error) => {
            mistakes.add_overall(format!("the file {} can't be read: {error}", path.display()));
            return SettingsFile::default();
        }
    };
    let given = parse(&text, path, role, mistakes);
    let mut warnings = Vec::new();
    if given.iter().any(|given| given.setting.kind == Kind::SecretKey) && mode & 0o077 != 0 {
        warnings.push(format!(
            "the file {} holds a secret and other users may read it (mode {:04o}): chmod 600 it",
            path.display(),
            mode & 0o7777
        ));
    }
    SettingsFile { given, warnings }
}

fn read_text(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    if file.take(BYTES_MAX + 1).read_to_string(&mut text)? as u64 > BYTES_MAX {
        return Err(io::Error::other("it is longer than 1 MiB, which no settings file is"));
    }
    Ok((text, mode))
}

fn parse(text: &str, path: &Path, role: Role, mistakes: &mut Mistakes) -> Vec<Given> {
    let line_of = |at: usize| {
        let before = text.get(..at).unwrap_or(text);
        1 + before.matches('\n').count()
    };
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut bad_lines = Vec::new();
    for error in errors {
        let line = line_of(error.span().map_or(text.len(), |span| span.start));
        // One slip of the pen is often several errors.
        if !bad_lines.contains(&line) {
            mistakes.add(&origin(line), format!("not valid TOML: {}", error.message()));
            bad_lines.push(line);
        }
    }
    let mut entries: Vec<_> = document.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut given = Vec::new();
    for (key, value) in entries {
        let lines = line_of(key.span().start)..=line_of(value.span().end);
        if bad_lines.iter().any(|line| lines.contains(line)) {
            continue;
        }
        let origin = origin(*lines.start());
        let (name, value) = (key.get_ref().as_ref(), value.get_ref());
        match table::find(name) {
            Some(setting) if setting.is_of(role) => match words(setting, value) {
                Some(words) => {
                    let words = words.into_iter().map(Into::into).collect();
                    given.push(Given { setting, words, origin });
                }
                None => mistakes
                    .add(&origin, format!("{name}: expected {}", setting.kind.expected_in_file())),
            },
            Some(setting) => mistakes.add(&origin, foreign(setting, role)),
            None => mistakes.add(&origin, unknown(name, value, role)),
        }
    }
    given
}

/// The words of a value, if it has the form that the setting's kind has in a file.
fn words(setting: &Setting, value: &DeValue<'_>) -> Option<Vec<String>> {
    if setting.kind.is_list() {
        let items = value.as_array()?;
        return items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
    }
    let word = if setting.kind.is_number() {
        let number = value.as_integer()?;
        // Whatever is too large for this is too large for every setting.
        i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX).to_string()
    } else {
        value.as_str()?.to_owned()
    };
    Some(vec![word])
}

fn foreign(setting: &Setting, role: Role) -> String {
    let owners: Vec<_> = setting.roles.iter().map(|role| role.name()).collect();
    let (key, owners) = (setting.key, owners.join(", "));
    let hint = nearest(key, role).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
    format!("{key} is a setting of drystone {owners}, not of drystone {}{hint}", role.name())
}

fn unknown(name: &str, value: &DeValue<'_>, role: Role) -> String {
    let hint = match nearest(name, role) {
        Some(near) => format!("; did you mean {near:?}?"),
        None if matches!(value, DeValue::Table(_)) => {
            "; settings stand at the top of the file, in no table".to_owned()
        }
        None => format!("; `drystone config show {}` lists those there are", role.name()),
    };
    format!("unknown key {name:?}{hint}")
}
