//! Multipart arithmetic and names: part numbers, upload ids, sizes and entity tags.
//!
//! In: what the client wrote, or what the parts are. Out: checked values. The limits are S3's and come
//! from `model::limits`; sizes are summed without overflow.

use kernels::md5::Md5;
use model::ids::UploadId;
use model::limits::{OBJECT_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, PUT_BYTES_MAX};
use model::version::ETag;

use crate::condition::bare_etag;
use crate::error::{S3Error, S3ErrorCode};
use crate::query::Query;

/// The `partNumber` of an upload of a part: 1 to 10,000.
pub fn part_number(query: &Query) -> Result<u16, S3Error> {
    let text = query.get("partNumber").unwrap_or_default();
    parse_part_number(text).ok_or_else(|| {
        S3Error::invalid_argument(
            "partNumber",
            text,
            "Part number must be an integer between 1 and 10000, inclusive",
        )
    })
}

/// The `partNumber` of a GET or HEAD, if there is one.
pub fn read_part_number(query: &Query) -> Result<Option<u16>, S3Error> {
    if query.contains("partNumber") { part_number(query).map(Some) } else { Ok(None) }
}

fn parse_part_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u16 = text.parse().ok().filter(|_| digits)?;
    (1..=PARTS_MAX).contains(&u32::from(number)).then_some(number)
}

/// The `uploadId` of a request. One that can't be ours names no upload.
pub fn upload_id(query: &Query) -> Result<UploadId, S3Error> {
    let text = query.get("uploadId").unwrap_or_default();
    UploadId::parse(text)
        .ok_or_else(|| S3Error::new(S3ErrorCode::NoSuchUpload).field("UploadId", text))
}

/// Refuses a body that is too large for one PutObject or UploadPart.
pub fn check_put_bytes(bytes: u64) -> Result<(), S3Error> {
    if bytes <= PUT_BYTES_MAX {
        return Ok(());
    }
    Err(S3Error::new(S3ErrorCode::EntityTooLarge)
        .field("ProposedSize", bytes.to_string())
        .field("MaxSizeAllowed", PUT_BYTES_MAX.to_string()))
}

/// Checks the sizes of the parts that make an object, in their order, and sums them.
pub fn object_bytes(parts: impl IntoIterator<Item = (u16, u64)>) -> Result<u64, S3Error> {
    let mut total = 0u64;
    let mut before: Option<(u16, u64)> = None;
    for (number, bytes) in parts {
        if let Some((small, size)) = before.filter(|(_, size)| *size < PART_BYTES_MIN) {
            return Err(S3Error::new(S3ErrorCode::EntityTooSmall)
                .field("ProposedSize", size.to_string())
                .field("MinSizeAllowed", PART_BYTES_MIN.to_string())
                .field("PartNumber", small.to_string()));
        }
        total = total.saturating_add(bytes);
        before = Some((number, bytes));
    }
    if total > OBJECT_BYTES_MAX {
        return Err(S3Error::new(S3ErrorCode::EntityTooLarge)
            .field("ProposedSize", total.to_string())
            .field("MaxSizeAllowed", OBJECT_BYTES_MAX.to_string()));
    }
    Ok(total)
}

/// The entity tag of a multipart object: the MD5 of its parts' MD5s, and how many.
pub fn etag<'a>(parts: impl IntoIterator<Item = &'a [u8; 16]>) -> ETag {
    let mut digest = Md5::new();
    let mut count = 0u32;
    for md5 in parts {
        digest.update(md5);
        count += 1;
    }
    ETag { md5: digest.finish(), parts: Some(count) }
}

/// Reads an entity tag of ours, with or without quotes; `None` for one that no object can have.
pub fn parse_etag(text: &str) -> Option<ETag> {
    let text = bare_etag(text);
    let (digest, parts) = match text.split_once('-') {
        None => (text, None),
        Some((digest, parts)) => (digest, Some(u32::from(parse_part_number(parts)?))),
    };
    let mut md5 = [0u8; 16];
    hex::decode_to_slice(digest, &mut md5).ok()?;
    Some(ETag { md5, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_numbers() {
        let check = |raw: &str, expected: Option<u16>| {
            let query = Query::parse(Some(raw)).expect("a query");
            assert_eq!(part_number(&query).ok(), expected, "{raw}");
        };
        check("partNumber=1", Some(1));
        check("partNumber=10000", Some(10_000));
        check("partNumber=0001", Some(1));
        for raw in [
            "",
            "partNumber",
            "partNumber=0",
            "partNumber=10001",
            "partNumber=-1",
            "partNumber=%2B1",
            "partNumber=1.0",
            "partNumber=99999999999999999999",
        ] {
            check(raw, None);
        }
    }

    #[test]
    fn sizes() {
        let code = |parts: &[u64]| {
            object_bytes((1..).zip(parts.iter().copied())).map_err(|error| error.code)
        };
        assert_eq!(code(&[]), Ok(0));
        assert_eq!(code(&[1]), Ok(1));
        assert_eq!(code(&[PART_BYTES_MIN, 1]), Ok(PART_BYTES_MIN + 1));
        assert_eq!(code(&[PART_BYTES_MIN - 1, 1]), Err(S3ErrorCode::EntityTooSmall));
        assert_eq!(code(&[PUT_BYTES_MAX; 1024]), Ok(OBJECT_BYTES_MAX));
        assert_eq!(code(&[PUT_BYTES_MAX; 1025]), Err(S3ErrorCode::EntityTooLarge));
        assert_eq!(code(&[u64::MAX; 3]), Err(S3ErrorCode::EntityTooLarge));
        assert!(check_put_bytes(PUT_BYTES_MAX).is_ok());
        assert!(check_put_bytes(PUT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn entity_tags() {
        let part = Md5::digest(b"");
        let tag = etag([&part, &part]);
        assert_eq!(parse_etag(&format!("\"{tag}\"")), Some(tag));
        // The MD5 of two raw MD5s of nothing, one after the other, by Python's hashlib.
        assert_eq!(tag.to_string(), "5873dd45edd01f09c1ef2e7819369e8e-2".to_owned());
        for text in [
            "",
            "\"\"",
            "abc",
            "d41d8cd98f00b204e9800998ecf8427e-",
            "d41d8cd98f00b204e9800998ecf8427e-0",
            "d41d8cd98f00b204e9800998ecf8427g",
        ] {
            assert_eq!(parse_etag(text), None, "{text}");
        }
    }
}
