//! Where the value of a setting comes from, as it is told to the operator.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Later ones give way to earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line, with its dashes.
    Flag(String),
    /// An argument of the command line, by the name that the help gives it.
    Argument(&'static str),
    /// An environment variable.
    Environment(String),
    /// The settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nobody gave one.
    Default,
}

impl Origin {
    /// Whether this origin beats others; the command line is highest.
    pub const fn rank(&self) -> u8 {
        match self {
            Self::Flag(_) | Self::Argument(_) => 3,
            Self::Environment(_) => 2,
            Self::File { .. } => 1,
            Self::Default => 0,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Argument(name) => write!(f, "argument {name}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            // A name may hold anything but must stay on its line.
            Self::File { path, line } => {
                write!(f, "file {}:{line}", path.to_string_lossy().escape_debug())
            }
            Self::Default => f.write_str("default"),
        }
    }
}
