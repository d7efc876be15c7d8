//! CompleteMultipartUpload: the request that names the parts, and its answer.

use bytes::Bytes;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use model::limits::PARTS_MAX;
use model::upload::PartReference;
use model::version::ETag;

use crate::checksum::{ALGORITHMS, kind_name, parse_digest, value_text};
use crate::error::{S3Error, S3ErrorCode};
use crate::multipart::parse_etag;
use crate::xml::checksum_element;
use crate::xml::reader::{self, Element};
use crate::xml::writer::XmlWriter;

/// 10,000 parts of some 400 bytes each.
pub const COMPLETE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads the body: 1 to 10,000 parts with strictly ascending numbers.
pub fn parse(body: &[u8]) -> Result<Vec<PartReference>, S3Error> {
    let root = reader::read(body, "CompleteMultipartUpload", COMPLETE_BYTES_MAX)?;
    let mut parts: Vec<PartReference> = Vec::with_capacity(root.children.len());
    for child in &root.children {
        if child.name != "Part" || parts.len() as u64 == u64::from(PARTS_MAX) {
            return Err(malformed());
        }
        let part = part(child)?;
        if parts.last().is_some_and(|before| before.number >= part.number) {
            return Err(S3Error::new(S3ErrorCode::InvalidPartOrder));
        }
        parts.push(part);
    }
    if parts.is_empty() { Err(malformed()) } else { Ok(parts) }
}

fn malformed() -> S3Error {
    S3Error::new(S3ErrorCode::MalformedXML)
}

fn part(element: &Element) -> Result<PartReference, S3Error> {
    let number = element.required("PartNumber")?.trim();
    let number: u16 = number.parse().map_err(|_| malformed())?;
    if !(1..=PARTS_MAX).contains(&u32::from(number)) {
        return Err(S3Error::invalid_argument(
            "partNumber",
            &number.to_string(),
            "Part number must be an integer between 1 and 10000, inclusive",
        ));
    }
    let etag = element.required("ETag")?;
    // A tag that no part can have names a part that isn't there.
    let tag = parse_etag(etag).filter(|tag| tag.parts.is_none());
    let tag = tag.ok_or_else(|| {
        S3Error::new(S3ErrorCode::InvalidPart)
            .field("PartNumber", number.to_string())
            .field("ETag", etag)
    })?;
    Ok(PartReference { number, md5: tag.md5, checksum: checksum(element)? })
}

fn checksum(element: &Element) -> Result<Option<StoredChecksum>, S3Error> {
    let mut found = None;
    for child in &element.children {
        let algorithm = ALGORITHMS.iter().find(|one| checksum_element(**one) == child.name);
        let Some(algorithm) = algorithm.copied() else {
            if matches!(child.name.as_str(), "PartNumber" | "ETag") {
                continue;
            }
            return Err(malformed());
        };
        let digest = parse_digest(algorithm, child.text.trim())?;
        let kind = ChecksumKind::FullObject;
        if found.replace(StoredChecksum { algorithm, kind, digest }).is_some() {
            return Err(malformed());
        }
    }
    Ok(found)
}

/// What a completed upload made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed<'a> {
    /// Where the object can be reached.
    pub location: &'a str,
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The object's entity tag.
    pub etag: ETag,
    /// The object's checksum, if the upload had one.
    pub checksum: Option<&'a StoredChecksum>,
}

/// Writes the answer.
pub fn result(completed: Completed<'_>) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("CompleteMultipartUploadResult");
    xml.text("Location", completed.location);
    xml.text("Bucket", completed.bucket);
    xml.text("Key", completed.key);
    xml.text("ETag", &format!("\"{}\"", completed.etag));
    if let Some(checksum) = completed.checksum {
        let element: ChecksumAlgorithm = checksum.algorithm;
        xml.text(checksum_element(element), &value_text(checksum, completed.etag.parts));
        xml.text("ChecksumType", kind_name(checksum.kind));
    }
    xml.close("CompleteMultipartUploadResult");
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    fn parse_parts(inner: &str) -> Result<Vec<u16>, S3ErrorCode> {
        let body = format!("<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>");
        parse(body.as_bytes())
            .map(|parts| parts.iter().map(|part| part.number).collect())
            .map_err(|error| error.code)
    }

    fn xml_part(number: &str, more: &str) -> String {
        format!("<Part><ETag>\"{MD5}\"</ETag><PartNumber>{number}</PartNumber>{more}</Part>")
    }

    #[test]
    fn requests() {
        use S3ErrorCode::*;
        let check = |inner: &str, expected: Result<&[u16], S3ErrorCode>| {
            assert_eq!(parse_parts(inner), expected.map(<[u16]>::to_vec), "{inner}");
        };
        check(&(xml_part("1", "") + &xml_part("3", "")), Ok(&[1, 3]));
        check(&xml_part("1", "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"), Ok(&[1]));
        check("", Err(MalformedXML));
        check(&(xml_part("2", "") + &xml_part("1", "")), Err(InvalidPartOrder));
        check(&(xml_part("1", "") + &xml_part("1", "")), Err(InvalidPartOrder));
        check(&xml_part("0", ""), Err(InvalidArgument));
        check(&xml_part("10001", ""), Err(InvalidArgument));
        check(&xml_part("x", ""), Err(MalformedXML));
        check("<Part><PartNumber>1</PartNumber></Part>", Err(MalformedXML));
        check("<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>", Err(InvalidPart));
        check(&xml_part("1", "<ChecksumCRC32>AAAA</ChecksumCRC32>"), Err(InvalidRequest));
        check(&xml_part("1", "<X/>"), Err(MalformedXML));
        let all: String = (1..=10_000).map(|number| xml_part(&number.to_string(), "")).collect();
        assert_eq!(parse_parts(&all).map(|parts| parts.len()), Ok(10_000));
    }
}
