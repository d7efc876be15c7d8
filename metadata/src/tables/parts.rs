//! parts: bucket id, key, upload id, part number → part.

use model::upload::UploadedPart;

use super::{Record, TableId};

impl Record for UploadedPart {
    const TABLE: TableId = TableId::Parts;
}

/// The row of a part of the upload whose own row is `upload`.
pub fn key(upload: &[u8], number: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(upload.len() + 2);
    key.extend_from_slice(upload);
    key.extend_from_slice(&number.to_be_bytes());
    key
}
