//! Routing, case by case.

use super::*;
use http::HeaderValue;

fn addressing() -> Addressing {
    Addressing { domains: vec!["s3.example.com".into(), "localhost".into()] }
}

fn routed(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Result<Route, S3Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).expect("a header value"));
    }
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    route(&method, &target.parse().expect("a target"), &map, &addressing())
}

fn check(method: &str, target: &str, expected: Result<(Operation, &str, &str), S3ErrorCode>) {
    check_with(method, target, &[], expected);
}

fn check_with(
    method: &str,
    target: &str,
    headers: &[(&'static str, &str)],
    expected: Result<(Operation, &str, &str), S3ErrorCode>,
) {
    let found = routed(method, target, headers).map_err(|error| error.code).map(|route| {
        let bucket = route.bucket.map(|name| name.to_string()).unwrap_or_default();
        let key = route.key.map(|key| key.to_string()).unwrap_or_default();
        (route.operation, bucket, key)
    });
    let expected =
        expected.map(|(operation, bucket, key)| (operation, bucket.to_owned(), key.to_owned()));
    assert_eq!(found, expected, "{method} {target} {headers:?}");
}

#[test]
fn path_style() {
    use Operation::*;
    check("GET", "/", Ok((ListBuckets, "", "")));
    check("GET", "/?x-id=ListBuckets", Ok((ListBuckets, "", "")));
    check("PUT", "/abc", Ok((CreateBucket, "abc", "")));
    check("PUT", "/abc/", Ok((CreateBucket, "abc", "")));
    check("HEAD", "/abc", Ok((HeadBucket, "abc", "")));
    check("DELETE", "/abc", Ok((DeleteBucket, "abc", "")));
    check("GET", "/abc?location", Ok((GetBucketLocation, "abc", "")));
    check("GET", "/abc?prefix=a&max-keys=1", Ok((ListObjects, "abc", "")));
    check("GET", "/abc?list-type=2&prefix=a", Ok((ListObjectsV2, "abc", "")));
    check("GET", "/abc?versions", Ok((ListObjectVersions, "abc", "")));
    check("GET", "/abc?uploads", Ok((ListMultipartUploads, "abc", "")));
    check("POST", "/abc?delete", Ok((DeleteObjects, "abc", "")));
    check("POST", "/abc?delete=", Ok((DeleteObjects, "abc", "")));
    check("POST", "/abc", Ok((PostObject, "abc", "")));
    check("GET", "/abc?inventory&id=1", Ok((GetBucketInventoryConfiguration, "abc", "")));
    check("GET", "/abc?inventory", Ok((ListBucketInventoryConfigurations, "abc", "")));
    check("GET", "/abc/k", Ok((GetObject, "abc", "k")));
    check("GET", "/abc/k?partNumber=3", Ok((GetObject, "abc", "k")));
    check("GET", "/abc/k?versionId=null&x-id=GetObject", Ok((GetObject, "abc", "k")));
    check("GET", "/abc/k?response-content-type=a", Ok((GetObject, "abc", "k")));
    check("GET", "/abc/k?attributes", Ok((GetObjectAttributes, "abc", "k")));
    check("GET", "/abc/k?uploadId=u", Ok((ListParts, "abc", "k")));
    check("GET", "/abc/k?acl", Ok((GetObjectAcl, "abc", "k")));
    check("HEAD", "/abc/k", Ok((HeadObject, "abc", "k")));
    check("PUT", "/abc/k", Ok((PutObject, "abc", "k")));
    check("PUT", "/abc/k?x-id=PutObject", Ok((PutObject, "abc", "k")));
    check("PUT", "/abc/k?partNumber=1&uploadId=u", Ok((UploadPart, "abc", "k")));
    check("POST", "/abc/k?uploads", Ok((CreateMultipartUpload, "abc", "k")));
    check("POST", "/abc/k?uploadId=u", Ok((CompleteMultipartUpload, "abc", "k")));
    check("POST", "/abc/k?select&select-type=2", Ok((SelectObjectContent, "abc", "k")));
    check("DELETE", "/abc/k?uploadId=u", Ok((AbortMultipartUpload, "abc", "k")));
    check("DELETE", "/abc/k", Ok((DeleteObject, "abc", "k")));
    let copy = [("x-amz-copy-source", "abc/s")];
    check_with("PUT", "/abc/k", &copy, Ok((CopyObject, "abc", "k")));
    check_with("PUT", "/abc/k?partNumber=1&uploadId=u", &copy, Ok((UploadPartCopy, "abc", "k")));
    check("PUT", "/abc/k?X-Amz-Copy-Source=abc/s", Ok((CopyObject, "abc", "k")));
}

#[test]
fn keys_are_decoded_once_and_never_normalised() {
    let check = |raw: &str, key: &str| {
        check("GET", &format!("/abc/{raw}"), Ok((Operation::GetObject, "abc", key)));
    };
    check("a//b", "a//b");
    check("/a", "/a");
    check("a/", "a/");
    check("..", "..");
    check("a/../b/./c", "a/../b/./c");
    check("a%2Fb", "a/b");
    check("a%252Fb", "a%2Fb");
    check("a+b", "a+b");
    check("a%20b%2Bc", "a b+c");
    check("%C3%A9%F0%9F%98%80", "é😀");
    check("%01%0d", "\u{1}\r");
    check("a%3Fb?versionId=null", "a?b");
    check(&"k".repeat(1024), &"k".repeat(1024));
}

#[test]
fn virtual_hosted() {
    use Operation::*;
    let check =
        |host: &str, target: &str, expected| check_with("GET", target, &[("host", host)], expected);
    check("abc.s3.example.com", "/", Ok((ListObjects, "abc", "")));
    check("abc.s3.example.com:9000", "/k/l", Ok((GetObject, "abc", "k/l")));
    check("a.b.s3.example.com", "//k", Ok((GetObject, "a.b", "/k")));
    check("ABC.S3.Example.COM", "/k", Ok((GetObject, "abc", "k")));
    check("abc.localhost", "/k", Ok((GetObject, "abc", "k")));
    check("s3.example.com", "/abc/k", Ok((GetObject, "abc", "k")));
    check("localhost:9000", "/", Ok((ListBuckets, "", "")));
    check("127.0.0.1:9000", "/abc", Ok((ListObjects, "abc", "")));
    check("[::1]:9000", "/abc", Ok((ListObjects, "abc", "")));
    check("notlocalhost", "/abc", Ok((ListObjects, "abc", "")));
    check("a_b.localhost", "/", Err(S3ErrorCode::InvalidBucketName));
    check(".localhost", "/", Err(S3ErrorCode::InvalidBucketName));
}

#[test]
fn refusals() {
    use S3ErrorCode::*;
    check("PUT", "/ab", Err(InvalidBucketName));
    check("PUT", "/ABC", Err(InvalidBucketName));
    check("GET", "//k", Err(InvalidBucketName));
    check("GET", "/a%2Fb", Err(InvalidBucketName));
    check("GET", "/192.168.0.1/k", Err(InvalidBucketName));
    check("GET", "/abc/%ff", Err(InvalidURI));
    check("GET", "/abc/%zz", Err(InvalidURI));
    check("GET", "/abc/a%2", Err(InvalidURI));
    check("GET", "/abc?prefix=%ff", Err(InvalidURI));
    check("OPTIONS", "*", Err(InvalidURI));
    check("GET", &format!("/abc/{}", "k".repeat(1025)), Err(KeyTooLongError));
    check("GET", &format!("/abc/{}", "%C3%A9".repeat(513)), Err(KeyTooLongError));
    check("PUT", "/", Err(MethodNotAllowed));
    check("POST", "/abc/k", Err(MethodNotAllowed));
    check("PATCH", "/abc/k", Err(MethodNotAllowed));
    check("POST", "/abc?location", Err(MethodNotAllowed));
    check("DELETE", "/abc?uploads", Err(MethodNotAllowed));
    check("PUT", "/abc/k?versioning", Err(MethodNotAllowed));
    check("OPTIONS", "/abc/k", Err(AccessForbidden));
    check("PUT", "/abc/k?something-new", Err(NotImplemented));
    check("PUT", "/abc?something-new=", Err(NotImplemented));
    check("PUT", "/abc/k?uploadId=u", Err(InvalidArgument));
    check("PUT", "/abc/k?partNumber=1", Err(InvalidArgument));
    check("GET", "/abc?acl&policy", Err(InvalidArgument));
    check("GET", "/abc?list-type=3", Err(InvalidArgument));
}
