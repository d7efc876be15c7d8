//! Byte ranges: of a GET, where anything odd means the whole object, and of a copy's source, where
//! anything odd is an error.
//!
//! In: the header and the object's size. Out: the bytes to send. Arithmetic is checked; an answer
//! always lies within the object.

use crate::error::{S3Error, S3ErrorCode};

/// A `Range` header that S3 honours: one range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=first-last`, inclusive.
    Between {
        /// The first byte.
        first: u64,
        /// The last byte; may lie past the end.
        last: u64,
    },
    /// `bytes=first-`.
    From {
        /// The first byte.
        first: u64,
    },
    /// `bytes=-length`: the last bytes.
    Last {
        /// How many.
        length: u64,
    },
}

/// Bytes of an object: never reaches past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// How many bytes, never 0.
    pub length: u64,
}

impl ByteRange {
    /// The `Content-Range` of a 206.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.start, self.start + self.length - 1)
    }
}

impl RangeRequest {
    /// Reads a `Range` header. `None` for other units, several ranges and nonsense: S3 then sends the
    /// whole object with 200, as RFC 9110 allows.
    pub fn parse(header: &str) -> Option<RangeRequest> {
        let spec = header.trim();
        let unit = spec.get(..6)?;
        if !unit.eq_ignore_ascii_case("bytes=") {
            return None;
        }
        let (first, last) = spec.get(6..)?.trim().split_once('-')?;
        match (first.trim_end(), last.trim_start()) {
            ("", length) => Some(RangeRequest::Last { length: number(length)? }),
            (first, "") => Some(RangeRequest::From { first: number(first)? }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(RangeRequest::Between { first, last })
            }
        }
    }

    /// The bytes that the range means in an object of `size` bytes, or `InvalidRange`.
    pub fn resolve(self, size: u64) -> Result<ByteRange, S3Error> {
        let range = match self {
            RangeRequest::Between { first, last } if first < size => {
                Some(ByteRange { start: first, length: last.min(size - 1) - first + 1 })
            }
            RangeRequest::From { first } if first < size => {
                Some(ByteRange { start: first, length: size - first })
            }
            RangeRequest::Last { length } if length > 0 && size > 0 => {
                let length = length.min(size);
                Some(ByteRange { start: size - length, length })
            }
            RangeRequest::Between { .. }
            | RangeRequest::From { .. }
            | RangeRequest::Last { .. } => None,
        };
        range.ok_or_else(|| {
            S3Error::new(S3ErrorCode::InvalidRange)
                .field("RangeRequested", self.to_string())
                .field("ActualObjectSize", size.to_string())
        })
    }
}

impl std::fmt::Display for RangeRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RangeRequest::Between { first, last } => write!(f, "bytes={first}-{last}"),
            RangeRequest::From { first } => write!(f, "bytes={first}-"),
            RangeRequest::Last { length } => write!(f, "bytes=-{length}"),
        }
    }
}

/// Reads `x-amz-copy-source-range`: only `bytes=first-last` will do.
pub fn parse_copy_source(header: &str) -> Result<RangeRequest, S3Error> {
    match RangeRequest::parse(header) {
        Some(range @ RangeRequest::Between { .. }) => Ok(range),
        _ => Err(S3Error::invalid_argument(
            "x-amz-copy-source-range",
            header,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
        )),
    }
}

/// The bytes of a copy's source: unlike those of a GET they must all be there.
pub fn resolve_copy_source(range: RangeRequest, size: u64) -> Result<ByteRange, S3Error> {
    if let RangeRequest::Between { last, .. } = range
        && last >= size
    {
        return Err(S3Error::with(
            S3ErrorCode::InvalidArgument,
            format!("Range specified is not valid for source object of size: {size}"),
        ));
    }
    range.resolve(size)
}

fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number too large for u64 lies past every object's end, as the largest u64 does.
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_of_a_ten_byte_object() {
        let check = |header: &str, expected: Option<Option<(u64, u64)>>| {
            let found = RangeRequest::parse(header)
                .map(|range| range.resolve(10).ok().map(|bytes| (bytes.start, bytes.length)));
            assert_eq!(found, expected, "{header}");
        };
        check("bytes=0-0", Some(Some((0, 1))));
        check("bytes=0-9", Some(Some((0, 10))));
        check("bytes=0-99", Some(Some((0, 10))));
        check("bytes=9-9", Some(Some((9, 1))));
        check("bytes=10-10", Some(None));
        check("bytes=3-", Some(Some((3, 7))));
        check("bytes=10-", Some(None));
        check("bytes=-3", Some(Some((7, 3))));
        check("bytes=-99", Some(Some((0, 10))));
        check("bytes=-0", Some(None));
        check("Bytes=1-2", Some(Some((1, 2))));
        check("bytes= 1 - 2 ", Some(Some((1, 2))));
        check("bytes=0-99999999999999999999999", Some(Some((0, 10))));
        check("bytes=99999999999999999999999-", Some(None));
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1",
            "bytes=1-2-3",
            "bytesé0-1",
        ] {
            check(header, None);
        }
    }

    #[test]
    fn nothing_of_an_empty_object_satisfies() {
        for header in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
            let error =
                RangeRequest::parse(header).expect("a range").resolve(0).expect_err("empty");
            assert_eq!(error.code, S3ErrorCode::InvalidRange);
            assert_eq!(error.content_range().as_deref(), Some("bytes */0"));
        }
    }

    #[test]
    fn copy_ranges_are_strict() {
        let check = |header: &str, expected: Option<(u64, u64)>| {
            let found = parse_copy_source(header)
                .and_then(|range| resolve_copy_source(range, 10))
                .ok()
                .map(|bytes| (bytes.start, bytes.length));
            assert_eq!(found, expected, "{header}");
        };
        check("bytes=0-9", Some((0, 10)));
        check("bytes=0-10", None);
        check("bytes=3-", None);
        check("bytes=-3", None);
        check("0-9", None);
    }

    proptest! {
        #[test]
        fn a_resolved_range_lies_within_the_object(first: u64, last: u64, size: u64, kind in 0..3) {
            let header = match kind {
                0 => format!("bytes={first}-{last}"),
                1 => format!("bytes={first}-"),
                _ => format!("bytes=-{last}"),
            };
            if let Some(Ok(range)) = RangeRequest::parse(&header).map(|range| range.resolve(size)) {
                prop_assert!(range.length > 0);
                prop_assert!(range.start.checked_add(range.length).is_some_and(|end| end <= size));
            }
        }

        #[test]
        fn no_header_panics(header: String) {
            let _ = RangeRequest::parse(&header);
            let _ = parse_copy_source(&header);
        }
    }
}
