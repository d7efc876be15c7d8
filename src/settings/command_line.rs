//! The command line of a role, made from the table: flags, arguments, their help and their
//! environment variables.
//!
//! Clap tells which words were given and by whom; whether they make sense is decided with those
//! of the file, so that all mistakes are told at once.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::decided::RoleSettings;
use super::effective::Effective;
use super::mistakes::Mistakes;
use super::origin::Origin;
use super::table::{Fallback, Form, Role, Setting, settings_of};

const CONFIG: &str = "config";

/// The words that one place gives for one setting.
pub struct Given {
    /// The setting.
    pub setting: &'static Setting,
    /// The words.
    pub words: Vec<OsString>,
    /// The place.
    pub origin: Origin,
}

/// The command line of the role whose settings are `S`.
pub struct Arguments<S> {
    given: Vec<Given>,
    config: Option<PathBuf>,
    settings: PhantomData<fn() -> S>,
}

impl<S: RoleSettings> Arguments<S> {
    /// Decides every setting: flag over environment over file over default.
    pub fn resolve(&self) -> Result<S, Mistakes> {
        let (effective, mut mistakes) = self.effective();
        match S::decide(&effective, &mut mistakes) {
            Some(settings) if mistakes.is_empty() => Ok(settings),
            _ => Err(mistakes),
        }
    }

    /// Every value with its origin, and what is wrong with them.
    pub fn effective(&self) -> (Effective, Mistakes) {
        let mut mistakes = Mistakes::default();
        let config = self.config.as_deref();
        let effective = Effective::gather(S::ROLE, &self.given, config, &mut mistakes);
        (effective, mistakes)
    }
}

/// Tells which settings were given, and no value: some are secret.
impl<S> fmt::Debug for Arguments<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.given.iter().map(|given| given.setting.key);
        f.debug_set().entries(given).finish()
    }
}

impl<S: RoleSettings> Args for Arguments<S> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .env("DRYSTONE_CONFIG")
            .value_parser(value_parser!(PathBuf))
            .help("A TOML file with the same settings, named as the flags, with _ for -");
        command.args(settings_of(S::ROLE).map(|setting| argument(setting, S::ROLE))).arg(config)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: RoleSettings> FromArgMatches for Arguments<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = settings_of(S::ROLE).filter_map(|setting| given(setting, matches)).collect();
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        Ok(Self { given, config, settings: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn argument(setting: &'static Setting, role: Role) -> Arg {
    let argument = Arg::new(setting.key)
        .value_name(setting.value_name)
        .env(setting.environment())
        .hide_env_values(setting.is_secret)
        .value_parser(value_parser!(OsString))
        .help(help(setting, role));
    let argument = match setting.form {
        Form::Flag => argument.long(setting.long()),
        Form::Argument if setting.kind.is_list() => argument.num_args(0..),
        Form::Argument => argument,
    };
    if setting.kind.is_list() {
        argument.action(ArgAction::Append).value_delimiter(',')
    } else {
        argument
    }
}

fn help(setting: &Setting, role: Role) -> String {
    let help = setting.help;
    match (setting.fallback)(role) {
        Fallback::Values(values) if values.len() > 1 => {
            format!("{help} [default: {} to {}]", values[0], values[values.len() - 1])
        }
        Fallback::Values(values) => format!("{help} [default: {}]", values.concat()),
        Fallback::InHostDirectory(name) => {
            format!("{help} [default: {name} in the host directory]")
        }
        Fallback::Unset(meaning) => format!("{help} [default: {meaning}]"),
        Fallback::Required => format!("{help} [required]"),
    }
}

fn given(setting: &'static Setting, matches: &ArgMatches) -> Option<Given> {
    let origin = match matches.value_source(setting.key)? {
        ValueSource::CommandLine if setting.form == Form::Flag => Origin::Flag(setting.flag()),
        ValueSource::CommandLine => Origin::Argument(setting.value_name),
        ValueSource::EnvVariable => Origin::Environment(setting.environment()),
        _ => return None,
    };
    let words = matches.get_raw(setting.key)?.map(OsString::from).collect();
    Some(Given { setting, words, origin })
}
