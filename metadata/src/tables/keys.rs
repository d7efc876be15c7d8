//! How object keys become parts of table keys.
//!
//! An object key may hold any byte. NUL is written as `00 FF`, and `00 01` ends the key, so that
//! byte order of table keys is byte order of object keys whatever follows, and UTF-8 (which has no
//! `FF`) leaves a byte above all that can follow a prefix.

use model::ids::BucketId;

/// Ends an escaped key.
const END: [u8; 2] = [0x00, 0x01];

/// A table key under construction.
pub fn bucket_key(bucket: BucketId) -> Vec<u8> {
    bucket.0.to_be_bytes().to_vec()
}

/// Bucket and escaped text without an end: the beginning of every key that begins with `text`.
pub fn prefix(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + text.len() + 12);
    key.extend_from_slice(&bucket.0.to_be_bytes());
    escape(text, &mut key);
    key
}

/// Bucket and whole key.
pub fn exact(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut key = prefix(bucket, text);
    key.extend_from_slice(&END);
    key
}

/// The first table key behind all of the key `text`.
pub fn behind_key(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut key = prefix(bucket, text);
    key.extend_from_slice(&[0x00, 0x02]);
    key
}

/// The first table key behind all keys that begin with `text`.
pub fn behind_prefix(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut key = prefix(bucket, text);
    key.push(0xff);
    key
}

/// Reads the object key from a table key that begins with a bucket; gives also what follows.
pub fn read(key: &[u8]) -> Option<(String, &[u8])> {
    let mut rest = key.get(8..)?;
    let mut text = Vec::with_capacity(rest.len());
    loop {
        let nul = rest.iter().position(|byte| *byte == 0)?;
        text.extend_from_slice(rest.get(..nul)?);
        let mark = *rest.get(nul + 1)?;
        rest = rest.get(nul + 2..)?;
        match mark {
            0xff => text.push(0),
            0x01 => return Some((String::from_utf8(text).ok()?, rest)),
            _ => return None,
        }
    }
}

fn escape(text: &str, key: &mut Vec<u8>) {
    if !text.as_bytes().contains(&0) {
        key.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn order_is_kept_and_keys_read_back(a in "[\0a\u{1}b\u{10ffff}]{0,6}", b in "[\0a\u{1}b\u{10ffff}]{0,6}") {
            let bucket = BucketId(7);
            let (mut one, mut two) = (exact(bucket, &a), exact(bucket, &b));
            one.extend_from_slice(&[0xff; 8]);
            two.extend_from_slice(&[0; 8]);
            if a != b {
                prop_assert_eq!(a.cmp(&b), one.cmp(&two));
            }
            prop_assert_eq!(read(&one), Some((a.clone(), [0xffu8; 8].as_slice())));
            prop_assert!(behind_key(bucket, &a) > one);
            if b > a {
                prop_assert!(behind_key(bucket, &a) <= two);
            }
            prop_assert_eq!(b.starts_with(&a), two.starts_with(&prefix(bucket, &a)));
            if b.starts_with(&a) {
                prop_assert!(behind_prefix(bucket, &a) > two);
            } else if b > a {
                prop_assert!(behind_prefix(bucket, &a) <= two);
            }
        }
    }

    #[test]
    fn the_form_is_pinned() {
        assert_eq!(exact(BucketId(1), "a\0b"), [0, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0xff, b'b', 0, 1]);
    }
}
