//! The paths of orders about storage classes.
//!
//! In: method, path and body. Out: the answer. What always holds: an order that can't be read reaches
//! nobody.

use http::{Method, Response, StatusCode};
use model::time::Timestamp;

use super::desk::ClassDesk;
use super::{BucketClass, ClassOrder};
use crate::admin::answers::plain;
use crate::admin::gather::StatusGatherer;
use crate::admin::order_routes::{answer, read};
use crate::http::response::ResponseBody;

/// An order, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassPath {
    /// `GET /classes`.
    Classes,
    /// `POST` and `DELETE /classes/NAME`.
    Class(String),
    /// `GET` and `POST /buckets/NAME/class`.
    OfBucket(String),
    /// `GET /recode`.
    Recodings,
    /// `POST /recode/BUCKET`.
    Recode(String),
}

impl ClassPath {
    /// What a path is for; `None` when it is for no such order.
    pub fn parse(path: &str) -> Option<Self> {
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        let named = |name: &str| is_name(name).then(|| name.to_owned());
        match path {
            "/classes" => Some(Self::Classes),
            "/recode" => Some(Self::Recodings),
            path => {
                if let Some(name) = path.strip_prefix("/classes/") {
                    return named(name).map(Self::Class);
                }
                if let Some(name) = path.strip_prefix("/recode/") {
                    return named(name).map(Self::Recode);
                }
                let name = path.strip_prefix("/buckets/")?.strip_suffix("/class")?;
                named(name).map(Self::OfBucket)
            }
        }
    }

    /// The methods that it takes, as the `Allow` header has them.
    pub const fn allowed(&self) -> &'static str {
        match self {
            Self::Classes | Self::Recodings => "GET",
            Self::Class(_) => "POST, DELETE",
            Self::OfBucket(_) => "GET, POST",
            Self::Recode(_) => "POST",
        }
    }

    /// Whether it takes this method.
    pub fn allows(&self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// Has an order carried out. The method is one that its path allows.
pub async fn carry_out(
    gatherer: &StatusGatherer,
    now: Timestamp,
    path: ClassPath,
    method: &Method,
    body: &[u8],
) -> Response<ResponseBody> {
    if !gatherer.may_order() {
        let text = "This process is neither a gateway nor a metadata node; ask the admin listener of one.\n";
        return plain(StatusCode::NOT_IMPLEMENTED, text);
    }
    let (desk, done) = (ClassDesk(gatherer), StatusCode::OK);
    match path {
        ClassPath::Classes => answer(done, desk.list().await),
        ClassPath::Class(name) if method == Method::DELETE => {
            answer(done, desk.remove(&name).await)
        }
        ClassPath::Class(name) => {
            let set = async {
                let ClassOrder { coding } = read(body)?;
                desk.set(&name, &coding).await
            };
            answer(done, set.await)
        }
        ClassPath::OfBucket(bucket) if method == Method::POST => {
            let set = async {
                let BucketClass { class } = read(body)?;
                desk.set_of_bucket(&bucket, &class).await
            };
            answer(done, set.await)
        }
        ClassPath::OfBucket(bucket) => answer(done, desk.of_bucket(&bucket).await),
        ClassPath::Recodings => answer(done, desk.status(now).await),
        ClassPath::Recode(bucket) => {
            let recoded = async { desk.recode(&bucket, &read(body)?).await };
            answer(done, recoded.await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_orders_or_none() {
        let check = |path: &str, expected: Option<(ClassPath, &str)>| {
            let found = ClassPath::parse(path);
            let allowed = found.as_ref().map(ClassPath::allowed);
            assert_eq!(found.zip(allowed), expected, "{path}");
        };
        let name = || "x".to_owned();
        check("/classes", Some((ClassPath::Classes, "GET")));
        check("/classes/x", Some((ClassPath::Class(name()), "POST, DELETE")));
        check("/buckets/x/class", Some((ClassPath::OfBucket(name()), "GET, POST")));
        check("/recode", Some((ClassPath::Recodings, "GET")));
        check("/recode/x", Some((ClassPath::Recode(name()), "POST")));
        for none in ["/classes/", "/classes/a/b", "/buckets/x", "/buckets//class", "/recode/a/b"] {
            check(none, None);
        }
        assert!(!ClassPath::Classes.allows(&Method::POST));
    }
}
