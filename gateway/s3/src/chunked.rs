//! The `aws-chunked` framing of a body: signed chunks, signed chunks with trailers, unsigned chunks
//! with trailers.
//!
//! In: the framed body in pieces, as the network gives them. Out: its bytes and trailers. Bytes of a
//! signed chunk come out only after its signature was found right; a chunk is held until then, so its
//! size is limited. The last chunk must be there, and the bytes must add up to
//! `x-amz-decoded-content-length`. Pieces are sliced, not copied, unless they are tiny.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use crate::error::{S3Error, S3ErrorCode};
use crate::sigv4::{ChunkSigner, PayloadMode};

/// A signed chunk is held in memory until it is proved.
pub const CHUNK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A size in hexadecimal, `;chunk-signature=`, 64 digits, and room.
const LINE_BYTES_MAX: usize = 256;

/// Trailers are checksums of at most 44 characters.
const TRAILERS_MAX: usize = 8;

/// Pieces smaller than this are copied together: a chunk sent byte by byte must not hold a million
/// pieces.
const PIECE_BYTES_MIN: usize = 4096;

/// Trailers as they came: names in lower case.
pub type Trailers = Vec<(HeaderName, String)>;

/// What proves a chunk.
enum Proof {
    Signed(ChunkSigner),
    Unsigned,
}

/// What the body has behind its last chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Plain,
    Trailers,
}

enum State {
    /// Before a chunk's first line.
    Size,
    /// Within a chunk: bytes to come.
    Data(u64),
    /// Before the line end behind a chunk.
    DataEnd,
    /// Before a trailer's line, or the empty line at the end.
    Trailer,
    /// Behind the empty line that AWS documents between the trailers and their signature.
    TrailerSignature,
    /// After everything.
    Done,
}

/// Takes the framing off a body.
pub struct ChunkedDecoder {
    state: State,
    proof: Proof,
    ending: Ending,
    /// Names that `x-amz-trailer` announced.
    announced: Vec<String>,
    /// Bytes of all chunks so far, by their sizes.
    seen_bytes: u64,
    /// Bytes that there must be in the end.
    decoded_bytes: u64,
    line: Vec<u8>,
    /// The chunk being read, while it isn't proved.
    held: Vec<Bytes>,
    tail: BytesMut,
    sha256: Sha256,
    signature: String,
    ready: VecDeque<Bytes>,
    trailers: Trailers,
    trailers_text: String,
    trailer_signature: Option<String>,
}

impl ChunkedDecoder {
    /// A decoder for the body of a request, or `None` if its mode has no framing.
    pub fn for_body(
        payload: &PayloadMode,
        headers: &HeaderMap,
    ) -> Result<Option<ChunkedDecoder>, S3Error> {
        let (proof, ending) = match payload {
            PayloadMode::Sha256(_) | PayloadMode::Unsigned => return Ok(None),
            PayloadMode::StreamingSigned(signer) => (Proof::Signed(signer.clone()), Ending::Plain),
            PayloadMode::StreamingSignedTrailer(signer) => {
                (Proof::Signed(signer.clone()), Ending::Trailers)
            }
            PayloadMode::StreamingUnsignedTrailer => (Proof::Unsigned, Ending::Trailers),
        };
        let announced = headers.get_all("x-amz-trailer").iter();
        let announced = announced.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        Ok(Some(ChunkedDecoder {
            state: State::Size,
            proof,
            ending,
            announced: announced.map(|name| name.trim().to_ascii_lowercase()).collect(),
            seen_bytes: 0,
            decoded_bytes: decoded_length(headers)?,
            line: Vec::new(),
            held: Vec::new(),
            tail: BytesMut::new(),
            sha256: Sha256::new(),
            signature: String::new(),
            ready: VecDeque::new(),
            trailers: Trailers::new(),
            trailers_text: String::new(),
            trailer_signature: None,
        }))
    }

    /// How many bytes will come out.
    pub fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Takes the next piece of the framed body. After an error the decoder is of no more use.
    pub fn push(&mut self, mut piece: Bytes) -> Result<(), S3Error> {
        while !piece.is_empty() {
            match self.state {
                State::Data(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
                    let data = piece.split_to(take);
                    self.data(data);
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    if left == 0 {
                        self.end_chunk()?;
                    }
                }
                State::Size | State::DataEnd | State::Trailer | State::TrailerSignature => {
                    if self.take_line(&mut piece)? {
                        let line = std::mem::take(&mut self.line);
                        self.line(&line)?;
                    }
                }
                State::Done => return Err(incomplete("There are bytes behind the last chunk.")),
            }
        }
        Ok(())
    }

    /// The next decoded bytes, if there are any now.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// To be called at the end of the body, when `pop` gives nothing more: its trailers.
    pub fn finish(self) -> Result<Trailers, S3Error> {
        match self.state {
            State::Done => Ok(self.trailers),
            // The trailers ended, and nobody signed them.
            State::TrailerSignature => Err(malformed_trailer()),
            State::Size | State::Data(_) | State::DataEnd | State::Trailer => {
                Err(incomplete("The body ended before its last chunk."))
            }
        }
    }

