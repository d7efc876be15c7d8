//! GetObjectAttributes: which attributes are asked for, and the answer.

use bytes::Bytes;
use http::HeaderMap;
use model::checksum::{ChecksumKind, StoredChecksum};
use model::version::ETag;

use crate::checksum::{kind_name, to_base64, value_text};
use crate::error::{S3Error, S3ErrorCode};
use crate::list::ListParts;
use crate::xml::checksum_element;
use crate::xml::parts::Truncated;
use crate::xml::writer::XmlWriter;

/// The attributes that a request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set of five independent attributes")]
pub struct Wanted {
    /// `ETag`.
    pub etag: bool,
    /// `Checksum`.
    pub checksum: bool,
    /// `ObjectParts`.
    pub parts: bool,
    /// `StorageClass`.
    pub storage_class: bool,
    /// `ObjectSize`.
    pub size: bool,
}

impl Wanted {
    /// Reads `x-amz-object-attributes`.
    pub fn parse(headers: &HeaderMap) -> Result<Wanted, S3Error> {
        let mut wanted = Wanted::default();
        for value in headers.get_all("x-amz-object-attributes") {
            for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
                match name {
                    "ETag" => wanted.etag = true,
                    "Checksum" => wanted.checksum = true,
                    "ObjectParts" => wanted.parts = true,
                    "StorageClass" => wanted.storage_class = true,
                    "ObjectSize" => wanted.size = true,
                    other => {
                        return Err(S3Error::invalid_argument(
                            "x-amz-object-attributes",
                            other,
                            "Invalid attribute name specified.",
                        ));
                    }
                }
            }
        }
        if wanted == Wanted::default() {
            let message = "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty";
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
        }
        Ok(wanted)
    }
}

/// A part in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributePart<'a> {
    /// The part number.
    pub number: u16,
    /// Bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<&'a StoredChecksum>,
}

/// What the object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Its entity tag; a multipart one says how many parts there are.
    pub etag: ETag,
    /// Bytes.
    pub size: u64,
    /// Its checksum.
    pub checksum: Option<&'a StoredChecksum>,
    /// Its storage class.
    pub class: &'a str,
    /// A page of its parts.
    pub parts: Vec<AttributePart<'a>>,
    /// The page that was asked for.
    pub list: ListParts,
    /// Whether there are parts behind the page.
    pub truncated: Truncated,
}

/// Writes the answer.
pub fn response(wanted: Wanted, object: &Attributes<'_>) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("GetObjectAttributesResponse");
    if wanted.etag {
        // Unlike everywhere else, S3 writes the tag without quotes here.
        xml.text("ETag", &object.etag.to_string());
    }
    if let Some(checksum) = object.checksum.filter(|_| wanted.checksum) {
        xml.open("Checksum");
        // The element has no -N here either: the number of parts stands beside it.
        xml.text(checksum_element(checksum.algorithm), &value_text(checksum, None));
        xml.text("ChecksumType", kind_name(checksum.kind));
        xml.close("Checksum");
    }
    if let Some(count) = object.etag.parts.filter(|_| wanted.parts) {
        write_parts(&mut xml, object, count);
    }
    if wanted.storage_class {
        xml.text("StorageClass", object.class);
    }
    if wanted.size {
        xml.number("ObjectSize", object.size);
    }
    xml.close("GetObjectAttributesResponse");
    xml.finish()
}

fn write_parts(xml: &mut XmlWriter, object: &Attributes<'_>, count: u32) {
    xml.open("ObjectParts");
    xml.number("PartsCount", u64::from(count));
    // S3 lists the parts only where they have checksums of their own.
    if object.checksum.is_some_and(|checksum| checksum.kind == ChecksumKind::Composite) {
        xml.number("PartNumberMarker", u64::from(object.list.after));
        if let Some(last) = object.parts.last() {
            xml.number("NextPartNumberMarker", u64::from(last.number));
        }
        xml.number("MaxParts", u64::from(object.list.max_parts));
        xml.flag("IsTruncated", object.truncated == Truncated::Yes);
        for part in &object.parts {
            xml.open("Part");
            xml.number("PartNumber", u64::from(part.number));
            xml.number("Size", part.size);
            if let Some(checksum) = part.checksum {
                xml.text(checksum_element(checksum.algorithm), &to_base64(&checksum.digest));
            }
            xml.close("Part");
        }
    }
    xml.close("ObjectParts");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn wanted(value: &'static str) -> Result<Wanted, S3Error> {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-object-attributes", HeaderValue::from_static(value));
        Wanted::parse(&headers)
    }

    #[test]
    fn attributes() {
        let object = Attributes {
            etag: ETag { md5: [0; 16], parts: Some(2) },
            size: 9,
            checksum: None,
            class: "STANDARD",
            parts: vec![],
            list: ListParts { max_parts: 1000, after: 0 },
            truncated: Truncated::No,
        };
        let xml = response(wanted("ETag, ObjectSize,ObjectParts").expect("wanted"), &object);
        assert!(xml.ends_with(b"<ETag>00000000000000000000000000000000-2</ETag><ObjectParts><PartsCount>2</PartsCount></ObjectParts><ObjectSize>9</ObjectSize></GetObjectAttributesResponse>"));
        assert!(wanted("Nothing").is_err());
        assert!(Wanted::parse(&HeaderMap::new()).is_err());
    }
}
