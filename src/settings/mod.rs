//! The settings of every role: flag over environment over file over default.
//!
//! One [`table`] says which settings there are and derives all their names. Clap reads flags and
//! environment ([`command_line`]), [`file`] the TOML file; both give words with their origin,
//! which [`effective`] checks, orders and keeps, and of which [`decided`] makes the settings of a
//! role, in which everything is valid. Mistakes are told all at once ([`mistakes`]), and neither
//! they nor anything else here shows a secret. Nothing else of the program reads the environment.

mod command_line;
mod decided;
mod effective;
mod file;
mod meant;
mod mistakes;
mod origin;
mod remote_backups;
mod table;
mod together;
mod value;

#[cfg(test)]
mod tests;

pub use command_line::Arguments;
pub use decided::{
    GatewaySettings, MetadataSettings, RoleSettings, RootCredentials, ServerSettings,
    StorageNodeSettings, TlsFiles,
};
pub use effective::{Effective, Row};
pub use mistakes::Mistakes;
pub use remote_backups::unwise as unwise_backups;
pub use table::{Fallback, key};
pub use together::readable_by_others;
pub use value::LogFormat;

/// The command line of `drystone server`.
pub type ServerArguments = Arguments<ServerSettings>;
/// The command line of `drystone metadata`.
pub type MetadataArguments = Arguments<MetadataSettings>;
/// The command line of `drystone storage-node DIR…`.
pub type StorageNodeArguments = Arguments<StorageNodeSettings>;
/// The command line of `drystone gateway`.
pub type GatewayArguments = Arguments<GatewaySettings>;
