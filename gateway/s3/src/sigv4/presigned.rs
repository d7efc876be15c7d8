//! The presigned query.

use http::Uri;

use super::payload::{PayloadMode, UNSIGNED_PAYLOAD};
use super::{ALGORITHM, Claim, EXPIRES_SECONDS_MAX, RequestParts, Validity};
use crate::date;
use crate::error::{S3Error, S3ErrorCode};
use crate::query::Query;

const CODE: S3ErrorCode = S3ErrorCode::AuthorizationQueryParametersError;

/// The parameters that make a query a presigned one, of this or the older version.
const MARKS: [&str; 5] =
    ["X-Amz-Algorithm=", "X-Amz-Credential=", "X-Amz-Signature=", "AWSAccessKeyId=", "Signature="];

/// Whether the query claims anything.
pub(super) fn is_present(uri: &Uri) -> bool {
    let Some(query) = uri.query() else { return false };
    query.split('&').any(|pair| MARKS.iter().any(|mark| pair.starts_with(mark)))
}

/// Reads the claim of a request that has such parameters.
pub(super) fn parse(parts: &RequestParts<'_>, region: &str) -> Result<Claim, S3Error> {
    let query = Query::parse(parts.uri.query())?;
    if query.contains("AWSAccessKeyId") || query.contains("Signature") {
        let message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
        return Err(S3Error::with(S3ErrorCode::InvalidRequest, message));
    }
    let algorithm = single(&query, "X-Amz-Algorithm")?;
    if algorithm == "AWS4-ECDSA-P256-SHA256" {
        return Err(S3Error::new(S3ErrorCode::NotImplemented));
    }
    if algorithm != ALGORITHM {
        let message =
            "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"";
        return Err(S3Error::with(CODE, message));
    }
    if query.contains("X-Amz-Security-Token") || parts.headers.contains_key("x-amz-security-token")
    {
        return Err(super::refuse_token());
    }
    let time = date::parse_basic(single(&query, "X-Amz-Date")?).ok_or_else(|| {
        S3Error::with(
            CODE,
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        )
    })?;
    let expires = parse_expires(single(&query, "X-Amz-Expires")?)?;
    let (access_key, scope) =
        super::parse_credential(single(&query, "X-Amz-Credential")?, region, CODE, time)?;
    let signed_headers = super::parse_signed_headers(single(&query, "X-Amz-SignedHeaders")?, CODE)?;
    super::check_all_signed(parts.headers, &signed_headers)?;
    let header =
        parts.headers.get("x-amz-content-sha256").map(|value| value.to_str().unwrap_or("?"));
    let payload = query.get("X-Amz-Content-Sha256").or(header).unwrap_or(UNSIGNED_PAYLOAD);
    PayloadMode::check(payload)?;
    Ok(Claim {
        access_key,
        scope,
        signed_headers,
        signature: super::parse_signature(single(&query, "X-Amz-Signature")?, CODE)?,
        time,
        time_text: date::basic(time),
        validity: Validity::Expires(expires),
        payload_text: payload.to_owned(),
    })
}

fn parse_expires(text: &str) -> Result<u64, S3Error> {
    let refuse = |message: &'static str| S3Error::with(CODE, message);
    if text.starts_with('-') {
        return Err(refuse("X-Amz-Expires must be non-negative"));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = match text.parse() {
        Ok(seconds) if digits => seconds,
        _ => return Err(refuse("X-Amz-Expires should be a number")),
    };
    match seconds {
        0 => Err(refuse("X-Amz-Expires must be at least one second")),
        1..=EXPIRES_SECONDS_MAX => Ok(seconds),
        _ => Err(refuse(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
        )),
    }
}

/// A parameter of the signature: there once, whatever its case elsewhere.
fn single<'a>(query: &'a Query, name: &str) -> Result<&'a str, S3Error> {
    let mut values = query.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (Some((known, value)), None) if known == name => Ok(value),
        (Some(_), _) => {
            Err(S3Error::with(CODE, format!("The query parameter {name} must be there once.")))
        }
        (None, _) => Err(S3Error::with(
            CODE,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
        )),
    }
}
