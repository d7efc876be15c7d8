//! AWS Signature Version 4: who sent a request, and proof of it.
//!
//! In: method, raw target and headers. `parse` reads the claim (an `Authorization` header or presigned
//! query) and refuses everything malformed; `Claim::verify` checks time and signature and gives a
//! `Signed`, the only thing that says a request is authentic. The canonical request is built from the
//! raw target: single-encoded, nothing normalised. Signatures are compared in constant time.
//! Deliberately absent: SigV2, SigV4A (ECDSA) and session tokens, each refused by name.

mod authorization;
mod canonical;
mod chunk;
mod key;
mod payload;
mod presigned;

use http::{HeaderMap, Method, Uri};
use model::time::Timestamp;
use subtle::ConstantTimeEq as _;

use crate::date;
use crate::error::{S3Error, S3ErrorCode};

pub use chunk::ChunkSigner;
pub use key::{SigningKey, SigningKeyCache};
pub use payload::PayloadMode;

/// The only algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// How far the clocks of client and server may differ: 15 minutes (S3).
pub const SKEW_SECONDS_MAX: u64 = 15 * 60;

/// How long a presigned request may be valid: 7 days (S3).
pub const EXPIRES_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target as it came, never rewritten.
    pub uri: &'a Uri,
    /// The headers as they came, before `headers::hoist`.
    pub headers: &'a HeaderMap,
}

/// Who a request says it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthClaim {
    /// Nobody.
    Anonymous,
    /// The `Authorization` header says it.
    Header(Claim),
    /// The query says it.
    Presigned(Claim),
}

/// A claim that is well formed, and not proved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    access_key: String,
    scope: Scope,
    signed_headers: Vec<String>,
    signature: String,
    time: Timestamp,
    /// `time` as it goes into the string to sign.
    time_text: String,
    validity: Validity,
    payload_text: String,
}

/// How long a signature holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    /// As long as the clocks agree.
    Skew,
    /// So many seconds from its time on.
    Expires(u64),
}

/// What a signing key is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The day, as `YYYYMMDD`.
    pub date: String,
    /// The region.
    pub region: String,
}

impl Scope {
    fn write(&self, out: &mut String) {
        out.push_str(&self.date);
        out.push('/');
        out.push_str(&self.region);
        out.push_str("/s3/aws4_request");
    }
}

/// A request whose signature is right.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Whose secret signed it.
    pub access_key: String,
    /// How its body is framed and proved.
    pub payload: PayloadMode,
    /// How it was signed.
    pub form: SignatureForm,
}

/// Where the signature was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureForm {
    /// In the `Authorization` header.
    Header,
    /// In the query; see `headers::hoist`.
    Presigned,
}

/// Reads who a request says it is from. `region` is the one that signatures must be for.
pub fn parse(parts: &RequestParts<'_>, region: &str) -> Result<AuthClaim, S3Error> {
    let in_header = parts.headers.contains_key(http::header::AUTHORIZATION);
    let in_query = presigned::is_present(parts.uri);
    match (in_header, in_query) {
        (false, false) => Ok(AuthClaim::Anonymous),
        (true, false) => authorization::parse(parts, region).map(AuthClaim::Header),
        (false, true) => presigned::parse(parts, region).map(AuthClaim::Presigned),
        (true, true) => Err(S3Error::with(
            S3ErrorCode::InvalidArgument,
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
        )),
    }
}

impl AuthClaim {
    /// The claim, if there is one.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            AuthClaim::Anonymous => None,
            AuthClaim::Header(claim) | AuthClaim::Presigned(claim) => Some(claim),
        }
    }

    /// The access key that is claimed.
    pub fn access_key(&self) -> Option<&str> {
        self.claim().map(Claim::access_key)
    }
}

/// The error for an access key that nobody has.
pub fn unknown_access_key(access_key: &str) -> S3Error {
    S3Error::new(S3ErrorCode::InvalidAccessKeyId).field("AWSAccessKeyId", access_key)
}

