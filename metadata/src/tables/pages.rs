//! pages: manifest, page number → up to `PAGE_PARTS_MAX` parts of a large version.

use minicbor::{Decode, Encode};
use model::ids::ManifestId;
use model::version::Part;

use super::{Record, TableId};

/// One page.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Page {
    /// Parts, ascending by number.
    #[n(0)]
    pub parts: Vec<Part>,
}

impl Record for Page {
    const TABLE: TableId = TableId::Pages;
}

/// The row of a page.
pub fn key(manifest: ManifestId, page: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&manifest.0);
    key[16..].copy_from_slice(&page.to_be_bytes());
    key
}
