//! The XML documents of the S3 API, a file for each family.
//!
//! Requests are read by `reader` into a small tree under strict limits, and then into a type that holds
//! only what is valid. Responses are written by `writer`. Nothing here knows what the words mean.

pub mod acl;
pub mod attributes;
pub mod buckets;
pub mod complete;
pub mod copy;
pub mod delete;
pub mod objects;
pub mod parts;
pub mod reader;
pub mod uploads;
pub mod writer;

use model::checksum::ChecksumAlgorithm;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::list::Encoding;

/// What S3 leaves as it is when it encodes keys for `encoding-type=url`.
const KEY_SET: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*').remove(b'/');

/// A key, prefix or marker as the listing's encoding wants it written.
fn encoded(text: &str, encoding: Encoding) -> std::borrow::Cow<'_, str> {
    match encoding {
        Encoding::Plain => text.into(),
        Encoding::Url => utf8_percent_encode(text, KEY_SET).into(),
    }
}

/// The element that holds a checksum of the algorithm.
pub const fn checksum_element(algorithm: ChecksumAlgorithm) -> &'static str {
    match algorithm {
        ChecksumAlgorithm::Crc32 => "ChecksumCRC32",
        ChecksumAlgorithm::Crc32c => "ChecksumCRC32C",
        ChecksumAlgorithm::Crc64Nvme => "ChecksumCRC64NVME",
        ChecksumAlgorithm::Sha1 => "ChecksumSHA1",
        ChecksumAlgorithm::Sha256 => "ChecksumSHA256",
    }
}

/// The one owner of everything, until there are users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The canonical id.
    pub id: &'a str,
    /// A name for people.
    pub display_name: &'a str,
}

impl Owner<'_> {
    fn write(self, element: &str, xml: &mut writer::XmlWriter) {
        xml.open(element);
        xml.text("ID", self.id);
        xml.text("DisplayName", self.display_name);
        xml.close(element);
    }
}
