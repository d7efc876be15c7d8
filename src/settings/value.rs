//! Values of settings: the kinds there are, what each takes, and how each is written as TOML.
//!
//! In come the words of a flag, an environment variable or the file, all the same by then; out
//! comes a valid [`Value`], or what would have been one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use gateway::remote_store::Endpoint;
use model::coding::Coding;
use model::names::BucketName;
use tracing_subscriber::EnvFilter;

/// Garbage is not kept longer than a year: the disks would fill with it.
const SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// More backups than this are no longer listed in one go where they are kept.
const COUNT_MAX: u64 = 500;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IP address and a port.
    Address,
    /// A file or directory.
    Path,
    /// Files or directories, at least one.
    Paths,
    /// Host names, at least one.
    Domains,
    /// A coding.
    Coding,
    /// Whole seconds.
    Seconds,
    /// How many of something are kept.
    Count,
    /// A region's name.
    Region,
    /// An S3 endpoint.
    Endpoint,
    /// A bucket's name.
    Bucket,
    /// What keys begin with.
    KeyPrefix,
    /// A filter of log lines.
    LogFilter,
    /// A form of log lines.
    LogFormat,
    /// An S3 access key.
    AccessKey,
    /// An S3 secret key.
    SecretKey,
}

/// The value of a setting.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// An IP address and a port.
    Address(SocketAddr),
    /// A file or directory.
    Path(PathBuf),
    /// Files or directories.
    Paths(Vec<PathBuf>),
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A coding.
    Coding(Coding),
    /// Seconds.
    Seconds(u64),
    /// How many.
    Count(u64),
    /// A form of log lines.
    LogFormat(LogFormat),
}

impl Kind {
    /// Whether it takes several words, of which the environment separates the words by commas.
    pub const fn is_list(self) -> bool {
        matches!(self, Self::Paths | Self::Domains)
    }

