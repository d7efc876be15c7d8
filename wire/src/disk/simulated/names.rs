//! The names of a simulated disk: what is seen, what is durable, and the changes in between.
//!
//! A crash keeps of the changes that no sync of their directory covered nothing, everything, a
//! prefix, or any subset. A rename is one change: it happens or it doesn't.

use std::collections::BTreeMap;

use crate::entropy::{Entropy, SeededEntropy};

/// Names with directory prefixes, and the files that they stand for.
#[derive(Default)]
pub(super) struct Names {
    current: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Oldest first, each with its directory.
    pending: Vec<(String, NameChange)>,
}

/// A change of names.
pub(super) enum NameChange {
    Create(String, u64),
    Remove(String),
    Rename(String, String, u64),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to, file) => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.current.get(name).copied()
    }

    /// Names and files as a process sees them, in the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.current.iter().map(|(name, file)| (name.as_str(), *file))
    }

    pub(super) fn change(&mut self, directory: &str, change: NameChange) {
        change.apply(&mut self.current);
        self.pending.push((directory.to_owned(), change));
    }

    pub(super) fn sync(&mut self, directory: &str) {
        let all = std::mem::take(&mut self.pending);
        let (own, others): (Vec<_>, _) = all.into_iter().partition(|(of, _)| of == directory);
        self.pending = others;
        for (_, change) in &own {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn crash(&mut self, entropy: &SeededEntropy) {
        let pending = std::mem::take(&mut self.pending);
        let way = entropy.below(4);
        let kept = entropy.below(pending.len() as u64 + 1) as usize;
        for (number, (_, change)) in pending.iter().enumerate() {
            let survives = match way {
                0 => false,
                1 => true,
                2 => number < kept,
                _ => entropy.below(2) == 0,
            };
            if survives {
                change.apply(&mut self.durable);
            }
        }
        self.current.clone_from(&self.durable);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn outcomes(work: impl Fn(&mut Names)) -> BTreeSet<String> {
        let entropy = SeededEntropy::new(1);
        let outcome = |_| {
            let mut names = Names::default();
            names.change("", NameChange::Create("a".to_owned(), 1));
            names.sync("");
            work(&mut names);
            names.crash(&entropy);
            let all = names.iter().map(|(name, file)| format!("{name}{file} "));
            all.collect::<String>().trim_end().to_owned()
        };
        (0..500).map(outcome).collect()
    }

    fn set(expected: &[&str]) -> BTreeSet<String> {
        expected.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn creations_survive_in_any_subset() {
        let found = outcomes(|names| {
            names.change("", NameChange::Create("b".to_owned(), 2));
            names.change("", NameChange::Create("c".to_owned(), 3));
        });
        assert_eq!(found, set(&["a1", "a1 b2", "a1 c3", "a1 b2 c3"]));
    }

    #[test]
    fn a_removal_may_come_back_and_a_rename_is_one_change() {
        let found = outcomes(|names| names.change("", NameChange::Remove("a".to_owned())));
        assert_eq!(found, set(&["", "a1"]));
        let found = outcomes(|names| {
            names.change("", NameChange::Create("t".to_owned(), 2));
            names.change("", NameChange::Rename("t".to_owned(), "a".to_owned(), 2));
        });
        assert_eq!(found, set(&["a1", "a1 t2", "a2"]));
    }

    #[test]
    fn a_directory_is_synced_by_itself() {
        let found = outcomes(|names| {
            names.change("", NameChange::Create("b".to_owned(), 2));
            names.change("d/", NameChange::Create("d/c".to_owned(), 3));
            names.sync("");
        });
        assert_eq!(found, set(&["a1 b2", "a1 b2 d/c3"]));
    }
}
