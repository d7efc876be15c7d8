//! The gateway: what every request needs to be answered.

use std::sync::Arc;

use engine::Engine;
use http::HeaderValue;
use s3::route::Addressing;
use wire::clock::Clock;
use wire::entropy::Entropy;

use crate::auth::{Authenticator, RootCredentials};
use crate::metrics::GatewayMetrics;
use crate::payload::LaneHasher;

/// Who everything belongs to, as S3 shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The canonical id.
    pub id: String,
    /// A name for people.
    pub display_name: String,
}

/// What the operator decides of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The region that signatures must be for, such as `us-east-1`.
    pub region: String,
    /// Domains under which `bucket.domain` names a bucket.
    pub domains: Vec<String>,
    /// The credentials that may do everything.
    pub root: RootCredentials,
    /// The owner of all buckets and objects.
    pub owner: Identity,
}

/// Answers S3 requests. Share it by `Arc`; [`crate::http::listener::serve`] runs it.
pub struct Gateway {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) authenticator: Authenticator,
    pub(crate) metrics: Arc<GatewayMetrics>,
    pub(crate) hasher: LaneHasher,
    pub(crate) addressing: Addressing,
    pub(crate) region: String,
    pub(crate) owner: Identity,
    /// `x-amz-id-2` of every answer: which gateway gave it.
    pub(crate) host_id: HeaderValue,
    pub(crate) host_id_text: String,
}

impl Gateway {
    /// A gateway to the objects of `engine`. The `metrics` recorder must be installed by now.
    pub fn new(
        engine: Engine,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        options: GatewayOptions,
    ) -> Self {
        let host_id = entropy.u64();
        let host_id_text = format!("{host_id:016x}");
        Self {
            engine,
            metrics: GatewayMetrics::new(Arc::clone(&clock)),
            hasher: LaneHasher::new(),
            clock,
            entropy,
            authenticator: Authenticator::new(options.root, options.region.clone()),
            addressing: Addressing { domains: options.domains },
            region: options.region,
            owner: options.owner,
            // Sixteen hexadecimal digits are always a header's value.
            host_id: HeaderValue::from_str(&host_id_text)
                .unwrap_or_else(|_| HeaderValue::from_static("drystone")),
            host_id_text,
        }
    }

    /// The owner as the documents write it.
    pub(crate) fn owner(&self) -> s3::xml::Owner<'_> {
        s3::xml::Owner { id: &self.owner.id, display_name: &self.owner.display_name }
    }
}
