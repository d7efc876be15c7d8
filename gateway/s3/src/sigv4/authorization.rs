//! The `Authorization` header.

use http::{HeaderMap, header};
use model::time::Timestamp;

use super::payload::PayloadMode;
use super::{ALGORITHM, Claim, RequestParts, Validity};
use crate::date;
use crate::error::{S3Error, S3ErrorCode};

const CODE: S3ErrorCode = S3ErrorCode::AuthorizationHeaderMalformed;

/// Reads the claim of a request that has the header.
pub(super) fn parse(parts: &RequestParts<'_>, region: &str) -> Result<Claim, S3Error> {
    let value = single(parts.headers, "authorization")?.unwrap_or_default();
    let Some((algorithm, fields)) = value.trim().split_once(' ') else {
        return Err(S3Error::with(
            S3ErrorCode::InvalidArgument,
            "Authorization header is invalid -- one and only one ' ' (space) required",
        )
        .field("ArgumentName", "Authorization"));
    };
    match algorithm {
        ALGORITHM => {}
        "AWS4-ECDSA-P256-SHA256" => return Err(S3Error::new(S3ErrorCode::NotImplemented)),
        // Signature Version 2, which S3 has retired.
        "AWS" => {
            let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
            return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
        }
        _ => {
            return Err(S3Error::with(
                S3ErrorCode::InvalidArgument,
                "Unsupported Authorization Type",
            )
            .field("ArgumentName", "Authorization"));
        }
    }
    if parts.headers.contains_key("x-amz-security-token") {
        return Err(super::refuse_token());
    }
    let fields = Fields::parse(fields)?;
    let signed_headers = super::parse_signed_headers(fields.signed_headers, CODE)?;
    let time = request_time(parts.headers, &signed_headers)?;
    let (access_key, scope) = super::parse_credential(fields.credential, region, CODE, time)?;
    super::check_all_signed(parts.headers, &signed_headers)?;
    let payload = single(parts.headers, "x-amz-content-sha256")?.ok_or_else(|| {
        S3Error::with(
            S3ErrorCode::InvalidRequest,
            "Missing required header for this request: x-amz-content-sha256",
        )
    })?;
    PayloadMode::check(payload)?;
    Ok(Claim {
        access_key,
        scope,
        signed_headers,
        signature: super::parse_signature(fields.signature, CODE)?,
        time,
        time_text: date::basic(time),
        validity: Validity::Skew,
        payload_text: payload.to_owned(),
    })
}

struct Fields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Fields<'a>, S3Error> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in text.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(malformed)?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(malformed()),
            };
            if slot.replace(value).is_some() {
                return Err(malformed());
            }
        }
        Ok(Fields {
            credential: credential.ok_or_else(malformed)?,
            signed_headers: signed_headers.ok_or_else(malformed)?,
            signature: signature.ok_or_else(malformed)?,
        })
    }
}

fn malformed() -> S3Error {
    S3Error::with(
        CODE,
        "The authorization header is malformed; the authorization header requires three components: Credential, SignedHeaders, and Signature.",
    )
}

/// The time of the request: `x-amz-date`, or else a `Date` that is signed.
fn request_time(headers: &HeaderMap, signed: &[String]) -> Result<Timestamp, S3Error> {
    let missing = || {
        let message = "AWS authentication requires a valid Date or x-amz-date header";
        S3Error::with(S3ErrorCode::AccessDenied, message)
    };
    if let Some(text) = single(headers, "x-amz-date")? {
        return date::parse_basic(text).ok_or_else(missing);
    }
    let text = single(headers, header::DATE.as_str())?.ok_or_else(missing)?;
    if !signed.iter().any(|name| name == "date") {
        return Err(missing());
    }
    date::parse_basic(text).or_else(|| date::parse_http(text)).ok_or_else(missing)
}

/// A header that must not be there twice.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, S3Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if let (Ok(text), None) = (value.to_str(), values.next()) {
        return Ok(Some(text));
    }
    let message = "The header must be there once, in visible ASCII.";
    Err(S3Error::with(S3ErrorCode::InvalidArgument, message).field("ArgumentName", name))
}
