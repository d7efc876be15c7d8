//! Every operation of the S3 API, in one table: how a request for it looks, what it needs, and whether
//! and how Drystone answers it.
//!
//! The table is the only place that knows these things: `route` recognises requests with it, the
//! policy takes the action from it, the gateway dispatches on `Support`. Adding an operation is adding
//! a row, and moving `NotImplemented` to `Implemented` when it exists.

use crate::error::S3ErrorCode;

/// What part of the namespace a request's path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The path is `/`.
    Service,
    /// The path names a bucket.
    Bucket,
    /// The path names an object.
    Object,
}

/// The methods that S3 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the methods")]
pub enum Verb {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

impl Verb {
    /// The verb for an HTTP method; `None` for one that no S3 operation uses.
    pub fn from_method(method: &http::Method) -> Option<Verb> {
        Some(match *method {
            http::Method::GET => Verb::Get,
            http::Method::HEAD => Verb::Head,
            http::Method::PUT => Verb::Put,
            http::Method::POST => Verb::Post,
            http::Method::DELETE => Verb::Delete,
            _ => return None,
        })
    }
}

/// How an operation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// There is code for it.
    Implemented,
    /// The feature can't be configured yet, and S3 answers for an unconfigured bucket (or object)
    /// with this document. The bucket (and object) must still exist.
    Document(&'static str),
    /// The feature can't be configured yet, and S3 answers for an unconfigured bucket (or object)
    /// with this error. The bucket (and object) must still exist.
    Absent(S3ErrorCode),
    /// Everything belongs to its owner: `xml::acl::owner_full_control` is the answer.
    OwnerAcl,
    /// Refused with `NotImplemented`.
    NotImplemented,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The operation.
    pub operation: Operation,
    /// Its name in the S3 API reference, which metrics and logs use too.
    pub name: &'static str,
    /// The method of its requests.
    pub verb: Verb,
    /// What its path names.
    pub level: Level,
    /// Query parameters that must be there, as `name` or `name=value`.
    pub query: &'static [&'static str],
    /// A header that must be there.
    pub header: Option<&'static str>,
    /// How it is answered.
    pub support: Support,
    /// The IAM action that the caller needs.
    pub action: &'static str,
}

macro_rules! operations {
    ($($name:ident $verb:ident $level:ident [$($query:literal)*] $(header $header:literal)? => $support:expr, $action:literal;)+) => {
        /// An operation of the S3 API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "the S3 API reference documents each by this name")]
        pub enum Operation { $($name,)+ }

        /// The table; a row's position is its operation's discriminant.
        pub const TABLE: &[Row] = &[$(Row {
            operation: Operation::$name,
            name: stringify!($name),
            verb: Verb::$verb,
            level: Level::$level,
            query: &[$($query),*],
            header: operations!(@header $($header)?),
            support: $support,
            action: concat!("s3:", $action),
        },)+];
    };
    (@header) => { None };
    (@header $header:literal) => { Some($header) };
}

use S3ErrorCode as Code;
use Support::{Absent, Document, Implemented, NotImplemented, OwnerAcl};

macro_rules! document {
    ($element:literal, $inner:literal) => {
        Document(concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<",
            $element,
            " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
            $inner,
            "</",
            $element,
            ">"
        ))
    };
}

