//! What a body must have: Content-MD5, the signed SHA-256, and a checksum in a header or trailer.
//!
//! In: headers and the payload mode that the signature proved. Out: the digests to compute and, once
//! they are there, success or the error that AWS gives. Nothing is compared in constant time: all
//! these values are the client's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use model::checksum::{ChecksumAlgorithm, ChecksumKind, StoredChecksum};
use model::upload::UploadChecksum;

use super::digests::{BodyDigests, Digests, Sha256Wanted};
use super::{ALGORITHMS, algorithm_name, header_name, kind_name, parse_algorithm, parse_digest};
use crate::error::{S3Error, S3ErrorCode};
use crate::sigv4::PayloadMode;

/// What a body must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    checksum: Option<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// It was given in a header.
    Value(ChecksumAlgorithm, Vec<u8>),
    /// It will come behind the body.
    Trailer(ChecksumAlgorithm),
    /// Nobody gave it, but it is to be stored.
    Computed(ChecksumAlgorithm),
}

impl Expected {
    fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Expected::Value(algorithm, _)
            | Expected::Trailer(algorithm)
            | Expected::Computed(algorithm) => *algorithm,
        }
    }
}

impl Expectations {
    /// Reads the headers of a request with a body.
    pub fn parse(headers: &HeaderMap, payload: &PayloadMode) -> Result<Expectations, S3Error> {
        let sha256 = match payload {
            PayloadMode::Sha256(digest) => Some(*digest),
            PayloadMode::Unsigned
            | PayloadMode::StreamingSigned(_)
            | PayloadMode::StreamingSignedTrailer(_)
            | PayloadMode::StreamingUnsignedTrailer => None,
        };
        let value = header_checksum(headers)?.map(|(algorithm, text)| {
            parse_digest(algorithm, text).map(|digest| Expected::Value(algorithm, digest))
        });
        let trailer = trailer_checksum(headers, payload)?.map(Expected::Trailer);
        let checksum = match (value.transpose()?, trailer) {
            (Some(_), Some(_)) => return Err(single_checksum()),
            (value, trailer) => value.or(trailer),
        };
        check_announced(headers, checksum.as_ref())?;
        Ok(Expectations { md5: content_md5(headers)?, sha256, checksum })
    }

