//! The answers to ListObjects and ListObjectsV2.
//!
//! In: the parsed parameters and one page, already in order. Out: the document. The two versions differ
//! only in their markers, so they are written by one function.

use bytes::Bytes;
use model::checksum::{ChecksumAlgorithm, ChecksumKind};
use model::time::Timestamp;
use model::version::ETag;

use crate::checksum::{algorithm_name, kind_name};
use crate::date;
use crate::list::{Encoding, ListObjects, ListVersion, encode_token};
use crate::xml::writer::XmlWriter;
use crate::xml::{Owner, encoded};

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject<'a> {
    /// Its key.
    pub key: &'a str,
    /// When it was committed.
    pub modified: Timestamp,
    /// Its entity tag.
    pub etag: ETag,
    /// Bytes.
    pub size: u64,
    /// Its checksum's algorithm and kind, if it has one.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// Its storage class.
    pub class: &'a str,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectPage<'a> {
    /// The objects, in order of their keys.
    pub objects: Vec<ListedObject<'a>>,
    /// The common prefixes, in order.
    pub common_prefixes: Vec<&'a str>,
    /// If there is more: the last key or common prefix of this page, whichever is greater.
    pub more_after: Option<&'a str>,
}

/// Writes the answer to the version of the operation that `list` is of.
pub fn list_bucket_result(
    bucket: &str,
    owner: Owner<'_>,
    list: &ListObjects,
    page: &ObjectPage<'_>,
) -> Bytes {
    let write = |text: &str| encoded(text, list.encoding).into_owned();
    let mut xml = XmlWriter::new();
    xml.open_root("ListBucketResult");
    xml.text("Name", bucket);
    xml.text("Prefix", &write(&list.prefix));
    let owner = match &list.version {
        ListVersion::V1 { marker } => {
            xml.text("Marker", &write(marker));
            // S3 gives NextMarker only with a delimiter; without one clients take the last key.
            let next = page.more_after.filter(|_| list.delimiter.is_some());
            xml.optional("NextMarker", next.map(write).as_deref());
            Some(owner)
        }
        ListVersion::V2 { token, start_after, fetch_owner } => {
            xml.optional("ContinuationToken", token.as_deref());
            xml.optional("NextContinuationToken", page.more_after.map(encode_token).as_deref());
            xml.optional("StartAfter", start_after.as_deref().map(write).as_deref());
            xml.number("KeyCount", (page.objects.len() + page.common_prefixes.len()) as u64);
            fetch_owner.then_some(owner)
        }
    };
    xml.number("MaxKeys", u64::from(list.max_keys));
    xml.optional("Delimiter", list.delimiter.as_deref().map(write).as_deref());
    if list.encoding == Encoding::Url {
        xml.text("EncodingType", "url");
    }
    xml.flag("IsTruncated", page.more_after.is_some());
    for object in &page.objects {
        write_object(&mut xml, object, owner, list.encoding);
    }
    for prefix in &page.common_prefixes {
        xml.open("CommonPrefixes");
        xml.text("Prefix", &encoded(prefix, list.encoding));
        xml.close("CommonPrefixes");
    }
    xml.close("ListBucketResult");
    xml.finish()
}

fn write_object(
    xml: &mut XmlWriter,
    object: &ListedObject<'_>,
    owner: Option<Owner<'_>>,
    encoding: Encoding,
) {
    xml.open("Contents");
    xml.text("Key", &encoded(object.key, encoding));
    xml.text("LastModified", &date::iso8601(object.modified));
    xml.text("ETag", &format!("\"{}\"", object.etag));
    if let Some((algorithm, kind)) = object.checksum {
        xml.text("ChecksumAlgorithm", algorithm_name(algorithm));
        xml.text("ChecksumType", kind_name(kind));
    }
    xml.number("Size", object.size);
    if let Some(owner) = owner {
        owner.write("Owner", xml);
    }
    xml.text("StorageClass", object.class);
    xml.close("Contents");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    fn document(list: &ListObjects) -> String {
        let object = ListedObject {
            key: "a b\u{1}",
            modified: Timestamp(0),
            etag: ETag { md5: [0; 16], parts: Some(2) },
            size: 7,
            checksum: Some((ChecksumAlgorithm::Crc32, ChecksumKind::Composite)),
            class: "STANDARD",
        };
        let page = ObjectPage {
            objects: vec![object],
            common_prefixes: vec!["p/"],
            more_after: Some("p/"),
        };
        let owner = Owner { id: "o", display_name: "n" };
        String::from_utf8_lossy(&list_bucket_result("abc", owner, list, &page)).into_owned()
    }

    #[test]
    fn version_1() {
        let query = Query::parse(Some("delimiter=/&marker=m%20")).expect("a query");
        let xml = document(&ListObjects::parse_v1(&query).expect("a list"));
        assert!(xml.contains("<Marker>m </Marker><NextMarker>p/</NextMarker><MaxKeys>1000</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>"), "{xml}");
        assert!(xml.contains("<Key>a b&#x1;</Key>"), "{xml}");
        assert!(xml.contains("<ETag>&quot;00000000000000000000000000000000-2&quot;</ETag><ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType><Size>7</Size><Owner>"), "{xml}");
        assert!(xml.contains("<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"), "{xml}");
    }

    #[test]
    fn version_2() {
        let query = Query::parse(Some("encoding-type=url&start-after=s%20")).expect("a query");
        let xml = document(&ListObjects::parse_v2(&query).expect("a list"));
        let token = encode_token("p/");
        assert!(xml.contains(&format!("<NextContinuationToken>{token}</NextContinuationToken><StartAfter>s%20</StartAfter><KeyCount>2</KeyCount>")), "{xml}");
        assert!(xml.contains("<Key>a%20b%01</Key>"), "{xml}");
        assert!(!xml.contains("<Owner>"), "{xml}");
    }
}
