//! Who may do what: one pure function, which denies unless something allows.
//!
//! In: who asks, for which action, on which resource. Out: a `Permit`, or a denial with its reason. No
//! operation runs without a `Permit`, and only `decide` makes one. There are no bucket policies yet:
//! the root may do everything, and nobody else anything. The crate knows no HTTP, and evaluates before
//! any byte of a body is read.

use std::fmt;

use model::names::{BucketName, ObjectKey};

/// Who asks. Only a verified signature makes anything but `Anonymous` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The owner of the cluster.
    Root {
        /// The access key that signed the request.
        access_key: String,
    },
    /// Nobody: the request wasn't signed.
    Anonymous,
}

/// An IAM action, such as `s3:GetObject`; the table of operations says which one an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Action(pub &'static str);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What an action is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// All buckets together.
    Service,
    /// A bucket.
    Bucket(BucketName),
    /// An object, whether or not it exists.
    Object(BucketName, ObjectKey),
}

impl Resource {
    /// The resource that a path names.
    pub fn new(bucket: Option<&BucketName>, key: Option<&ObjectKey>) -> Resource {
        match (bucket, key) {
            (None, _) => Resource::Service,
            (Some(bucket), None) => Resource::Bucket(bucket.clone()),
            (Some(bucket), Some(key)) => Resource::Object(bucket.clone(), key.clone()),
        }
    }
}

impl fmt::Display for Resource {
    /// The ARN.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Service => f.write_str("arn:aws:s3:::*"),
            Resource::Bucket(bucket) => write!(f, "arn:aws:s3:::{bucket}"),
            Resource::Object(bucket, key) => write!(f, "arn:aws:s3:::{bucket}/{key}"),
        }
    }
}

/// The right to do one action on one resource. Made by `decide` alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    action: Action,
    resource: Resource,
    reason: AllowReason,
}

impl Permit {
    /// What may be done.
    pub fn action(&self) -> Action {
        self.action
    }

    /// On what.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Why.
    pub fn reason(&self) -> AllowReason {
        self.reason
    }

    /// Whether this is the right to do `action` on `resource`; an operation asserts it.
    pub fn covers(&self, action: Action, resource: &Resource) -> bool {
        self.action == action && self.resource == *resource
    }
}

/// Why something is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowReason {
    /// The root may do everything.
    Root,
}

/// Why something is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DenyReason {
    /// Nothing allows it.
    #[error("no policy allows an unsigned request to do this")]
    AnonymousNotAllowed,
}

/// The answer: a permit, or why there is none.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It may be done, by this permit.
    Allow(Permit),
    /// It may not.
    Deny(DenyReason),
}

impl Decision {
    /// The permit, or why there is none.
    pub fn into_result(self) -> Result<Permit, DenyReason> {
        match self {
            Decision::Allow(permit) => Ok(permit),
            Decision::Deny(reason) => Err(reason),
        }
    }
}

/// Decides whether `principal` may do `action` on `resource`.
pub fn decide(principal: &Principal, action: Action, resource: &Resource) -> Decision {
    match principal {
        Principal::Root { access_key: _ } => Decision::Allow(Permit {
            action,
            resource: resource.clone(),
            reason: AllowReason::Root,
        }),
        Principal::Anonymous => Decision::Deny(DenyReason::AnonymousNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 4] = [
        Action("s3:ListAllMyBuckets"),
        Action("s3:CreateBucket"),
        Action("s3:GetObject"),
        Action("s3:PutObject"),
    ];

    fn resources() -> [Resource; 3] {
        let bucket = BucketName::parse("abc").expect("a bucket");
        let key = ObjectKey::parse("a/../b").expect("a key");
        [
            Resource::new(None, None),
            Resource::new(Some(&bucket), None),
            Resource::new(Some(&bucket), Some(&key)),
        ]
    }

    #[test]
    fn the_root_may_do_everything() {
        let root = Principal::Root { access_key: "AK".into() };
        for action in ACTIONS {
            for resource in resources() {
                let permit = decide(&root, action, &resource).into_result().expect("a permit");
                assert!(permit.covers(action, &resource));
                assert_eq!((permit.action(), permit.resource()), (action, &resource));
                assert_eq!(permit.reason(), AllowReason::Root);
            }
        }
    }

    #[test]
    fn an_unsigned_request_may_do_nothing() {
        for action in ACTIONS {
            for resource in resources() {
                let decision = decide(&Principal::Anonymous, action, &resource);
                assert_eq!(decision, Decision::Deny(DenyReason::AnonymousNotAllowed));
            }
        }
    }

    #[test]
    fn a_permit_is_for_one_thing() {
        let [_, bucket, object] = resources();
        let root = Principal::Root { access_key: "AK".into() };
        let permit = decide(&root, ACTIONS[2], &object).into_result().expect("a permit");
        assert!(!permit.covers(ACTIONS[3], &object));
        assert!(!permit.covers(ACTIONS[2], &bucket));
    }

    #[test]
    fn resources_are_named_by_arn() {
        let names = resources().map(|resource| resource.to_string());
        assert_eq!(names, ["arn:aws:s3:::*", "arn:aws:s3:::abc", "arn:aws:s3:::abc/a/../b"]);
    }
}