operations! {
    // Service.
    ListBuckets Get Service [] => Implemented, "ListAllMyBuckets";

    // Buckets.
    CreateBucket Put Bucket [] => Implemented, "CreateBucket";
    HeadBucket Head Bucket [] => Implemented, "ListBucket";
    DeleteBucket Delete Bucket [] => Implemented, "DeleteBucket";
    GetBucketLocation Get Bucket ["location"] => Implemented, "GetBucketLocation";
    ListObjects Get Bucket [] => Implemented, "ListBucket";
    ListObjectsV2 Get Bucket ["list-type=2"] => Implemented, "ListBucket";
    ListObjectVersions Get Bucket ["versions"] => NotImplemented, "ListBucketVersions";
    ListMultipartUploads Get Bucket ["uploads"] => Implemented, "ListBucketMultipartUploads";
    DeleteObjects Post Bucket ["delete"] => Implemented, "DeleteObject";
    PostObject Post Bucket [] => NotImplemented, "PutObject";
    CreateSession Get Bucket ["session"] => NotImplemented, "CreateSession";

    GetBucketVersioning Get Bucket ["versioning"] => document!("VersioningConfiguration", ""), "GetBucketVersioning";
    PutBucketVersioning Put Bucket ["versioning"] => NotImplemented, "PutBucketVersioning";
    GetBucketPolicy Get Bucket ["policy"] => Absent(Code::NoSuchBucketPolicy), "GetBucketPolicy";
    PutBucketPolicy Put Bucket ["policy"] => NotImplemented, "PutBucketPolicy";
    DeleteBucketPolicy Delete Bucket ["policy"] => NotImplemented, "DeleteBucketPolicy";
    GetBucketPolicyStatus Get Bucket ["policyStatus"] => Absent(Code::NoSuchBucketPolicy), "GetBucketPolicyStatus";
    GetBucketAcl Get Bucket ["acl"] => OwnerAcl, "GetBucketAcl";
    PutBucketAcl Put Bucket ["acl"] => NotImplemented, "PutBucketAcl";
    GetBucketCors Get Bucket ["cors"] => Absent(Code::NoSuchCORSConfiguration), "GetBucketCORS";
    PutBucketCors Put Bucket ["cors"] => NotImplemented, "PutBucketCORS";
    DeleteBucketCors Delete Bucket ["cors"] => NotImplemented, "PutBucketCORS";
    GetBucketLifecycleConfiguration Get Bucket ["lifecycle"] => Absent(Code::NoSuchLifecycleConfiguration), "GetLifecycleConfiguration";
    PutBucketLifecycleConfiguration Put Bucket ["lifecycle"] => NotImplemented, "PutLifecycleConfiguration";
    DeleteBucketLifecycle Delete Bucket ["lifecycle"] => NotImplemented, "PutLifecycleConfiguration";
    GetBucketTagging Get Bucket ["tagging"] => Absent(Code::NoSuchTagSet), "GetBucketTagging";
    PutBucketTagging Put Bucket ["tagging"] => NotImplemented, "PutBucketTagging";
    DeleteBucketTagging Delete Bucket ["tagging"] => NotImplemented, "PutBucketTagging";
    GetBucketEncryption Get Bucket ["encryption"] => Absent(Code::ServerSideEncryptionConfigurationNotFoundError), "GetEncryptionConfiguration";
    PutBucketEncryption Put Bucket ["encryption"] => NotImplemented, "PutEncryptionConfiguration";
    DeleteBucketEncryption Delete Bucket ["encryption"] => NotImplemented, "PutEncryptionConfiguration";
    GetObjectLockConfiguration Get Bucket ["object-lock"] => Absent(Code::ObjectLockConfigurationNotFoundError), "GetBucketObjectLockConfiguration";
    PutObjectLockConfiguration Put Bucket ["object-lock"] => NotImplemented, "PutBucketObjectLockConfiguration";
    GetPublicAccessBlock Get Bucket ["publicAccessBlock"] => Absent(Code::NoSuchPublicAccessBlockConfiguration), "GetBucketPublicAccessBlock";
    PutPublicAccessBlock Put Bucket ["publicAccessBlock"] => NotImplemented, "PutBucketPublicAccessBlock";
    DeletePublicAccessBlock Delete Bucket ["publicAccessBlock"] => NotImplemented, "PutBucketPublicAccessBlock";
    GetBucketOwnershipControls Get Bucket ["ownershipControls"] => Absent(Code::OwnershipControlsNotFoundError), "GetBucketOwnershipControls";
    PutBucketOwnershipControls Put Bucket ["ownershipControls"] => NotImplemented, "PutBucketOwnershipControls";
    DeleteBucketOwnershipControls Delete Bucket ["ownershipControls"] => NotImplemented, "PutBucketOwnershipControls";
    GetBucketWebsite Get Bucket ["website"] => Absent(Code::NoSuchWebsiteConfiguration), "GetBucketWebsite";
    PutBucketWebsite Put Bucket ["website"] => NotImplemented, "PutBucketWebsite";
    DeleteBucketWebsite Delete Bucket ["website"] => NotImplemented, "DeleteBucketWebsite";
    GetBucketReplication Get Bucket ["replication"] => Absent(Code::ReplicationConfigurationNotFoundError), "GetReplicationConfiguration";
    PutBucketReplication Put Bucket ["replication"] => NotImplemented, "PutReplicationConfiguration";
    DeleteBucketReplication Delete Bucket ["replication"] => NotImplemented, "PutReplicationConfiguration";
    GetBucketRequestPayment Get Bucket ["requestPayment"] => document!("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"), "GetBucketRequestPayment";
    PutBucketRequestPayment Put Bucket ["requestPayment"] => NotImplemented, "PutBucketRequestPayment";
    GetBucketLogging Get Bucket ["logging"] => document!("BucketLoggingStatus", ""), "GetBucketLogging";
    PutBucketLogging Put Bucket ["logging"] => NotImplemented, "PutBucketLogging";
    GetBucketNotificationConfiguration Get Bucket ["notification"] => document!("NotificationConfiguration", ""), "GetBucketNotification";
    PutBucketNotificationConfiguration Put Bucket ["notification"] => NotImplemented, "PutBucketNotification";
    GetBucketAccelerateConfiguration Get Bucket ["accelerate"] => document!("AccelerateConfiguration", ""), "GetAccelerateConfiguration";
    PutBucketAccelerateConfiguration Put Bucket ["accelerate"] => NotImplemented, "PutAccelerateConfiguration";
    GetBucketAbac Get Bucket ["abac"] => NotImplemented, "GetBucketAbac";
    PutBucketAbac Put Bucket ["abac"] => NotImplemented, "PutBucketAbac";

    // Per-id bucket configurations: with `id` one of them, without it the list.
    GetBucketAnalyticsConfiguration Get Bucket ["analytics" "id"] => NotImplemented, "GetAnalyticsConfiguration";
    ListBucketAnalyticsConfigurations Get Bucket ["analytics"] => NotImplemented, "GetAnalyticsConfiguration";
    PutBucketAnalyticsConfiguration Put Bucket ["analytics"] => NotImplemented, "PutAnalyticsConfiguration";
    DeleteBucketAnalyticsConfiguration Delete Bucket ["analytics"] => NotImplemented, "PutAnalyticsConfiguration";
    GetBucketIntelligentTieringConfiguration Get Bucket ["intelligent-tiering" "id"] => NotImplemented, "GetIntelligentTieringConfiguration";
    ListBucketIntelligentTieringConfigurations Get Bucket ["intelligent-tiering"] => NotImplemented, "GetIntelligentTieringConfiguration";
    PutBucketIntelligentTieringConfiguration Put Bucket ["intelligent-tiering"] => NotImplemented, "PutIntelligentTieringConfiguration";
    DeleteBucketIntelligentTieringConfiguration Delete Bucket ["intelligent-tiering"] => NotImplemented, "PutIntelligentTieringConfiguration";
    GetBucketInventoryConfiguration Get Bucket ["inventory" "id"] => NotImplemented, "GetInventoryConfiguration";
    ListBucketInventoryConfigurations Get Bucket ["inventory"] => NotImplemented, "GetInventoryConfiguration";
    PutBucketInventoryConfiguration Put Bucket ["inventory"] => NotImplemented, "PutInventoryConfiguration";
    DeleteBucketInventoryConfiguration Delete Bucket ["inventory"] => NotImplemented, "PutInventoryConfiguration";
    GetBucketMetricsConfiguration Get Bucket ["metrics" "id"] => NotImplemented, "GetMetricsConfiguration";
    ListBucketMetricsConfigurations Get Bucket ["metrics"] => NotImplemented, "GetMetricsConfiguration";
    PutBucketMetricsConfiguration Put Bucket ["metrics"] => NotImplemented, "PutMetricsConfiguration";
    DeleteBucketMetricsConfiguration Delete Bucket ["metrics"] => NotImplemented, "PutMetricsConfiguration";
    CreateBucketMetadataConfiguration Post Bucket ["metadataConfiguration"] => NotImplemented, "CreateBucketMetadataTableConfiguration";
    GetBucketMetadataConfiguration Get Bucket ["metadataConfiguration"] => NotImplemented, "GetBucketMetadataTableConfiguration";
    DeleteBucketMetadataConfiguration Delete Bucket ["metadataConfiguration"] => NotImplemented, "DeleteBucketMetadataTableConfiguration";
    UpdateBucketMetadataInventoryTableConfiguration Put Bucket ["metadataInventoryTable"] => NotImplemented, "UpdateBucketMetadataInventoryTableConfiguration";
    UpdateBucketMetadataJournalTableConfiguration Put Bucket ["metadataJournalTable"] => NotImplemented, "UpdateBucketMetadataJournalTableConfiguration";
    CreateBucketMetadataTableConfiguration Post Bucket ["metadataTable"] => NotImplemented, "CreateBucketMetadataTableConfiguration";
    GetBucketMetadataTableConfiguration Get Bucket ["metadataTable"] => NotImplemented, "GetBucketMetadataTableConfiguration";
    DeleteBucketMetadataTableConfiguration Delete Bucket ["metadataTable"] => NotImplemented, "DeleteBucketMetadataTableConfiguration";

    // Objects.
    PutObject Put Object [] => Implemented, "PutObject";
    CopyObject Put Object [] header "x-amz-copy-source" => Implemented, "PutObject";
    GetObject Get Object [] => Implemented, "GetObject";
    HeadObject Head Object [] => Implemented, "GetObject";
    DeleteObject Delete Object [] => Implemented, "DeleteObject";
    GetObjectAttributes Get Object ["attributes"] => Implemented, "GetObjectAttributes";
    RenameObject Put Object ["renameObject"] => NotImplemented, "RenameObject";
    UpdateObjectEncryption Put Object ["encryption"] => NotImplemented, "UpdateObjectEncryption";
    CreateMultipartUpload Post Object ["uploads"] => Implemented, "PutObject";
    UploadPart Put Object ["partNumber" "uploadId"] => Implemented, "PutObject";
    UploadPartCopy Put Object ["partNumber" "uploadId"] header "x-amz-copy-source" => Implemented, "PutObject";
    CompleteMultipartUpload Post Object ["uploadId"] => Implemented, "PutObject";
    AbortMultipartUpload Delete Object ["uploadId"] => Implemented, "AbortMultipartUpload";
    ListParts Get Object ["uploadId"] => Implemented, "ListMultipartUploadParts";
    GetObjectAcl Get Object ["acl"] => OwnerAcl, "GetObjectAcl";
    PutObjectAcl Put Object ["acl"] => NotImplemented, "PutObjectAcl";
    GetObjectTagging Get Object ["tagging"] => document!("Tagging", "<TagSet></TagSet>"), "GetObjectTagging";
    PutObjectTagging Put Object ["tagging"] => NotImplemented, "PutObjectTagging";
    DeleteObjectTagging Delete Object ["tagging"] => NotImplemented, "DeleteObjectTagging";
    GetObjectRetention Get Object ["retention"] => Absent(Code::InvalidRequest), "GetObjectRetention";
    PutObjectRetention Put Object ["retention"] => NotImplemented, "PutObjectRetention";
    GetObjectLegalHold Get Object ["legal-hold"] => Absent(Code::InvalidRequest), "GetObjectLegalHold";
    PutObjectLegalHold Put Object ["legal-hold"] => NotImplemented, "PutObjectLegalHold";
    GetObjectTorrent Get Object ["torrent"] => NotImplemented, "GetObjectTorrent";
    RestoreObject Post Object ["restore"] => NotImplemented, "RestoreObject";
    SelectObjectContent Post Object ["select" "select-type=2"] => NotImplemented, "GetObject";
    WriteGetObjectResponse Post Service ["x-id=WriteGetObjectResponse"] => NotImplemented, "WriteGetObjectResponse";
}

impl Operation {
    /// The operation's row.
    pub fn row(self) -> &'static Row {
        // A row's position is its discriminant: both come from the same macro repetition.
        &TABLE[self as usize]
    }

    /// The name in the S3 API reference.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The IAM action, such as `s3:GetObject`.
    pub fn action(self) -> &'static str {
        self.row().action
    }

    /// How the operation is answered.
    pub fn support(self) -> Support {
        self.row().support
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_their_discriminant_says_and_are_distinct() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.operation as usize, index, "{}", row.name);
            assert_eq!(row.operation.name(), row.name);
            let same = TABLE.iter().filter(|other| {
                (other.verb, other.level, other.query, other.header)
                    == (row.verb, row.level, row.query, row.header)
            });
            assert_eq!(same.count(), 1, "{} can't be told apart", row.name);
        }
    }

    #[test]
    fn the_first_issue_is_implemented() {
        let implemented = TABLE.iter().filter(|row| row.support == Implemented).count();
        assert_eq!(implemented, 21);
        assert!(TABLE.len() >= 100, "{}", TABLE.len());
    }
}
