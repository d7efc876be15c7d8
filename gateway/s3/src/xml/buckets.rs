//! Documents about buckets: the list of them, their location, and the request to create one.

use bytes::Bytes;
use model::time::Timestamp;

use crate::date;
use crate::error::{S3Error, S3ErrorCode};
use crate::list::{ListBuckets, encode_token};
use crate::xml::Owner;
use crate::xml::reader;
use crate::xml::writer::XmlWriter;

/// A CreateBucketConfiguration is a few hundred bytes.
pub const CREATE_BUCKET_BYTES_MAX: usize = 64 * 1024;

/// The answer to ListBuckets. Buckets come as (name, created); `more_after` is the last of them, if
/// there are more behind it.
pub fn list_all_my_buckets<'a>(
    owner: Owner<'_>,
    list: &ListBuckets,
    buckets: impl IntoIterator<Item = (&'a str, Timestamp)>,
    more_after: Option<&str>,
) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("ListAllMyBucketsResult");
    owner.write("Owner", &mut xml);
    xml.open("Buckets");
    for (name, created) in buckets {
        xml.open("Bucket");
        xml.text("Name", name);
        xml.text("CreationDate", &date::iso8601(created));
        xml.close("Bucket");
    }
    xml.close("Buckets");
    xml.optional("ContinuationToken", more_after.map(encode_token).as_deref());
    xml.optional("Prefix", Some(list.prefix.as_str()).filter(|prefix| !prefix.is_empty()));
    xml.close("ListAllMyBucketsResult");
    xml.finish()
}

/// The answer to GetBucketLocation; S3 leaves it empty for `us-east-1`.
pub fn location_constraint(region: &str) -> Bytes {
    let mut xml = XmlWriter::new();
    xml.open_root("LocationConstraint");
    xml.characters(if region == "us-east-1" { "" } else { region });
    xml.close("LocationConstraint");
    xml.finish()
}

/// Checks the body of CreateBucket: empty, or a location that is this region.
pub fn check_create_bucket(body: &[u8], region: &str) -> Result<(), S3Error> {
    if body.is_empty() {
        return Ok(());
    }
    let root = reader::read(body, "CreateBucketConfiguration", CREATE_BUCKET_BYTES_MAX)?;
    for child in &root.children {
        match child.name.as_str() {
            "LocationConstraint" => {}
            // Directory buckets and tags: nothing of that exists here.
            "Location" | "Bucket" | "Tags" => {
                return Err(S3Error::new(S3ErrorCode::NotImplemented));
            }
            _ => return Err(S3Error::new(S3ErrorCode::MalformedXML)),
        }
    }
    match root.child_text("LocationConstraint").unwrap_or_default() {
        "" => Ok(()),
        location if location == region => Ok(()),
        location => Err(S3Error::new(S3ErrorCode::InvalidLocationConstraint)
            .field("LocationConstraint", location)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let owner = Owner { id: "o", display_name: "n" };
        let list = ListBuckets { prefix: String::new(), max_buckets: 1, after: String::new() };
        let xml = list_all_my_buckets(owner, &list, [("abc", Timestamp(0))], None);
        assert_eq!(
            String::from_utf8_lossy(&xml),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <Owner><ID>o</ID><DisplayName>n</DisplayName></Owner><Buckets><Bucket><Name>abc</Name>\
             <CreationDate>1970-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>"
        );
        let list = ListBuckets { prefix: "a".into(), ..list };
        let xml = list_all_my_buckets(owner, &list, [("abc", Timestamp(0))], Some("abc"));
        assert!(xml.ends_with(
            b"</Buckets><ContinuationToken>AWFiYw</ContinuationToken><Prefix>a</Prefix></ListAllMyBucketsResult>"
        ));
        assert!(location_constraint("us-east-1").ends_with(b"03-01/\"></LocationConstraint>"));
        assert!(location_constraint("eu-x").ends_with(b">eu-x</LocationConstraint>"));
    }

    #[test]
    fn create_bucket_bodies() {
        let check = |inner: &str, expected: Option<S3ErrorCode>| {
            let body = format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
            let found = check_create_bucket(body.as_bytes(), "eu-x").err().map(|error| error.code);
            assert_eq!(found, expected, "{inner}");
        };
        check("", None);
        check("<LocationConstraint>eu-x</LocationConstraint>", None);
        check("<LocationConstraint/>", None);
        check(
            "<LocationConstraint>us-west-2</LocationConstraint>",
            Some(S3ErrorCode::InvalidLocationConstraint),
        );
        check("<Location/>", Some(S3ErrorCode::NotImplemented));
        check("<X/>", Some(S3ErrorCode::MalformedXML));
        assert!(check_create_bucket(b"", "eu-x").is_ok());
        assert!(check_create_bucket(b"<X/>", "eu-x").is_err());
    }
}