    /// Wants a checksum of the algorithm whether or not the client gave one, since its upload was begun
    /// with it. A client that gave one of another algorithm is refused.
    pub fn compute(&mut self, algorithm: ChecksumAlgorithm) -> Result<(), S3Error> {
        match &self.checksum {
            None => self.checksum = Some(Expected::Computed(algorithm)),
            Some(given) if given.algorithm() == algorithm => {}
            Some(given) => {
                let (expected, actual) =
                    (algorithm_name(algorithm), algorithm_name(given.algorithm()));
                return Err(S3Error::with(
                    S3ErrorCode::InvalidRequest,
                    format!(
                        "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                        expected.to_lowercase(),
                        actual.to_lowercase()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Wants this checksum if the client announced none.
    pub fn compute_by_default(&mut self, algorithm: ChecksumAlgorithm) {
        self.checksum.get_or_insert(Expected::Computed(algorithm));
    }

    /// The algorithm of the checksum that will be kept of the body.
    pub fn algorithm(&self) -> Option<ChecksumAlgorithm> {
        self.checksum.as_ref().map(Expected::algorithm)
    }

    /// Whether anything protects the body besides the transport: Content-MD5 or a checksum.
    pub fn has_integrity(&self) -> bool {
        self.md5.is_some() || self.checksum.is_some()
    }

    /// The digests that the body needs.
    pub fn digests(&self) -> BodyDigests {
        let sha256 = if self.sha256.is_some() { Sha256Wanted::Yes } else { Sha256Wanted::No };
        BodyDigests::new(sha256, self.algorithm())
    }

    /// Compares. `trailers` are those that `ChunkedDecoder::finish` gave, or none.
    pub fn verify(
        &self,
        found: &Digests,
        trailers: &[(HeaderName, String)],
    ) -> Result<(), S3Error> {
        if self.sha256.is_some() && self.sha256 != found.sha256 {
            return Err(S3Error::new(S3ErrorCode::XAmzContentSHA256Mismatch)
                .field(
                    "ClientComputedContentSHA256",
                    self.sha256.map(hex::encode).unwrap_or_default(),
                )
                .field(
                    "S3ComputedContentSHA256",
                    found.sha256.map(hex::encode).unwrap_or_default(),
                ));
        }
        if self.md5.is_some_and(|md5| md5 != found.md5) {
            return Err(S3Error::with(
                S3ErrorCode::BadDigest,
                "The Content-MD5 you specified did not match what we received.",
            )
            .field("ExpectedDigest", self.md5.map(hex::encode).unwrap_or_default())
            .field("CalculatedDigest", hex::encode(found.md5)));
        }
        let (algorithm, expected) = match &self.checksum {
            None | Some(Expected::Computed(_)) => return Ok(()),
            Some(Expected::Value(algorithm, digest)) => (*algorithm, digest.clone()),
            Some(Expected::Trailer(algorithm)) => {
                let name = header_name(*algorithm);
                let given = trailers.iter().find(|(known, _)| known.as_str() == name);
                let (_, text) = given.ok_or(S3Error::new(S3ErrorCode::MalformedTrailerError))?;
                (*algorithm, parse_digest(*algorithm, text)?)
            }
        };
        if found.checksum.as_ref().is_some_and(|checksum| checksum.digest == expected) {
            return Ok(());
        }
        let name = algorithm_name(algorithm);
        let message = format!("The {name} you specified did not match the calculated checksum.");
        Err(S3Error::with(S3ErrorCode::BadDigest, message))
    }
}

fn single_checksum() -> S3Error {
    S3Error::with(
        S3ErrorCode::InvalidRequest,
        "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
    )
}

/// The one `x-amz-checksum-*` header that carries a value.
fn header_checksum(headers: &HeaderMap) -> Result<Option<(ChecksumAlgorithm, &str)>, S3Error> {
    let mut found = None;
    for (name, value) in headers {
        let Some(short) = name.as_str().strip_prefix("x-amz-checksum-") else { continue };
        if matches!(short, "algorithm" | "type" | "mode") {
            continue;
        }
        let algorithm = parse_algorithm(short).ok_or_else(|| {
            S3Error::new(S3ErrorCode::NotImplemented).field("Header", name.as_str())
        })?;
        if found.replace((algorithm, value.to_str().unwrap_or("?"))).is_some() {
            return Err(single_checksum());
        }
    }
    Ok(found)
}

/// The checksum that `x-amz-trailer` announces.
fn trailer_checksum(
    headers: &HeaderMap,
    payload: &PayloadMode,
) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let mut found = None;
    for value in headers.get_all("x-amz-trailer") {
        for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
            let algorithm =
                ALGORITHMS.into_iter().find(|one| header_name(*one).eq_ignore_ascii_case(name));
            let algorithm = algorithm.ok_or_else(|| {
                let message = "The value specified in the x-amz-trailer header is not supported";
                S3Error::with(S3ErrorCode::InvalidRequest, message).field("ArgumentValue", name)
            })?;
            if found.replace(algorithm).is_some() {
                return Err(single_checksum());
            }
        }
    }
    match payload {
        PayloadMode::StreamingSignedTrailer(_) | PayloadMode::StreamingUnsignedTrailer => Ok(found),
        PayloadMode::Sha256(_) | PayloadMode::Unsigned | PayloadMode::StreamingSigned(_) => {
            if found.is_none() {
                return Ok(None);
            }
            let message = "An x-amz-trailer header needs a payload that has trailers.";
            Err(S3Error::with(S3ErrorCode::InvalidRequest, message))
        }
    }
}

/// An SDK that says which algorithm it uses must use it.
fn check_announced(headers: &HeaderMap, checksum: Option<&Expected>) -> Result<(), S3Error> {
    let Some(value) = headers.get("x-amz-sdk-checksum-algorithm") else { return Ok(()) };
    let algorithm = value.to_str().ok().and_then(parse_algorithm);
    match (algorithm, checksum) {
        (Some(announced), Some(given)) if given.algorithm() == announced => Ok(()),
        (Some(_), None) => Err(S3Error::with(
            S3ErrorCode::InvalidRequest,
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )),
        (Some(_) | None, _) => Err(S3Error::with(
            S3ErrorCode::InvalidRequest,
            "Value for x-amz-sdk-checksum-algorithm header is invalid.",
        )),
    }
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(value.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    digest.map(Some).ok_or_else(|| {
        S3Error::with(S3ErrorCode::InvalidDigest, "The Content-MD5 you specified was invalid.")
    })
}

/// The `x-amz-checksum-algorithm` of a CreateMultipartUpload or CopyObject.
pub fn wanted_algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    let Some(value) = headers.get("x-amz-checksum-algorithm") else { return Ok(None) };
    value.to_str().ok().and_then(parse_algorithm).map(Some).ok_or_else(|| {
        S3Error::with(
            S3ErrorCode::InvalidRequest,
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    })
}

/// What CreateMultipartUpload asks for with `x-amz-checksum-algorithm` and `x-amz-checksum-type`.
pub fn upload_checksum(headers: &HeaderMap) -> Result<Option<UploadChecksum>, S3Error> {
    let kind = checksum_kind(headers)?;
    let Some(algorithm) = wanted_algorithm(headers)? else {
        if kind.is_none() {
            return Ok(None);
        }
        let message = "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.";
        return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
    };
    let kind = match (algorithm, kind) {
        (ChecksumAlgorithm::Crc64Nvme, None) => ChecksumKind::FullObject,
        (_, None) => ChecksumKind::Composite,
        (ChecksumAlgorithm::Crc64Nvme, Some(ChecksumKind::Composite))
        | (ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, Some(ChecksumKind::FullObject)) => {
            return Err(S3Error::with(
                S3ErrorCode::InvalidRequest,
                format!(
                    "The {} checksum type cannot be used with the {} checksum algorithm.",
                    kind.map(kind_name).unwrap_or_default(),
                    algorithm_name(algorithm).to_lowercase()
                ),
            ));
        }
        (_, Some(kind)) => kind,
    };
    Ok(Some(UploadChecksum { algorithm, kind }))
}

fn checksum_kind(headers: &HeaderMap) -> Result<Option<ChecksumKind>, S3Error> {
    match headers.get("x-amz-checksum-type").map(|value| value.to_str().unwrap_or("?")) {
        None => Ok(None),
        Some("COMPOSITE") => Ok(Some(ChecksumKind::Composite)),
        Some("FULL_OBJECT") => Ok(Some(ChecksumKind::FullObject)),
        Some(_) => {
            let message = "Value for x-amz-checksum-type header is invalid.";
            Err(S3Error::with(S3ErrorCode::InvalidRequest, message))
        }
    }
}

/// What the headers of a CompleteMultipartUpload say of the object to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteExpectations {
    checksum: Option<(ChecksumAlgorithm, Vec<u8>, Option<u32>)>,
    kind: Option<ChecksumKind>,
    object_bytes: Option<u64>,
}

impl CompleteExpectations {
    /// Reads them.
    pub fn parse(headers: &HeaderMap) -> Result<CompleteExpectations, S3Error> {
        let checksum = match header_checksum(headers)? {
            None => None,
            Some((algorithm, text)) => {
                // A composite checksum may say of how many parts.
                let (text, parts) = match text.split_once('-') {
                    Some((text, parts)) => (text, parts.parse::<u32>().ok()),
                    None => (text, None),
                };
                Some((algorithm, parse_digest(algorithm, text)?, parts))
            }
        };
        let object_bytes = match headers.get("x-amz-mp-object-size") {
            None => None,
            Some(value) => {
                let text = value.to_str().unwrap_or("?");
                let bytes = text.parse::<u64>().map_err(|_| {
                    S3Error::invalid_argument(
                        "x-amz-mp-object-size",
                        text,
                        "The size isn't a number.",
                    )
                })?;
                Some(bytes)
            }
        };
        Ok(CompleteExpectations { checksum, kind: checksum_kind(headers)?, object_bytes })
    }

    /// Compares with what the parts make: their number, the object's checksum and size.
    pub fn verify(
        &self,
        parts: u32,
        bytes: u64,
        found: Option<&StoredChecksum>,
    ) -> Result<(), S3Error> {
        if self.object_bytes.is_some_and(|expected| expected != bytes) {
            let message = "The provided 'x-amz-mp-object-size' header value does not match what was computed.";
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
        }
        if self.kind.is_some_and(|kind| found.is_none_or(|found| found.kind != kind)) {
            let message = "The checksum type of the upload differs from the one specified.";
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
        }
        let Some((algorithm, digest, count)) = &self.checksum else { return Ok(()) };
        let matches = found.is_some_and(|found| {
            found.algorithm == *algorithm
                && found.digest == *digest
                && count.is_none_or(|count| found.kind == ChecksumKind::Composite && count == parts)
        });
        if matches {
            return Ok(());
        }
        let name = algorithm_name(*algorithm);
        let message = format!("The {name} you specified did not match the calculated checksum.");
        Err(S3Error::with(S3ErrorCode::BadDigest, message))
    }
}

#[cfg(test)]
#[path = "expectations_tests.rs"]
mod tests;
