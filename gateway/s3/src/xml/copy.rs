//! The answers to CopyObject and UploadPartCopy.

use bytes::Bytes;
use model::checksum::StoredChecksum;
use model::time::Timestamp;
use model::version::ETag;

use crate::checksum::{kind_name, value_text};
use crate::date;
use crate::xml::checksum_element;
use crate::xml::writer::XmlWriter;

/// The answer to CopyObject.
pub fn object(
    etag: ETag,
    modified: Timestamp,
    checksum: Option<(&StoredChecksum, Option<u32>)>,
) -> Bytes {
    result("CopyObjectResult", etag, modified, checksum)
}

/// The answer to UploadPartCopy.
pub fn part(md5: [u8; 16], modified: Timestamp, checksum: Option<&StoredChecksum>) -> Bytes {
    let checksum = checksum.map(|checksum| (checksum, None));
    result("CopyPartResult", ETag { md5, parts: None }, modified, checksum)
}

fn result(
    root: &str,
    etag: ETag,
    modified: Timestamp,
    checksum: Option<(&StoredChecksum, Option<u32>)>,
) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root(root);
    xml.text("LastModified", &date::iso8601(modified));
    xml.text("ETag", &format!("\"{etag}\""));
    if let Some((checksum, parts)) = checksum {
        xml.text(checksum_element(checksum.algorithm), &value_text(checksum, parts));
        if root == "CopyObjectResult" {
            xml.text("ChecksumType", kind_name(checksum.kind));
        }
    }
    xml.close(root);
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let xml = object(ETag { md5: [0; 16], parts: None }, Timestamp(0), None);
        assert!(xml.ends_with(b"<LastModified>1970-01-01T00:00:00.000Z</LastModified><ETag>&quot;00000000000000000000000000000000&quot;</ETag></CopyObjectResult>"));
        assert!(part([0; 16], Timestamp(0), None).ends_with(b"</CopyPartResult>"));
    }
}
