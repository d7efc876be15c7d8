//! The canonical request and the string to sign.
//!
//! In: a claim and the raw request. Out: text, in one buffer. The path is taken as it came, or with
//! every byte written as S3 writes it (`PathForm`); either way it is encoded once and nothing in it is
//! removed or joined. Query parameters are always rewritten, since clients send `/` bare or `~` encoded
//! there, and are sorted by their encoded bytes.

use http::{HeaderMap, Uri};
use sha2::{Digest as _, Sha256};

use super::{ALGORITHM, Claim, RequestParts, Scope, Validity};
use crate::error::{S3Error, S3ErrorCode};

/// How the path is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathForm {
    /// As it came.
    Raw,
    /// Every byte as S3 writes it.
    Encoded,
}

/// The canonical request.
pub(super) fn request(
    claim: &Claim,
    parts: &RequestParts<'_>,
    form: PathForm,
) -> Result<String, S3Error> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b'\n');
    match form {
        PathForm::Raw => out.extend_from_slice(parts.uri.path().as_bytes()),
        PathForm::Encoded => encode(parts.uri.path().as_bytes(), Place::Path, &mut out),
    }
    out.push(b'\n');
    write_query(parts.uri, claim.validity, &mut out);
    out.push(b'\n');
    for name in &claim.signed_headers {
        write_header(name, parts, &mut out)?;
    }
    out.push(b'\n');
    for (number, name) in claim.signed_headers.iter().enumerate() {
        if number > 0 {
            out.push(b';');
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.push(b'\n');
    out.extend_from_slice(claim.payload_text.as_bytes());
    // Header values may hold any bytes; a request with some that aren't UTF-8 can't be shown or signed.
    String::from_utf8(out).map_err(|_| {
        S3Error::with(S3ErrorCode::InvalidArgument, "A signed header isn't valid UTF-8.")
    })
}

/// The string to sign of a canonical request.
pub(super) fn string_to_sign(time_text: &str, scope: &Scope, request: &str) -> String {
    let mut out = String::with_capacity(192);
    out.push_str(ALGORITHM);
    out.push('\n');
    out.push_str(time_text);
    out.push('\n');
    scope.write(&mut out);
    out.push('\n');
    out.push_str(&hex::encode(Sha256::digest(request)));
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
}

/// Writes bytes as S3 encodes them, taking `%XX` for the byte that it stands for.
fn encode(raw: &[u8], place: Place, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let nibble = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    while let Some(byte) = raw.get(at).copied() {
        at += 1;
        let byte = match (byte, nibble(raw.get(at)), nibble(raw.get(at + 1))) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                let decoded = (high << 4 | low) as u8;
                // An encoded slash is a byte of a name, and no separator.
                if decoded == b'/' && place == Place::Path {
                    out.extend_from_slice(b"%2F");
                    continue;
                }
                decoded
            }
            (b'+', _, _) if place == Place::Query => b' ',
            (byte, _, _) => byte,
        };
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            b'/' if place == Place::Path => out.push(byte),
            byte => out.extend_from_slice(&[
                b'%',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
    }
}

fn write_query(uri: &Uri, validity: Validity, out: &mut Vec<u8>) {
    let Some(query) = uri.query().filter(|query| !query.is_empty()) else { return };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (mut encoded_name, mut encoded_value) = (Vec::new(), Vec::new());
        encode(name.as_bytes(), Place::Query, &mut encoded_name);
        // The signature can't sign itself.
        if matches!(validity, Validity::Expires(_)) && encoded_name == b"X-Amz-Signature" {
            continue;
        }
        encode(value.as_bytes(), Place::Query, &mut encoded_value);
        pairs.push((encoded_name, encoded_value));
    }
    pairs.sort_unstable();
    for (number, (name, value)) in pairs.iter().enumerate() {
        if number > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

fn write_header(name: &str, parts: &RequestParts<'_>, out: &mut Vec<u8>) -> Result<(), S3Error> {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    let mut values = parts.headers.get_all(name).iter();
    match (values.next(), name, parts.uri.authority()) {
        (Some(first), _, _) => write_trimmed(first.as_bytes(), out),
        // HTTP/2 has an authority instead of the header.
        (None, "host", Some(authority)) => out.extend_from_slice(authority.as_str().as_bytes()),
        (None, _, _) => {
            let message = "A header that is named in SignedHeaders is not in the request.";
            let error = S3Error::with(S3ErrorCode::SignatureDoesNotMatch, message);
            return Err(error.field("HeaderMissing", name));
        }
    }
    for more in values {
        refuse_repeated(name, parts.headers)?;
        out.push(b',');
        write_trimmed(more.as_bytes(), out);
    }
    out.push(b'\n');
    Ok(())
}

/// A host that is there twice is read differently by different servers.
fn refuse_repeated(name: &str, headers: &HeaderMap) -> Result<(), S3Error> {
    if matches!(name, "host" | "x-amz-date" | "x-amz-content-sha256" | "content-length") {
        let times = headers.get_all(name).iter().count().to_string();
        let message = "The header must be there once.";
        return Err(S3Error::with(S3ErrorCode::InvalidArgument, message)
            .field("ArgumentName", name)
            .field("Times", times));
    }
    Ok(())
}

/// Writes a value without spaces around it and with single spaces in it.
fn write_trimmed(value: &[u8], out: &mut Vec<u8>) {
    let mut words =
        value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    if let Some(first) = words.next() {
        out.extend_from_slice(first);
    }
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}
