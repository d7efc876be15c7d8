//! Which setting was meant by a name that is none.

use super::table::{self, Role, settings_of};

/// The key of `role` that the operator most likely meant, if any is near.
pub fn nearest(name: &str, role: Role) -> Option<&'static str> {
    let name = name.replace('-', "_").to_ascii_lowercase();
    let allowed = (name.chars().count() / 3).max(1);
    settings_of(role)
        .map(|setting| (strsim::damerau_levenshtein(&name, setting.key), setting.key))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Letters by which a variable may differ from one of ours and still be taken for it; fewer where
/// the name is short.
const SLIP_MAX: usize = 2;

/// A warning for each variable of the environment that is almost one of ours. Others begin with
/// DRYSTONE_ too, so that only these are worth a word; and only their names: values are secret.
pub fn misspelt_variables(role: Role) -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| almost(name.to_str()?, role))
        .map(|(name, meant)| {
            format!("the environment variable {name} is no setting; did you mean {meant}?")
        })
        .collect()
}

fn almost(name: &str, role: Role) -> Option<(String, String)> {
    let key = name.strip_prefix("DRYSTONE_")?.to_ascii_lowercase();
    if table::find(&key).is_some() {
        return None;
    }
    let near = settings_of(role).find(|setting| {
        let allowed = (setting.key.len() / 3).min(SLIP_MAX);
        strsim::damerau_levenshtein(&key, setting.key) <= allowed
    })?;
    Some((name.to_owned(), near.environment()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_almost_a_variable_of_ours_is_taken_for_one() {
        let check = |name: &str, expected: Option<&str>| {
            let meant = almost(name, Role::Gateway).map(|(_, meant)| meant);
            assert_eq!(meant.as_deref(), expected, "{name}");
        };
        check("DRYSTONE_LISEN", Some("DRYSTONE_LISTEN"));
        check("DRYSTONE_DOMAINS", Some("DRYSTONE_DOMAIN"));
        check("DRYSTONE_LISTEN", None);
        check("DRYSTONE_CODING", None);
        check("DRYSTONE_JOIN_TOKEN", None);
        check("DRYSTONE_BIG", None);
        check("DRYSTONE_CONFIG", None);
        check("DRYSTONE_ADMIN_ENDPOINT", None);
        check("LISEN", None);
    }
}
