//! A request that is authentic, routed, and free of what we don't have: what an operation works on.

use bytes::Bytes;
use http::HeaderMap;
use model::names::{BucketName, ObjectKey};
use policy::Principal;
use s3::S3Error;
use s3::checksum::Expectations;
use s3::route::Route;
use s3::sigv4::Signed;

use crate::http::body::RequestBody;
use crate::payload;

/// An authentic request.
pub struct S3Request {
    /// What it wants.
    pub route: Route,
    /// Its headers, with those that a presigned query stands for.
    pub headers: HeaderMap,
    /// Who sends it.
    pub principal: Principal,
    /// Its signature, and how its body is framed and proved.
    pub signed: Signed,
}

impl S3Request {
    /// The bucket.
    pub fn bucket(&self) -> Result<BucketName, S3Error> {
        self.route.bucket().cloned()
    }

    /// The bucket and key.
    pub fn object(&self) -> Result<(BucketName, ObjectKey), S3Error> {
        Ok((self.route.bucket()?.clone(), self.route.key()?.clone()))
    }

    /// A header's text; `None` without it, or when it isn't text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the body must be.
    pub fn expectations(&self) -> Result<Expectations, S3Error> {
        Expectations::parse(&self.headers, &self.signed.payload)
    }

    /// The body as a document of at most `bytes_max` bytes, verified.
    pub async fn document(
        &self,
        body: &mut RequestBody,
        expectations: &Expectations,
        bytes_max: usize,
    ) -> Result<Bytes, S3Error> {
        payload::document(body, &self.signed.payload, &self.headers, expectations, bytes_max).await
    }
}
