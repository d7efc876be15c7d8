//! How messages become frames: what their types derive is the header, and bulk bytes go beside it.
//!
//! In: a message, or a frame from the network. Out: the other. While a header is written or read,
//! [`Attachments`] is the context that gives bulk bytes to the frame or takes them from it, in the
//! header's order; the header holds their lengths. What is read never costs more memory than the
//! frame has bytes, times a small constant: `minicbor` reserves nothing for the length that an array
//! claims to have, and no type here is recursive.

mod membership;
mod metadata;
mod rights;
mod shard;

use bytes::Bytes;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::rpc::{Frame, MessageError};

/// Whether a field that an older release doesn't know says nothing, and so isn't written: what the
/// tables hold must be the same bytes for replicas of either release (I-11).
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The bulk bytes of a frame while its header is written or read.
#[derive(Debug, Default)]
pub struct Attachments {
    header: Bytes,
    bytes: Vec<Bytes>,
    next: usize,
    mismatched: bool,
}

/// What bulk bytes are given to and taken from.
pub trait Attached {
    /// Puts bytes behind those that are there.
    fn put(&mut self, bytes: Bytes);

    /// The next bytes, which must be this long.
    fn take(&mut self, length: u64) -> Option<Bytes>;

    /// These bytes, which are a part of the header, without a copy where that can be.
    fn share(&self, part: &[u8]) -> Bytes;
}

impl Attached for Attachments {
    fn put(&mut self, bytes: Bytes) {
        self.bytes.push(bytes);
    }

    fn take(&mut self, length: u64) -> Option<Bytes> {
        let taken = self.bytes.get_mut(self.next).map(std::mem::take);
        self.next += 1;
        let taken = taken.filter(|bytes| bytes.len() as u64 == length);
        self.mismatched |= taken.is_none();
        taken
    }

    fn share(&self, part: &[u8]) -> Bytes {
        let (header, start) = (self.header.as_ptr() as usize, part.as_ptr() as usize);
        let from = start.wrapping_sub(header);
        match self.header.get(from..from.saturating_add(part.len())) {
            Some(_) if start >= header => self.header.slice(from..from + part.len()),
            _ => Bytes::copy_from_slice(part),
        }
    }
}

/// The frame that says `message`.
pub fn to_frame<T: Encode<Attachments>>(message: &T) -> Frame {
    let mut attachments = Attachments::default();
    let mut header = Vec::with_capacity(256);
    // Writing to a Vec can't fail.
    let _ = minicbor::encode_with(message, &mut header, &mut attachments);
    Frame { header: header.into(), attachments: attachments.bytes }
}

/// What a frame says. The header is one item to its end, and every attachment belongs to it.
pub fn from_frame<T>(frame: Frame) -> Result<T, MessageError>
where
    T: for<'b> Decode<'b, Attachments>,
{
    let header = frame.header;
    let mut attachments =
        Attachments { header: header.clone(), bytes: frame.attachments, ..Attachments::default() };
    let mut decoder = Decoder::new(&header);
    let decoded = decoder.decode_with(&mut attachments);
    if attachments.mismatched {
        return Err(MessageError::Attachments);
    }
    let message =
        decoded.map_err(|error: DecodeError| MessageError::Malformed(error.to_string()))?;
    if decoder.position() != header.len() {
        return Err(MessageError::Malformed("there is something behind it".to_owned()));
    }
    if attachments.next != attachments.bytes.len() {
        return Err(MessageError::Attachments);
    }
    Ok(message)
}

/// Bulk bytes: their length in the header, themselves beside it.
pub mod attachment {
    use super::{Attached, Bytes, DecodeError, Decoder, EncodeError, Encoder, Write};

    /// Writes them.
    pub fn encode<C: Attached, W: Write>(
        bytes: &Bytes,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        context.put(bytes.clone());
        encoder.u64(bytes.len() as u64)?.ok()
    }

    /// Reads them.
    pub fn decode<C: Attached>(
        decoder: &mut Decoder<'_>,
        context: &mut C,
    ) -> Result<Bytes, DecodeError> {
        let length = decoder.u64()?;
        context.take(length).ok_or_else(|| DecodeError::message("an attachment is missing"))
    }
}

/// Few bytes, in the header.
pub mod inline {
    use super::{Attached, Bytes, DecodeError, Decoder, EncodeError, Encoder, Write};

    /// Writes them.
    pub fn encode<C, W: Write>(
        bytes: &Bytes,
        encoder: &mut Encoder<W>,
        _context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        encoder.bytes(bytes)?.ok()
    }

    /// Reads them.
    pub fn decode<C: Attached>(
        decoder: &mut Decoder<'_>,
        context: &mut C,
    ) -> Result<Bytes, DecodeError> {
        Ok(context.share(decoder.bytes()?))
    }
}

/// Checksums of blocks: a byte string of little-endian 64-bit numbers.
pub mod checksums {
    use super::{DecodeError, Decoder, EncodeError, Encoder, Write};

    /// Writes them.
    pub fn encode<C, W: Write>(
        checksums: &(impl AsRef<[u64]> + ?Sized),
        encoder: &mut Encoder<W>,
        _context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let bytes: Vec<u8> = checksums.as_ref().iter().flat_map(|sum| sum.to_le_bytes()).collect();
        encoder.bytes(&bytes)?.ok()
    }

    /// Reads them.
    pub fn decode<C, T: From<Vec<u64>>>(
        decoder: &mut Decoder<'_>,
        _context: &mut C,
    ) -> Result<T, DecodeError> {
        let (sums, rest) = decoder.bytes()?.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(DecodeError::message("a checksum has 8 bytes"));
        }
        Ok(sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect::<Vec<_>>().into())
    }
}

/// A sequence that is refused once it has more than `MAX` items: for items that take much more
/// memory than bytes.
pub mod few {
    use super::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Write};

    /// Items, at most.
    pub const MAX: usize = 16 * 1024;

    /// Writes it.
    pub fn encode<C, T: Encode<C>, W: Write>(
        items: &Vec<T>,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        items.encode(encoder, context)
    }

    /// Reads it.
    pub fn decode<'b, C, T: Decode<'b, C>>(
        decoder: &mut Decoder<'b>,
        context: &mut C,
    ) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::new();
        for item in decoder.array_iter_with(context)? {
            if items.len() == MAX {
                return Err(DecodeError::message("there are too many items"));
            }
            items.push(item?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests;
