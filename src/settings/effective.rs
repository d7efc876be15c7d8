//! The settings in force: for each setting of a role the value that won, and where it comes from.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use model::coding::Coding;

use super::command_line::Given;
use super::file;
use super::meant::misspelt_variables;
use super::mistakes::Mistakes;
use super::origin::Origin;
use super::table::{Fallback, Role, Setting, key, settings_of};
use super::together;
use super::value::{LogFormat, Value};

/// A setting with what holds for it.
pub struct Row {
    /// The setting.
    pub setting: &'static Setting,
    /// Its value, unless it is unset, or wrong, which is a mistake.
    pub value: Option<Value>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// All settings of a role.
pub struct Effective {
    /// The role.
    pub role: Role,
    /// The settings, in the order of the table.
    pub rows: Vec<Row>,
    /// What is allowed but unwise.
    pub warnings: Vec<String>,
}

impl Effective {
    /// Reads the file, and decides between it, `given` by the command line, and the defaults.
    /// Every value that anybody gave is checked, also where another wins, and then all together.
    /// Reads no file but `config`.
    pub fn gather(
        role: Role,
        given: &[Given],
        config: Option<&Path>,
        mistakes: &mut Mistakes,
    ) -> Self {
        let file = config.map(|path| file::read(path, role, mistakes)).unwrap_or_default();
        let mut rows = Vec::new();
        for setting in settings_of(role) {
            let of_setting = |given: &&Given| given.setting.key == setting.key;
            let mut row = None;
            for given in given.iter().chain(&file.given).filter(of_setting) {
                let value = setting.kind.parse(&given.words).ok();
                if value.is_none() {
                    mistakes.add_value(setting, &given.words, &given.origin);
                }
                row.get_or_insert(Row { setting, value, origin: given.origin.clone() });
            }
            rows.push(row.unwrap_or_else(|| fallback(setting, role)));
        }
        let mut warnings = file.warnings;
        warnings.extend(misspelt_variables(role));
        let mut effective = Self { role, rows, warnings };
        effective.place_in_host_directory();
        effective.miss_required(mistakes);
        together::check(&effective, mistakes);
        effective
    }

    fn place_in_host_directory(&mut self) {
        let Some(host_directory) = self.path(key::HOST_DIRECTORY) else { return };
        for row in &mut self.rows {
            let fallback = (row.setting.fallback)(self.role);
            if let (Fallback::InHostDirectory(name), Origin::Default) = (fallback, &row.origin) {
                row.value = Some(Value::Path(host_directory.join(name)));
            }
        }
    }

    fn miss_required(&self, mistakes: &mut Mistakes) {
        for Row { setting, origin, .. } in &self.rows {
            let is_required = (setting.fallback)(self.role) == Fallback::Required;
            if is_required && *origin == Origin::Default {
                let (key, role) = (setting.key, self.role.name());
                mistakes.add_overall(format!(
                    "{key} is not given, and drystone {role} needs it: expected {}",
                    setting.kind.expected()
                ));
            }
        }
    }

    fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.setting.key == key)
    }

    /// Where the value of a setting comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.row(key).map_or(Origin::Default, |row| row.origin.clone())
    }

    /// The value of an address.
    pub fn address(&self, key: &str) -> Option<SocketAddr> {
        match self.row(key)?.value {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        }
    }

    /// The value of a path.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        match &self.row(key)?.value {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    /// The value of a list of paths.
    pub fn paths(&self, key: &str) -> Option<Vec<PathBuf>> {
        match &self.row(key)?.value {
            Some(Value::Paths(paths)) => Some(paths.clone()),
            _ => None,
        }
    }

    /// The value of a text.
    pub fn text(&self, key: &str) -> Option<String> {
        match &self.row(key)?.value {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// The value of a list of texts.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        match &self.row(key)?.value {
            Some(Value::Texts(texts)) => Some(texts.clone()),
            _ => None,
        }
    }

    /// The value of a coding.
    pub fn coding(&self, key: &str) -> Option<Coding> {
        match self.row(key)?.value {
            Some(Value::Coding(coding)) => Some(coding),
            _ => None,
        }
    }

    /// The value of a number of seconds.
    pub fn seconds(&self, key: &str) -> Option<u64> {
        match self.row(key)?.value {
            Some(Value::Seconds(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// The value of how many are kept.
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.row(key)?.value {
            Some(Value::Count(count)) => Some(count),
            _ => None,
        }
    }

    /// The value of a form of log lines.
    pub fn log_format(&self, key: &str) -> Option<LogFormat> {
        match self.row(key)?.value {
            Some(Value::LogFormat(format)) => Some(format),
            _ => None,
        }
    }
}

fn fallback(setting: &'static Setting, role: Role) -> Row {
    let value = match (setting.fallback)(role) {
        Fallback::Values(values) => {
            let words: Vec<OsString> = values.iter().map(Into::into).collect();
            setting.kind.parse(&words).ok()
        }
        Fallback::InHostDirectory(_) | Fallback::Unset(_) | Fallback::Required => None,
    };
    Row { setting, value, origin: Origin::Default }
}
