//! Listings against a naive model.

use std::collections::BTreeSet;

use metadata::read::answer;
use model::command::{Command, CommitObject, WriteCondition};
use model::ids::{ManifestId, UploadId};
use model::query::{Answer, ListObjects, ListUploads, Query};
use model::time::Timestamp;
use model::upload::Upload;
use model::version::{ETag, ObjectHeaders};
use proptest::prelude::*;

use crate::harness::{bucket, key};
use crate::snapshots::{entry, feed, machine};

fn put(name: &str) -> Command {
    Command::CommitObject(CommitObject {
        bucket: bucket(),
        key: key(name),
        manifest: ManifestId([1; 16]),
        size: 0,
        etag: ETag { md5: [0; 16], parts: None },
        headers: ObjectHeaders::default(),
        checksum: None,
        parts: Vec::new(),
        condition: WriteCondition::Always,
        record: None,
    })
}

fn create_upload(name: &str, number: u8) -> Command {
    let upload = Upload {
        id: UploadId([number; 16]),
        initiated: Timestamp(0),
        headers: ObjectHeaders::default(),
        checksum: None,
        owner: String::new(),
    };
    Command::CreateUpload { bucket: bucket(), key: key(name), upload }
}

fn create_bucket() -> Command {
    Command::CreateBucket { name: bucket(), owner: String::new(), location: String::new() }
}

/// What a listing holds, by the definition: keys and common prefixes behind `after`.
fn naive(
    keys: &BTreeSet<String>,
    prefix: &str,
    delimiter: &str,
    after: &str,
) -> Vec<(String, bool)> {
    let items: BTreeSet<(String, bool)> = keys
        .iter()
        .filter(|key| key.starts_with(prefix))
        .map(|key| match key[prefix.len()..].find(delimiter) {
            Some(at) if !delimiter.is_empty() => {
                (key[..prefix.len() + at + delimiter.len()].to_owned(), true)
            }
            _ => (key.clone(), false),
        })
        .collect();
    items.into_iter().filter(|(item, _)| item.as_str() > after).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pages_together_are_the_naive_listing(
        keys in prop::collection::btree_set("[\0a/b\u{1}é\u{10ffff}]{1,7}", 0..60),
        prefix in "[a/b\0]{0,2}",
        delimiter in prop::sample::select(vec!["", "/", "a", "//", "\0"]),
        after in "[\0a/b]{0,3}",
        limit in 1u32..7,
    ) {
        let (_root, machine) = machine();
        let mut commands = vec![create_bucket()];
        commands.extend(keys.iter().map(|key| put(key)));
        feed(&machine, &[entry(1, commands)], 1);
        let expected = naive(&keys, &prefix, delimiter, &after);
        let mut found = Vec::new();
        let mut next = Some(after);
        while let Some(after) = next.take() {
            let list = ListObjects {
                bucket: bucket(),
                prefix: prefix.clone(),
                delimiter: delimiter.to_owned(),
                after,
                limit,
            };
            let page = match answer(&machine, &Query::Objects(list)).expect("answered") {
                Answer::Objects(page) => page,
                other => panic!("{other:?}"),
            };
            let mut items: Vec<(String, bool)> = page
                .objects
                .iter()
                .map(|object| (object.key.as_str().to_owned(), false))
                .chain(page.common_prefixes.iter().map(|common| (common.clone(), true)))
                .collect();
            items.sort();
            prop_assert!(items.len() <= limit as usize);
            if page.next.is_some() {
                prop_assert_eq!(items.len(), limit as usize);
                prop_assert_eq!(page.next.as_deref(), items.last().map(|item| item.0.as_str()));
            }
            found.extend(items);
            next = page.next;
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn pages_of_uploads_come_in_order_of_initiation(
        names in prop::collection::vec("[a/b]{1,3}", 0..40),
        delimiter in prop::sample::select(vec!["", "/"]),
        limit in 1u32..5,
    ) {
        let (_root, machine) = machine();
        let mut commands = vec![create_bucket()];
        // Ids fall while the times of initiation rise.
        commands.extend(names.iter().zip(0u8..).map(|(name, at)| create_upload(name, 200 - at)));
        feed(&machine, &[entry(1, commands)], 1);
        let keys: BTreeSet<String> = names.iter().cloned().collect();
        let mut expected = Vec::new();
        for (item, is_common) in naive(&keys, "", delimiter, "") {
            if is_common {
                expected.push((item, None));
                continue;
            }
            let of_key = names.iter().zip(0u8..).filter(|(name, _)| **name == item);
            expected.extend(of_key.map(|(_, at)| (item.clone(), Some(UploadId([200 - at; 16])))));
        }
        let mut found = Vec::new();
        let mut next = Some((String::new(), None));
        while let Some((key_marker, upload_marker)) = next.take() {
            let list = ListUploads {
                bucket: bucket(),
                prefix: String::new(),
                delimiter: delimiter.to_owned(),
                key_marker,
                upload_marker,
                limit,
            };
            let page = match answer(&machine, &Query::Uploads(list)).expect("answered") {
                Answer::Uploads(page) => page,
                other => panic!("{other:?}"),
            };
            let uploads = page.uploads.iter();
            let mut items: Vec<(String, Option<UploadId>)> =
                uploads.map(|(key, upload)| (key.as_str().to_owned(), Some(upload.id))).collect();
            items.extend(page.common_prefixes.iter().map(|common| (common.clone(), None)));
            items.sort_by(|one, two| one.0.cmp(&two.0));
            prop_assert!(items.len() <= limit as usize && !(items.is_empty() && page.next.is_some()));
            found.extend(items);
            next = page.next;
        }
        prop_assert_eq!(found, expected);
    }
}
