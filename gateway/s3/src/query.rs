//! The query of a request, decoded once.
//!
//! In: the raw query. Out: names and values in order. `%XX` and `+` are decoded as S3 does; bytes that
//! aren't UTF-8 are refused, and so is a query with more parameters than any S3 request has.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::error::{S3Error, S3ErrorCode};

/// More parameters than the longest legitimate request has (a presigned GET with all overrides).
const PARAMETERS_MAX: usize = 128;

/// Decoded query parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a raw query, without its `?`.
    pub fn parse(raw: Option<&str>) -> Result<Query, S3Error> {
        let Some(raw) = raw else { return Ok(Query::default()) };
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                return Err(S3Error::with(S3ErrorCode::InvalidURI, "Too many query parameters."));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Query { pairs })
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, with any value.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All parameters in the order of the request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

fn decode(raw: &str) -> Result<String, S3Error> {
    let spaced: Cow<'_, str> =
        if raw.contains('+') { Cow::Owned(raw.replace('+', " ")) } else { Cow::Borrowed(raw) };
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| S3Error::with(S3ErrorCode::InvalidURI, "The query isn't valid UTF-8."))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_once_and_in_order() {
        let check = |raw: &str, expected: &[(&str, &str)]| {
            let query = Query::parse(Some(raw)).expect("a query");
            assert_eq!(query.iter().collect::<Vec<_>>(), expected, "{raw}");
        };
        check("", &[]);
        check("acl", &[("acl", "")]);
        check("acl=", &[("acl", "")]);
        check("a=1&&b=2", &[("a", "1"), ("b", "2")]);
        check("prefix=a%2Fb+c%2B%2525", &[("prefix", "a/b c+%25")]);
        check("a=b=c", &[("a", "b=c")]);
        check("k=%C3%A9&k=2", &[("k", "é"), ("k", "2")]);
        check("bad=%zz%4", &[("bad", "%zz%4")]);
        assert!(Query::parse(Some("a=%ff")).is_err());
        assert!(Query::parse(Some(&"a&".repeat(129))).is_err());
    }
}
