//! Bucket names and object keys, parsed once at the border, and where they are decoded.
//!
//! A key is opaque data and never a path: `.`, `..`, `//`, a leading `/` and control characters
//! are all legal (reliability S6).

use std::fmt;

use minicbor::{Decode, Decoder, Encode};

use crate::limits::KEY_BYTES_MAX;

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The bucket name breaks the rules of
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>.
    #[error(
        "a bucket name has 3 to 63 characters of a-z, 0-9, '-' and '.', begins and ends with a letter or digit, has no '..' and is no IP address"
    )]
    InvalidBucketName,
    /// The key has no character.
    #[error("an object key must not be empty")]
    EmptyKey,
    /// The key is longer than S3 allows.
    #[error("an object key must not be longer than 1024 bytes")]
    KeyTooLong,
    /// Not a class name.
    #[error("a storage class has 1 to 32 characters of A-Z, 0-9 and '_', and begins with a letter")]
    InvalidClassName,
}

/// A valid bucket name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct BucketName(String);

impl BucketName {
    /// Checks S3's naming rules for general-purpose buckets.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_bucket_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::InvalidBucketName)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> Decode<'b, C> for BucketName {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(decoder.str()?).map_err(minicbor::decode::Error::custom)
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_bucket_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'.'))
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && !text.contains("..")
        && text.parse::<std::net::Ipv4Addr>().is_err()
        && !text.starts_with("xn--")
        && !text.starts_with("sthree-")
        && !text.ends_with("-s3alias")
        && !text.ends_with("--ol-s3")
}

/// A valid object key: 1 to 1024 bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks the length; any characters are allowed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            Err(NameError::EmptyKey)
        } else if text.len() > KEY_BYTES_MAX {
            Err(NameError::KeyTooLong)
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> Decode<'b, C> for ObjectKey {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(decoder.str()?).map_err(minicbor::decode::Error::custom)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A storage class: what clients name in `x-amz-storage-class`, and operators give a coding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
#[cbor(transparent)]
pub struct ClassName(String);

impl ClassName {
    /// The class of whatever was given no other: its coding is the cluster's own.
    pub const STANDARD: &'static str = "STANDARD";

    /// Checks a class name: 1 to 32 characters of A-Z, 0-9 and '_', a letter first.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let is_class = (1..=32).contains(&bytes.len())
            && bytes.first().is_some_and(u8::is_ascii_uppercase)
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_');
        if is_class { Ok(Self(text.to_owned())) } else { Err(NameError::InvalidClassName) }
    }

    /// [`ClassName::STANDARD`].
    pub fn standard() -> Self {
        Self(Self::STANDARD.to_owned())
    }

    /// Whether it is [`ClassName::STANDARD`].
    pub fn is_standard(&self) -> bool {
        self.0 == Self::STANDARD
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> Decode<'b, C> for ClassName {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(decoder.str()?).map_err(minicbor::decode::Error::custom)
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names() {
        for good in ["abc", "a-b.c", "0ab", &"a".repeat(63)] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            "a..b",
            "192.168.1.1",
            "xn--abc",
            "abc-s3alias",
            "abc--ol-s3",
            "sthree-x",
            "a b",
            "äbc",
            &"a".repeat(64),
        ] {
            assert_eq!(BucketName::parse(bad), Err(NameError::InvalidBucketName), "{bad}");
        }
    }

    #[test]
    fn class_names() {
        for good in ["A", "STANDARD", "STANDARD_IA", "EC_4_2", &"A".repeat(32)] {
            assert!(ClassName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "4EC", "_A", "A-B", "A B", "Ä", &"A".repeat(33)] {
            assert_eq!(ClassName::parse(bad), Err(NameError::InvalidClassName), "{bad}");
        }
        assert!(ClassName::standard().is_standard());
        let foreign = minicbor::to_vec("a b").expect("encoded");
        assert!(minicbor::decode::<ClassName>(&foreign).is_err());
    }

    #[test]
    fn keys_are_opaque() {
        for good in [".", "..", "//", "/", "a/../b", "\u{1}\u{0}\r", &"k".repeat(1024)] {
            assert!(ObjectKey::parse(good).is_ok(), "{good:?}");
        }
        assert_eq!(ObjectKey::parse(""), Err(NameError::EmptyKey));
        assert_eq!(ObjectKey::parse(&"ä".repeat(513)), Err(NameError::KeyTooLong));
    }
}
