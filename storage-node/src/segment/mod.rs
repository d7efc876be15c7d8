//! Segment files: their format, and how they are read.
//!
//! `FORMAT.md` is the byte table of what [`header`] and [`record`] encode and decode. Nothing
//! here decides what is live, durable or cut: that is the store's business.

pub mod distrust;
pub mod files;
pub mod header;
pub mod patient;
pub mod record;
pub mod scanner;

pub(crate) mod fields;

pub use distrust::distrust;
pub use files::SegmentFiles;
pub use header::{HeaderError, SEGMENT_HEADER_BYTES, SegmentHeader};
pub use patient::Patient;
pub use record::{Kind, RECORD_HEADER_BYTES, RecordHeader, Seal};
pub use scanner::{Scanned, Scanner};

/// Records begin at multiples of this.
pub const RECORD_ALIGN_BYTES: u64 = 8;

/// The file name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("seg-{number:016x}.dss")
}

/// The number of the segment with this file name; `None` for any other file.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".dss")?;
    let canonical = digits.len() == 16
        && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if canonical { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_ignored() {
        assert_eq!(segment_name(0x1f), "seg-000000000000001f.dss");
        assert_eq!(segment_number("seg-000000000000001f.dss"), Some(0x1f));
        for stranger in ["seg-1f.dss", "seg-000000000000001F.dss", "index.redb", "seg-.dss", ""] {
            assert_eq!(segment_number(stranger), None, "{stranger}");
        }
    }
}