    /// Whether the file writes it as a number.
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Seconds | Self::Count)
    }

    /// What it takes, to follow "expected".
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Address => "an IP address and a port, such as 127.0.0.1:9000 or [::]:9000",
            Self::Path => "a path",
            Self::Paths => "paths, at least one and none of them empty",
            Self::Domains => "host names such as s3.example.com, without scheme and port",
            Self::Coding => {
                "K+M such as 4+2: 1 to 16 data shards and 0 to 4 parity shards of each stripe"
            }
            Self::Seconds => "a whole number of seconds, at most a year",
            Self::Count => "a whole number from 1 to 500",
            Self::Region => "a region such as us-east-1, of letters, digits, - and _",
            Self::Endpoint => {
                "http:// or https:// and a host, such as https://s3.example.com or http://10.0.0.1:9000"
            }
            Self::Bucket => "a bucket's name, such as backups",
            Self::KeyPrefix => "at most 200 letters, digits or any of - _ . /",
            Self::LogFilter => "a log filter such as info or warn,engine=debug",
            Self::LogFormat => "text or json",
            Self::AccessKey => "3 to 128 letters, digits or any of - _ . + = @",
            Self::SecretKey => "at least 8 characters",
        }
    }

    /// How the file writes it, to follow "expected".
    pub const fn expected_in_file(self) -> &'static str {
        match self {
            _ if self.is_list() => "a list of texts, such as [\"one\", \"two\"]",
            _ if self.is_number() => "a whole number without quotes",
            _ => "one text in quotes",
        }
    }

    /// Reads the words; `Err` says nothing but that they are not what [`Kind::expected`] tells.
    pub fn parse(self, words: &[OsString]) -> Result<Value, NotExpected> {
        match self {
            Self::Path => match words {
                [path] if !path.is_empty() => Ok(Value::Path(path.into())),
                _ => Err(NotExpected),
            },
            Self::Paths if words.is_empty() || words.iter().any(|path| path.is_empty()) => {
                Err(NotExpected)
            }
            Self::Paths => Ok(Value::Paths(words.iter().map(PathBuf::from).collect())),
            Self::Domains => {
                let texts: Option<Vec<_>> = words.iter().map(|word| word.to_str()).collect();
                let texts = texts.filter(|texts| !texts.is_empty()).ok_or(NotExpected)?;
                require(texts.iter().all(|text| is_host_name(text)))?;
                Ok(Value::Texts(texts.into_iter().map(str::to_owned).collect()))
            }
            _ => match words {
                [word] => self.parse_text(word.to_str().ok_or(NotExpected)?),
                _ => Err(NotExpected),
            },
        }
    }

    fn parse_text(self, text: &str) -> Result<Value, NotExpected> {
        match self {
            Self::Address => text.parse().map(Value::Address).map_err(|_| NotExpected),
            Self::Coding => Coding::parse(text).map(Value::Coding).map_err(|_| NotExpected),
            Self::Seconds => match text.parse() {
                Ok(seconds) if seconds <= SECONDS_MAX => Ok(Value::Seconds(seconds)),
                _ => Err(NotExpected),
            },
            Self::Count => match text.parse() {
                Ok(count) if (1..=COUNT_MAX).contains(&count) => Ok(Value::Count(count)),
                _ => Err(NotExpected),
            },
            Self::LogFormat => match text {
                "text" => Ok(Value::LogFormat(LogFormat::Text)),
                "json" => Ok(Value::LogFormat(LogFormat::Json)),
                _ => Err(NotExpected),
            },
            Self::Region => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                require((1..=64).contains(&text.len()) && text.bytes().all(plain))?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::Endpoint => {
                require(Endpoint::parse(text).is_some())?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::Bucket => {
                require(BucketName::parse(text).is_ok())?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::KeyPrefix => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
                require(text.len() <= 200 && text.bytes().all(plain))?;
                // What no client sends as it is.
                require(text.split('/').all(|name| name != "." && name != ".."))?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::LogFilter => {
                require(!text.trim().is_empty() && EnvFilter::try_new(text).is_ok())?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::AccessKey => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+=@".contains(&byte);
                require((3..=128).contains(&text.len()) && text.bytes().all(plain))?;
                Ok(Value::Text(text.to_owned()))
            }
            Self::SecretKey => {
                require(text.len() >= 8)?;
                Ok(Value::Text(text.to_owned()))
            }
            // Read by `parse` itself.
            Self::Path | Self::Paths | Self::Domains => Err(NotExpected),
        }
    }
}

/// The words are not what the kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotExpected;

fn require(holds: bool) -> Result<(), NotExpected> {
    if holds { Ok(()) } else { Err(NotExpected) }
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

impl Value {
    /// The value as TOML.
    pub fn to_toml(&self) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        match self {
            Self::Address(address) => text(&address.to_string()),
            Self::Path(path) => text(&path.to_string_lossy()),
            Self::Paths(paths) => {
                list(paths.iter().map(|path| text(&path.to_string_lossy())).collect())
            }
            Self::Text(value) => text(value),
            Self::Texts(values) => list(values.iter().map(|value| text(value)).collect()),
            Self::Coding(coding) => text(&coding.to_string()),
            Self::Seconds(number) | Self::Count(number) => number.to_string(),
            Self::LogFormat(LogFormat::Text) => text("text"),
            Self::LogFormat(LogFormat::Json) => text("json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<OsString> {
        texts.iter().map(Into::into).collect()
    }

    #[test]
    fn each_kind_takes_what_it_says() {
        let check = |kind: Kind, texts: &[&str], expected: &str| {
            let value = kind.parse(&words(texts)).expect("taken");
            assert_eq!(value.to_toml(), expected, "{kind:?}");
        };
        check(Kind::Address, &["[::1]:9000"], "\"[::1]:9000\"");
        check(Kind::Path, &["/a b"], "\"/a b\"");
        check(Kind::Paths, &["/a", "b"], "[\"/a\", \"b\"]");
        check(
            Kind::Domains,
            &["s3.example.com", "localhost"],
            "[\"s3.example.com\", \"localhost\"]",
        );
        check(Kind::Coding, &["4+2"], "\"4+2\"");
        check(Kind::Seconds, &["0"], "0");
        check(Kind::Count, &["500"], "500");
        check(Kind::Region, &["eu-west-1"], "\"eu-west-1\"");
        check(Kind::Endpoint, &["https://s3.example.com"], "\"https://s3.example.com\"");
        check(Kind::Bucket, &["backups"], "\"backups\"");
        check(Kind::KeyPrefix, &["of/drystone/"], "\"of/drystone/\"");
        check(Kind::KeyPrefix, &[""], "\"\"");
        check(Kind::LogFilter, &["warn,engine=debug"], "\"warn,engine=debug\"");
        check(Kind::LogFormat, &["json"], "\"json\"");
        check(Kind::AccessKey, &["operator"], "\"operator\"");
        check(Kind::SecretKey, &["chosen-by-hand"], "\"chosen-by-hand\"");
    }

    #[test]
    fn and_nothing_else() {
        let check = |kind: Kind, texts: &[&str]| {
            assert!(kind.parse(&words(texts)).is_err(), "{kind:?} takes {texts:?}");
        };
        check(Kind::Address, &["localhost:9000"]);
        check(Kind::Address, &["127.0.0.1"]);
        check(Kind::Address, &["127.0.0.1:1", "127.0.0.1:2"]);
        check(Kind::Path, &[""]);
        check(Kind::Paths, &[]);
        check(Kind::Paths, &["a", ""]);
        check(Kind::Domains, &["https://s3.example.com"]);
        check(Kind::Domains, &["s3.example.com:9000"]);
        check(Kind::Domains, &[".example.com"]);
        check(Kind::Coding, &["17+2"]);
        check(Kind::Seconds, &["-1"]);
        check(Kind::Count, &["0"]);
        check(Kind::Count, &["501"]);
        check(Kind::Seconds, &["1.5"]);
        check(Kind::Seconds, &["99999999999"]);
        check(Kind::Region, &["us/east"]);
        check(Kind::Region, &[""]);
        check(Kind::Endpoint, &["s3.example.com:9000"]);
        check(Kind::Endpoint, &["https://s3.example.com/bucket"]);
        check(Kind::Bucket, &["UPPER/case"]);
        check(Kind::KeyPrefix, &["a b"]);
        check(Kind::KeyPrefix, &["a/../b"]);
        check(Kind::LogFilter, &["a=b=c"]);
        check(Kind::LogFilter, &[""]);
        check(Kind::LogFormat, &["JSON"]);
        check(Kind::AccessKey, &["ab"]);
        check(Kind::AccessKey, &["with space"]);
        check(Kind::SecretKey, &["short"]);
    }
}
