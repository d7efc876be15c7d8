//! The answer to ListParts.

use bytes::Bytes;
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use model::ids::UploadId;
use model::time::Timestamp;

use crate::checksum::{algorithm_name, kind_name, to_base64};
use crate::date;
use crate::list::ListParts;
use crate::xml::writer::XmlWriter;
use crate::xml::{Owner, checksum_element};

/// A part in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart<'a> {
    /// The part number.
    pub number: u16,
    /// When it was committed.
    pub modified: Timestamp,
    /// Its MD5, which is its entity tag.
    pub md5: [u8; 16],
    /// Bytes.
    pub size: u64,
    /// Its checksum, if the upload has them.
    pub checksum: Option<&'a StoredChecksum>,
}

/// The upload whose parts are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadTarget<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The upload.
    pub id: UploadId,
    /// The checksum that it was begun with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// The storage class that it was begun with.
    pub class: &'a str,
}

/// Writes a page of parts; `truncated` says that there are more behind the last of them.
pub fn list(
    target: UploadTarget<'_>,
    owner: Owner<'_>,
    list: ListParts,
    parts: &[ListedPart<'_>],
    truncated: Truncated,
) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("ListPartsResult");
    xml.text("Bucket", target.bucket);
    xml.text("Key", target.key);
    xml.text("UploadId", &target.id.to_string());
    owner.write("Initiator", &mut xml);
    owner.write("Owner", &mut xml);
    xml.text("StorageClass", target.class);
    xml.number("PartNumberMarker", u64::from(list.after));
    if let (Truncated::Yes, Some(last)) = (truncated, parts.last()) {
        xml.number("NextPartNumberMarker", u64::from(last.number));
    }
    xml.number("MaxParts", u64::from(list.max_parts));
    xml.flag("IsTruncated", truncated == Truncated::Yes);
    if let Some((algorithm, kind)) = target.checksum {
        xml.text("ChecksumAlgorithm", algorithm_name(algorithm));
        xml.text("ChecksumType", kind_name(kind));
    }
    for part in parts {
        xml.open("Part");
        xml.number("PartNumber", u64::from(part.number));
        xml.text("LastModified", &date::iso8601(part.modified));
        xml.text("ETag", &format!("\"{}\"", hex::encode(part.md5)));
        xml.number("Size", part.size);
        if let Some(checksum) = part.checksum {
            xml.text(checksum_element(checksum.algorithm), &to_base64(&checksum.digest));
        }
        xml.close("Part");
    }
    xml.close("ListPartsResult");
    xml.finish()
}

/// Whether a listing goes on behind its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncated {
    /// There is more.
    Yes,
    /// This was all.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing() {
        let target = UploadTarget {
            bucket: "abc",
            key: "k\r",
            id: UploadId([1; 16]),
            checksum: None,
            class: "STANDARD",
        };
        let part =
            ListedPart { number: 3, modified: Timestamp(0), md5: [0; 16], size: 5, checksum: None };
        let owner = Owner { id: "o", display_name: "n" };
        let parameters = ListParts { max_parts: 1, after: 2 };
        let xml = list(target, owner, parameters, &[part], Truncated::Yes);
        let xml = String::from_utf8_lossy(&xml);
        assert!(xml.contains("<Key>k&#13;</Key>"), "{xml}");
        assert!(xml.contains("<PartNumberMarker>2</PartNumberMarker><NextPartNumberMarker>3</NextPartNumberMarker>"), "{xml}");
    }
}