impl Claim {
    /// The access key that is claimed.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// What the signing key must be for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Proves the claim with the key derived from the secret of its access key.
    pub fn verify(
        &self,
        key: &SigningKey,
        parts: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<Signed, S3Error> {
        self.check_time(now)?;
        let request = canonical::request(self, parts, canonical::PathForm::Raw)?;
        if !self.matches(key, &request) {
            // A client may send characters bare that it encoded when it signed. Both forms decode to
            // the same path, so a signature over either means the same request.
            let encoded = canonical::request(self, parts, canonical::PathForm::Encoded)?;
            if encoded == request || !self.matches(key, &encoded) {
                return Err(self.mismatch(&request));
            }
        }
        let seed = || ChunkSigner::new(key.clone(), &self.time_text, &self.scope, &self.signature);
        Ok(Signed {
            access_key: self.access_key.clone(),
            payload: PayloadMode::parse(&self.payload_text, seed)?,
            form: match self.validity {
                Validity::Skew => SignatureForm::Header,
                Validity::Expires(_) => SignatureForm::Presigned,
            },
        })
    }

    fn matches(&self, key: &SigningKey, request: &str) -> bool {
        let expected = key.sign(self.string_to_sign(request).as_bytes());
        expected.as_bytes().ct_eq(self.signature.as_bytes()).into()
    }

    fn string_to_sign(&self, request: &str) -> String {
        canonical::string_to_sign(&self.time_text, &self.scope, request)
    }

    fn check_time(&self, now: Timestamp) -> Result<(), S3Error> {
        let (now_seconds, then) = (now.as_seconds(), self.time.as_seconds());
        match self.validity {
            Validity::Skew if now_seconds.abs_diff(then) > SKEW_SECONDS_MAX => {
                Err(S3Error::new(S3ErrorCode::RequestTimeTooSkewed)
                    .field("RequestTime", self.time_text.as_str())
                    .field("ServerTime", date::iso8601(now))
                    .field("MaxAllowedSkewMilliseconds", (SKEW_SECONDS_MAX * 1000).to_string()))
            }
            Validity::Expires(_) if then > now_seconds + SKEW_SECONDS_MAX => {
                Err(S3Error::with(S3ErrorCode::AccessDenied, "Request is not valid yet")
                    .field("ServerTime", date::iso8601(now)))
            }
            Validity::Expires(seconds) if now_seconds > then.saturating_add(seconds) => {
                let expired = Timestamp::from_seconds(then.saturating_add(seconds));
                Err(S3Error::with(S3ErrorCode::AccessDenied, "Request has expired")
                    .field("X-Amz-Expires", seconds.to_string())
                    .field("Expires", date::iso8601(expired))
                    .field("ServerTime", date::iso8601(now)))
            }
            Validity::Skew | Validity::Expires(_) => Ok(()),
        }
    }

    /// What S3 tells a client whose signature is wrong: all that it signed, so that it can compare.
    fn mismatch(&self, request: &str) -> S3Error {
        S3Error::new(S3ErrorCode::SignatureDoesNotMatch)
            .field("AWSAccessKeyId", self.access_key.as_str())
            .field("StringToSign", self.string_to_sign(request))
            .field("SignatureProvided", self.signature.as_str())
            .field("CanonicalRequest", request)
    }
}

/// A credential `AKID/20130524/us-east-1/s3/aws4_request` taken apart, or what is wrong with it.
fn parse_credential(
    text: &str,
    region: &str,
    code: S3ErrorCode,
    time: Timestamp,
) -> Result<(String, Scope), S3Error> {
    let refuse = |message: String| S3Error::with(code, message);
    // An access key may hold slashes, the rest can't.
    let mut words = text.rsplitn(5, '/');
    let mut word = || words.next().filter(|word| !word.is_empty());
    let (Some(terminator), Some(service), Some(claimed), Some(day), Some(access_key)) =
        (word(), word(), word(), word(), word())
    else {
        return Err(refuse("The Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".".into()));
    };
    if terminator != "aws4_request" {
        return Err(refuse(format!(
            "Incorrect terminal \"{terminator}\". This endpoint uses \"aws4_request\"."
        )));
    }
    if service != "s3" {
        return Err(refuse(format!(
            "Incorrect service \"{service}\". This endpoint belongs to \"s3\"."
        )));
    }
    if claimed != region {
        let message = format!(
            "The authorization is malformed; the region '{claimed}' is wrong; expecting '{region}'"
        );
        return Err(refuse(message).field("Region", region));
    }
    if !date::basic(time).starts_with(day) || day.len() != 8 {
        return Err(refuse(format!(
            "Invalid credential date \"{day}\". This date is not the same as X-Amz-Date."
        )));
    }
    Ok((access_key.to_owned(), Scope { date: day.to_owned(), region: claimed.to_owned() }))
}

/// The names of `SignedHeaders`: lower case, sorted, each once, `host` among them.
fn parse_signed_headers(text: &str, code: S3ErrorCode) -> Result<Vec<String>, S3Error> {
    let names: Vec<&str> = text.split(';').collect();
    let valid = |name: &&str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    };
    if !names.iter().all(valid) || !names.is_sorted_by(|a, b| a < b) {
        let message = "SignedHeaders must be lower-case header names, sorted and each once.";
        return Err(S3Error::with(code, message));
    }
    if !names.contains(&"host") {
        return Err(S3Error::with(code, "The host header must be among the SignedHeaders."));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// Every `x-amz-*` header must be signed, or a third party could add one.
fn check_all_signed(headers: &HeaderMap, signed: &[String]) -> Result<(), S3Error> {
    let unsigned = headers.keys().find(|name| {
        let name = name.as_str();
        name.starts_with("x-amz-") && !signed.iter().any(|one| one == name)
    });
    match unsigned {
        None => Ok(()),
        Some(name) => {
            let message = "There were headers present in the request which were not signed";
            Err(S3Error::with(S3ErrorCode::AccessDenied, message)
                .field("HeadersNotSigned", name.as_str()))
        }
    }
}

fn parse_signature(text: &str, code: S3ErrorCode) -> Result<String, S3Error> {
    let valid =
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if valid {
        return Ok(text.to_owned());
    }
    Err(S3Error::with(code, "The Signature must be 64 hexadecimal digits."))
}

/// Temporary credentials don't exist here, so a token can't be one of ours.
fn refuse_token() -> S3Error {
    S3Error::new(S3ErrorCode::InvalidToken)
}