    /// Moves a line's bytes out of the piece; true when the line is complete, without its end.
    fn take_line(&mut self, piece: &mut Bytes) -> Result<bool, S3Error> {
        let end = piece.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(piece.len());
        if self.line.len() + take > LINE_BYTES_MAX {
            return Err(incomplete("A line of the chunk framing is too long."));
        }
        self.line.extend_from_slice(&piece[..take]);
        piece.advance(end.map_or(take, |end| end + 1));
        if end.is_none() {
            return Ok(false);
        }
        let in_trailers = matches!(self.state, State::Trailer | State::TrailerSignature);
        match self.line.pop() {
            Some(b'\r') => {}
            // AWS documents trailers that end with a bare line feed.
            Some(other) if in_trailers => self.line.push(other),
            None if in_trailers => {}
            _ => return Err(incomplete("A line of the chunk framing doesn't end with CRLF.")),
        }
        Ok(true)
    }

    fn line(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let text =
            std::str::from_utf8(line).map_err(|_| incomplete("The chunk framing isn't text."))?;
        match self.state {
            State::Size => self.size_line(text),
            State::DataEnd if text.is_empty() => {
                self.state = State::Size;
                Ok(())
            }
            State::DataEnd => Err(incomplete("A chunk is longer than it says.")),
            State::Trailer | State::TrailerSignature => self.trailer_line(text),
            State::Data(_) | State::Done => Ok(()),
        }
    }

    fn size_line(&mut self, text: &str) -> Result<(), S3Error> {
        let (digits, signature) = match (&self.proof, text.split_once(";chunk-signature=")) {
            (Proof::Signed(_), Some((digits, signature))) => (digits, signature),
            (Proof::Signed(_), None) => return Err(incomplete("A chunk has no signature.")),
            (Proof::Unsigned, _) => (text, ""),
        };
        let valid =
            (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| valid);
        let size = size.ok_or_else(|| incomplete("A chunk's size can't be read."))?;
        if matches!(self.proof, Proof::Signed(_)) && size > CHUNK_BYTES_MAX {
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, "A signed chunk is too large.")
                .field("MaxSizeAllowed", CHUNK_BYTES_MAX.to_string()));
        }
        self.seen_bytes += size;
        if self.seen_bytes > self.decoded_bytes {
            return Err(incomplete("The chunks are longer than x-amz-decoded-content-length."));
        }
        signature.clone_into(&mut self.signature);
        if size > 0 {
            self.state = State::Data(size);
            return Ok(());
        }
        self.end_chunk()?;
        if self.seen_bytes != self.decoded_bytes {
            return Err(incomplete("The chunks are shorter than x-amz-decoded-content-length."));
        }
        self.state = State::Trailer;
        Ok(())
    }

    fn data(&mut self, data: Bytes) {
        if matches!(self.proof, Proof::Unsigned) {
            self.ready.push_back(data);
            return;
        }
        self.sha256.update(&data);
        if data.len() < PIECE_BYTES_MIN {
            self.tail.extend_from_slice(&data);
        } else {
            self.flush_tail();
            self.held.push(data);
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.held.push(self.tail.split().freeze());
        }
    }

    /// Proves the chunk, and only then lets its bytes out.
    fn end_chunk(&mut self) -> Result<(), S3Error> {
        if let Proof::Signed(signer) = &mut self.proof {
            let digest: [u8; 32] = self.sha256.finalize_reset().into();
            signer.verify_chunk(&digest, &self.signature)?;
        }
        self.flush_tail();
        self.ready.extend(self.held.drain(..));
        Ok(())
    }

    fn trailer_line(&mut self, text: &str) -> Result<(), S3Error> {
        if text.is_empty() {
            return self.end_trailers();
        }
        let (name, value) = text.split_once(':').ok_or_else(malformed_trailer)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if self.ending == Ending::Plain
            || self.trailers.len() == TRAILERS_MAX
            || self.trailer_signature.is_some()
        {
            return Err(malformed_trailer());
        }
        if name == "x-amz-trailer-signature" {
            self.trailer_signature = Some(value.to_owned());
            return Ok(());
        }
        let repeated = self.trailers.iter().any(|(known, _)| known.as_str() == name);
        if repeated || !self.announced.contains(&name) {
            return Err(malformed_trailer().field("Trailer", name));
        }
        for text in [name.as_str(), ":", value, "\n"] {
            self.trailers_text.push_str(text);
        }
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed_trailer())?;
        self.trailers.push((header, value.to_owned()));
        Ok(())
    }

    fn end_trailers(&mut self) -> Result<(), S3Error> {
        match (&mut self.proof, self.ending, self.trailer_signature.take()) {
            (Proof::Signed(signer), Ending::Trailers, Some(signature)) => {
                signer.verify_trailer(&self.trailers_text, &signature)?;
            }
            (Proof::Signed(_), Ending::Trailers, None) => {
                self.state = State::TrailerSignature;
                return Ok(());
            }
            (Proof::Unsigned, _, Some(_)) => return Err(malformed_trailer()),
            (Proof::Signed(_), Ending::Plain, _) | (Proof::Unsigned, _, None) => {}
        }
        self.state = State::Done;
        Ok(())
    }
}

fn incomplete(message: &'static str) -> S3Error {
    S3Error::with(S3ErrorCode::IncompleteBody, message)
}

fn malformed_trailer() -> S3Error {
    S3Error::new(S3ErrorCode::MalformedTrailerError)
}

/// `x-amz-decoded-content-length`, without which a chunked body has no length.
fn decoded_length(headers: &HeaderMap) -> Result<u64, S3Error> {
    let mut values = headers.get_all("x-amz-decoded-content-length").iter();
    let value = values.next().ok_or(S3Error::new(S3ErrorCode::MissingContentLength))?;
    let text = value.to_str().unwrap_or("?");
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| digits && values.next().is_none());
    length.ok_or_else(|| {
        S3Error::invalid_argument(
            "x-amz-decoded-content-length",
            text,
            "The length isn't a number.",
        )
    })
}
