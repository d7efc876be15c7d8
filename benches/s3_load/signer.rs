//! Signature Version 4 with as little work per request as the scheme allows.
//!
//! In: method, path, query and payload hash. Out: the three headers that authenticate the request.
//! The signing key is derived once a day and the date is formatted once a second; what is left per
//! request is one SHA-256 of a short text and one HMAC.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::HeaderValue;
use sha2::{Digest, Sha256};

const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";

/// The SHA-256 of an empty body.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What the signature depends on, besides the credentials and the time.
pub struct Signable<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path, already escaped.
    pub path: &'a str,
    /// The canonical query: sorted and escaped; may be empty.
    pub query: &'a str,
    /// What stands in `x-amz-content-sha256`.
    pub payload_hash: &'a str,
}

/// The values of `x-amz-date` and `authorization`.
pub struct Signature {
    /// Value of `x-amz-date`.
    pub date: HeaderValue,
    /// Value of `authorization`.
    pub authorization: HeaderValue,
}

struct Moment {
    second: u64,
    /// `20260131T235959Z`.
    date: String,
    /// `20260131/us-east-1/s3/aws4_request`.
    scope: String,
    key: Vec<u8>,
}

/// Signs requests for one host with one pair of keys.
pub struct Signer {
    host: String,
    access_key: String,
    secret_key: String,
    region: String,
    moment: RefCell<Option<Moment>>,
}

impl Signer {
    /// `host` is what the `host` header says, with the port.
    pub fn new(host: &str, access_key: &str, secret_key: &str, region: &str) -> Self {
        Self {
            host: host.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            region: region.to_owned(),
            moment: RefCell::new(None),
        }
    }

    /// Signs for the present time.
    pub fn sign(&self, request: &Signable<'_>) -> Result<Signature> {
        #[expect(clippy::disallowed_methods, reason = "a load program lives in the real world")]
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        self.sign_at(request, second)
    }

    fn sign_at(&self, request: &Signable<'_>, second: u64) -> Result<Signature> {
        let mut moment = self.moment.borrow_mut();
        if moment.as_ref().is_none_or(|moment| moment.second != second) {
            *moment = Some(self.moment_at(second)?);
        }
        let moment = moment.as_ref().context("the moment was just set")?;
        let Signable { method, path, query, payload_hash } = request;
        let host = &self.host;
        let date = &moment.date;
        let mut text = String::with_capacity(512);
        write!(
            text,
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{payload_hash}\n\
             x-amz-date:{date}\n\n{SIGNED_HEADERS}\n{payload_hash}"
        )?;
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        text.clear();
        write!(text, "AWS4-HMAC-SHA256\n{date}\n{}\n{digest}", moment.scope)?;
        let signature = calculate_signature(&moment.key, text.as_bytes());
        text.clear();
        write!(
            text,
            "AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={SIGNED_HEADERS},Signature={signature}",
            self.access_key, moment.scope
        )?;
        Ok(Signature {
            date: HeaderValue::from_str(date)?,
            authorization: HeaderValue::try_from(text)?,
        })
    }

    fn moment_at(&self, second: u64) -> Result<Moment> {
        let stamp = jiff::Timestamp::from_second(i64::try_from(second)?)?;
        let date = stamp.strftime("%Y%m%dT%H%M%SZ").to_string();
        let (day, _) = date.split_at_checked(8).context("a date has eight digits")?;
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let time = UNIX_EPOCH + Duration::from_secs(second);
        let key = generate_signing_key(&self.secret_key, time, &self.region, "s3");
        Ok(Moment { second, key: key.as_ref().to_vec(), scope, date })
    }
}
