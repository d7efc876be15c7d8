//! Documents about multipart uploads: their beginning and their listing.

use bytes::Bytes;
use model::checksum::{ChecksumAlgorithm, ChecksumKind};
use model::ids::UploadId;
use model::time::Timestamp;

use crate::checksum::{algorithm_name, kind_name};
use crate::date;
use crate::list::{Encoding, ListUploads};
use crate::xml::writer::XmlWriter;
use crate::xml::{Owner, encoded};

/// An upload in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUpload<'a> {
    /// The key of the object to be.
    pub key: &'a str,
    /// The upload.
    pub id: UploadId,
    /// When it began.
    pub initiated: Timestamp,
    /// The checksum that it was begun with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
    /// Its storage class.
    pub class: &'a str,
}

/// A page of a listing of uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPage<'a> {
    /// The uploads, in order of key and beginning.
    pub uploads: Vec<ListedUpload<'a>>,
    /// The common prefixes, in order.
    pub common_prefixes: Vec<&'a str>,
    /// If there is more: the last key (or common prefix) of this page, with its last upload if the
    /// page ends with one.
    pub more_after: Option<(&'a str, Option<UploadId>)>,
}

/// The answer to CreateMultipartUpload.
pub fn initiate(bucket: &str, key: &str, id: UploadId) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("InitiateMultipartUploadResult");
    xml.text("Bucket", bucket);
    xml.text("Key", key);
    xml.text("UploadId", &id.to_string());
    xml.close("InitiateMultipartUploadResult");
    xml.finish()
}

/// The answer to ListMultipartUploads.
pub fn list(bucket: &str, owner: Owner<'_>, list: &ListUploads, page: &UploadPage<'_>) -> Bytes {
    let write = |text: &str| encoded(text, list.encoding).into_owned();
    let mut xml = XmlWriter::new();
    xml.open_root("ListMultipartUploadsResult");
    xml.text("Bucket", bucket);
    xml.text("KeyMarker", &write(&list.key_marker));
    let marker = list.upload_id_marker.map(|id| id.to_string());
    xml.text("UploadIdMarker", marker.as_deref().unwrap_or_default());
    if let Some((key, id)) = page.more_after {
        xml.text("NextKeyMarker", &write(key));
        xml.optional("NextUploadIdMarker", id.map(|id| id.to_string()).as_deref());
    }
    xml.text("Prefix", &write(&list.prefix));
    xml.optional("Delimiter", list.delimiter.as_deref().map(write).as_deref());
    if list.encoding == Encoding::Url {
        xml.text("EncodingType", "url");
    }
    xml.number("MaxUploads", u64::from(list.max_uploads));
    xml.flag("IsTruncated", page.more_after.is_some());
    for upload in &page.uploads {
        xml.open("Upload");
        xml.text("Key", &write(upload.key));
        xml.text("UploadId", &upload.id.to_string());
        owner.write("Initiator", &mut xml);
        owner.write("Owner", &mut xml);
        xml.text("StorageClass", upload.class);
        xml.text("Initiated", &date::iso8601(upload.initiated));
        if let Some((algorithm, kind)) = upload.checksum {
            xml.text("ChecksumAlgorithm", algorithm_name(algorithm));
            xml.text("ChecksumType", kind_name(kind));
        }
        xml.close("Upload");
    }
    for prefix in &page.common_prefixes {
        xml.open("CommonPrefixes");
        xml.text("Prefix", &write(prefix));
        xml.close("CommonPrefixes");
    }
    xml.close("ListMultipartUploadsResult");
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    #[test]
    fn listing() {
        let query = Query::parse(Some("max-uploads=1")).expect("a query");
        let parameters = ListUploads::parse(&query).expect("parameters");
        let id = UploadId([1; 16]);
        let upload = ListedUpload {
            key: "k",
            id,
            initiated: Timestamp(0),
            checksum: None,
            class: "STANDARD",
        };
        let page = UploadPage {
            uploads: vec![upload],
            common_prefixes: vec![],
            more_after: Some(("k", Some(id))),
        };
        let owner = Owner { id: "o", display_name: "n" };
        let xml = String::from_utf8_lossy(&list("abc", owner, &parameters, &page)).into_owned();
        assert!(
            xml.contains(&format!(
                "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
            )),
            "{xml}"
        );
        assert!(
            xml.contains(
                "<MaxUploads>1</MaxUploads><IsTruncated>true</IsTruncated><Upload><Key>k</Key>"
            ),
            "{xml}"
        );
    }
}
