//! What is wrong with settings: all of it at once, each with its origin, and never a secret.

use std::ffi::{OsStr, OsString};
use std::fmt;

use super::origin::Origin;
use super::table::Setting;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mistake {
    /// Where it is, when it is in one place.
    origin: Option<Origin>,
    /// What is wrong, and what would be right.
    problem: String,
}

/// All that is wrong, in the order in which it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    list: Vec<Mistake>,
}

impl Mistakes {
    /// Notes what is wrong in one place.
    pub fn add(&mut self, origin: &Origin, problem: impl Into<String>) {
        let origin = (*origin != Origin::Default).then(|| origin.clone());
        self.list.push(Mistake { origin, problem: problem.into() });
    }

    /// Notes what is wrong without a place: something is missing, or doesn't fit together.
    pub fn add_overall(&mut self, problem: impl Into<String>) {
        self.list.push(Mistake { origin: None, problem: problem.into() });
    }

    /// Notes a value that its setting doesn't take. A secret's is not told.
    pub fn add_value(&mut self, setting: &Setting, words: &[OsString], origin: &Origin) {
        let shown = match words {
            _ if setting.is_secret => "***".to_owned(),
            [word] if !setting.kind.is_list() => quote(word),
            words => {
                format!("[{}]", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(", "))
            }
        };
        let (key, expected) = (setting.key, setting.kind.expected());
        self.add(origin, format!("{key} = {shown}: expected {expected}"));
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One line for each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|mistake| match &mistake.origin {
            Some(origin) => format!("{origin}: {}", mistake.problem),
            None => mistake.problem.clone(),
        })
    }
}

/// The word on one line, whatever it holds.
fn quote(word: &OsStr) -> String {
    format!("\"{}\"", word.to_string_lossy().escape_debug())
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these settings can't be used:")?;
        self.lines().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl std::error::Error for Mistakes {}
