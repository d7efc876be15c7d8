//! The only table of S3 error codes, and the error that every refusal of this crate is.
//!
//! In: a code, perhaps a message of its own and fields about the case. Out: the HTTP status and the
//! `<Error>` document. Every code that any part of Drystone may answer with is a variant here, so that
//! a typing mistake in a code is a compile error. Nothing secret is ever put into an error.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::StatusCode;

use crate::xml::writer::XmlWriter;

macro_rules! s3_error_codes {
    ($($name:ident $status:literal $message:literal;)+) => {
        /// An error code of the S3 API; the variant's name is the code on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is documented by its message in the table")]
        pub enum S3ErrorCode { $($name,)+ }

        impl S3ErrorCode {
            /// Every code, in the order of the table.
            pub const ALL: &[S3ErrorCode] = &[$(S3ErrorCode::$name,)+];

            /// The code as it is written in the `<Code>` element.
            pub const fn as_str(self) -> &'static str {
                match self { $(S3ErrorCode::$name => stringify!($name),)+ }
            }

            /// The message that goes with the code when the case has no better one.
            pub const fn default_message(self) -> &'static str {
                match self { $(S3ErrorCode::$name => $message,)+ }
            }

            const fn status_number(self) -> u16 {
                match self { $(S3ErrorCode::$name => $status,)+ }
            }
        }
    };
}

s3_error_codes! {
    AccessDenied 403 "Access Denied.";
    AccessForbidden 403 "Access forbidden.";
    AuthorizationHeaderMalformed 400 "The authorization header you provided is invalid.";
    AuthorizationQueryParametersError 400 "The authorization query parameters that you provided are not valid.";
    BadDigest 400 "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BucketAlreadyExists 409 "The requested bucket name is not available. Specify a different name and try again.";
    BucketAlreadyOwnedByYou 409 "The bucket that you tried to create already exists, and you own it.";
    BucketNotEmpty 409 "The bucket that you tried to delete is not empty.";
    ConditionalRequestConflict 409 "A conflicting operation occurred during the upload. Retry the upload.";
    EntityTooLarge 400 "Your proposed upload exceeds the maximum allowed object size.";
    EntityTooSmall 400 "Your proposed upload is smaller than the minimum allowed object size.";
    IllegalLocationConstraintException 400 "The specified location constraint is not valid for this endpoint.";
    IncompleteBody 400 "You did not provide the number of bytes specified by the Content-Length HTTP header.";
    InsufficientStorage 507 "There is not enough space left to store this. Delete something, or have disks added.";
    InternalError 500 "An internal error occurred. Try again.";
    InvalidAccessKeyId 403 "The AWS access key ID that you provided does not exist in our records.";
    InvalidArgument 400 "The specified argument was not valid.";
    InvalidBucketName 400 "The specified bucket is not valid.";
    InvalidBucketState 409 "The request is not valid for the current state of the bucket.";
    InvalidDigest 400 "The Content-MD5 or checksum value that you specified is not valid.";
    InvalidEncryptionAlgorithmError 400 "The encryption request that you specified is not valid.";
    InvalidLocationConstraint 400 "The specified location constraint is not valid.";
    InvalidObjectState 403 "The operation is not valid for the object's storage class.";
    InvalidPart 400 "One or more of the specified parts could not be found. The part might not have been uploaded, or the specified entity tag might not have matched the part's entity tag.";
    InvalidPartNumber 416 "The requested partnumber is not satisfiable.";
    InvalidPartOrder 400 "The list of parts was not in ascending order. Parts must be ordered by part number.";
    InvalidRange 416 "The requested range is not satisfiable.";
    InvalidRequest 400 "The request is not valid.";
    InvalidStorageClass 400 "The storage class that you specified is not valid.";
    InvalidToken 400 "The provided token is malformed or otherwise not valid.";
    InvalidURI 400 "The specified URI couldn't be parsed.";
    KeyTooLongError 400 "Your key is too long.";
    MalformedPolicy 400 "The policy is not in the valid JSON format.";
    MalformedXML 400 "The XML that you provided was not well formed or did not validate against our published schema.";
    MalformedTrailerError 400 "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    MaxMessageLengthExceeded 400 "Your request was too large.";
    MetadataTooLarge 400 "Your metadata headers exceed the maximum allowed metadata size.";
    MethodNotAllowed 405 "The specified method is not allowed against this resource.";
    MissingContentLength 411 "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError 400 "The request body is empty.";
    NoSuchBucket 404 "The specified bucket does not exist.";
    NoSuchBucketPolicy 404 "The bucket policy does not exist.";
    NoSuchCORSConfiguration 404 "The CORS configuration does not exist.";
    NoSuchKey 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration 404 "The lifecycle configuration does not exist.";
    NoSuchPublicAccessBlockConfiguration 404 "The public access block configuration was not found.";
    NoSuchTagSet 404 "The TagSet does not exist.";
    NoSuchUpload 404 "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    NoSuchVersion 404 "The version ID specified in the request does not match an existing version.";
    NoSuchWebsiteConfiguration 404 "The specified bucket does not have a website configuration.";
    NotImplemented 501 "A header or operation that you provided implies functionality that is not implemented.";
    ObjectLockConfigurationNotFoundError 404 "The Object Lock configuration does not exist for this bucket.";
    OperationAborted 409 "A conflicting conditional operation is currently in progress against this resource. Try again.";
    OwnershipControlsNotFoundError 404 "The bucket ownership controls were not found.";
    PreconditionFailed 412 "At least one of the preconditions that you specified did not hold.";
    ReplicationConfigurationNotFoundError 404 "The replication configuration was not found.";
    RequestHeaderSectionTooLarge 400 "Your request header section exceeds the maximum allowed request header section size.";
    RequestTimeTooSkewed 403 "The difference between the request time and the server's time is too large.";
    RequestTimeout 400 "Your socket connection to the server was not read from or written to within the timeout period.";
    ServerSideEncryptionConfigurationNotFoundError 404 "The server side encryption configuration was not found.";
    ServiceUnavailable 503 "Service is unable to handle the request. Try again.";
    SignatureDoesNotMatch 403 "The request signature that the server calculated does not match the signature that you provided. Check your secret access key and signing method.";
    SlowDown 503 "Reduce your request rate.";
    TooManyBuckets 400 "You have attempted to create more buckets than are allowed.";
    UnexpectedContent 400 "This request contains unsupported content.";
    XAmzContentSHA256Mismatch 400 "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

impl S3ErrorCode {
    /// The HTTP status that the code is answered with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl fmt::Display for S3ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal in S3's words: what is sent to the client instead of a success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct S3Error {
    /// The code, which also decides the status.
    pub code: S3ErrorCode,
    /// One sentence for the person who reads the answer.
    pub message: Cow<'static, str>,
    /// Further elements of the document, such as `BucketName` or `Key`, in order.
    pub fields: Vec<(&'static str, String)>,
}

impl S3Error {
    /// An error with the code's own message.
    pub const fn new(code: S3ErrorCode) -> Self {
        S3Error { code, message: Cow::Borrowed(code.default_message()), fields: Vec::new() }
    }

    /// An error with a message for this case.
    pub fn with(code: S3ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        S3Error { code, message: message.into(), fields: Vec::new() }
    }

    /// `InvalidArgument` as S3 words it, naming the argument and the value that was refused.
    pub fn invalid_argument(
        name: &str,
        value: &str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        S3Error::with(S3ErrorCode::InvalidArgument, message)
            .field("ArgumentName", name)
            .field("ArgumentValue", value)
    }

    /// `NotImplemented`, naming the header that asks for what isn't there.
    pub fn header_not_implemented(name: &'static str) -> Self {
        S3Error::new(S3ErrorCode::NotImplemented).field("Header", name)
    }

    /// The same error with one more element in its document.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The HTTP status of the answer.
    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    /// For `InvalidRange` on an object: the `Content-Range` that RFC 9110 asks of a 416.
    pub fn content_range(&self) -> Option<String> {
        let (_, size) = self.fields.iter().find(|(name, _)| *name == "ActualObjectSize")?;
        Some(format!("bytes */{size}"))
    }

    /// The `<Error>` document. `resource` is the path that the client asked for, decoded or raw.
    pub fn to_xml(&self, request_id: &str, host_id: &str, resource: &str) -> Bytes {
        let mut xml = XmlWriter::new();
        xml.open("Error");
        xml.text("Code", self.code.as_str());
        xml.text("Message", &self.message);
        for (name, value) in &self.fields {
            xml.text(name, value);
        }
        xml.text("Resource", resource);
        xml.text("RequestId", request_id);
        xml.text("HostId", host_id);
        xml.close("Error");
        xml.finish()
    }
}

impl From<S3ErrorCode> for S3Error {
    fn from(code: S3ErrorCode) -> Self {
        S3Error::new(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_all_elements_and_is_escaped() {
        let error = S3Error::new(S3ErrorCode::NoSuchKey).field("Key", "a<b>\u{1}");
        let xml = error.to_xml("req", "host", "/b/a<b>");
        assert_eq!(
            std::str::from_utf8(&xml).expect("utf-8"),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.\
             </Message><Key>a&lt;b&gt;&#x1;</Key><Resource>/b/a&lt;b&gt;</Resource><RequestId>req</RequestId><HostId>host</HostId></Error>"
        );
    }

    #[test]
    fn every_code_has_an_error_status_and_a_message() {
        for code in S3ErrorCode::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
            assert!(!code.default_message().is_empty(), "{code}");
        }
        assert_eq!(S3ErrorCode::ALL.iter().filter(|code| code.status() == 500).count(), 1);
    }
}
