//! What a certificate says about a node: the URI `drystone://CLUSTER/NODE?roles=ROLE,ROLE`.
//!
//! The authority's own certificate has `drystone://CLUSTER`. A certificate with two such URIs says
//! nothing: which one counts would depend on the reader.

use std::fmt;

use model::ids::{ClusterId, NodeId};
use model::node::Roles;
use model::time::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::TlsError;

const SCHEME: &str = "drystone://";
const ROLES: &str = "?roles=";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its number in it.
    pub node: NodeId,
    /// What it may do there.
    pub roles: Roles,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}{ROLES}{}", self.cluster, self.node, self.roles)
    }
}

impl Identity {
    /// Reads what `Display` writes, and nothing else.
    pub fn parse(uri: &str) -> Option<Self> {
        let (cluster, rest) = uri.strip_prefix(SCHEME)?.split_once('/')?;
        let (node, roles) = rest.split_once(ROLES)?;
        let identity = Self {
            cluster: ClusterId::parse(cluster)?,
            node: NodeId(node.parse().ok()?),
            roles: Roles::parse(roles)?,
        };
        (identity.to_string() == uri).then_some(identity)
    }
}

/// The URI in the certificate of the authority of `cluster`.
pub(super) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}")
}

/// The cluster whose authority has this certificate.
pub(super) fn cluster_of(authority: &[u8]) -> Result<ClusterId, TlsError> {
    let certificate = parse(authority)?;
    if !certificate.is_ca() {
        return Err(TlsError::NoIdentity);
    }
    let uri = only_uri(&certificate)?;
    uri.strip_prefix(SCHEME).and_then(ClusterId::parse).ok_or(TlsError::NoIdentity)
}

/// The node that a certificate names. Whether that is true is another question.
pub(crate) fn identity_of(certificate: &[u8]) -> Result<Identity, TlsError> {
    let certificate = parse(certificate)?;
    Identity::parse(only_uri(&certificate)?).ok_or(TlsError::NoIdentity)
}

/// When a certificate's time comes and ends.
pub(super) fn validity(certificate: &[u8]) -> Result<(Timestamp, Timestamp), TlsError> {
    let certificate = parse(certificate)?;
    let seconds = |seconds: i64| Timestamp::from_seconds(u64::try_from(seconds).unwrap_or(0));
    let validity = certificate.validity();
    Ok((seconds(validity.not_before.timestamp()), seconds(validity.not_after.timestamp())))
}

/// When a certificate's time ends.
pub(crate) fn ends(certificate: &[u8]) -> Result<Timestamp, TlsError> {
    validity(certificate).map(|(_, ends)| ends)
}

/// The public key in a certificate, with its algorithm, in DER.
pub(super) fn public_key(certificate: &[u8]) -> Result<Vec<u8>, TlsError> {
    Ok(parse(certificate)?.public_key().raw.to_vec())
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, TlsError> {
    const WHAT: &str = "the certificate";
    let (rest, certificate) =
        X509Certificate::from_der(certificate).map_err(|why| TlsError::unreadable(WHAT, why))?;
    if !rest.is_empty() {
        return Err(TlsError::unreadable(WHAT, "there is something behind it"));
    }
    Ok(certificate)
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, TlsError> {
    let names = certificate.subject_alternative_name().map_err(|_| TlsError::NoIdentity)?;
    let names = names.ok_or(TlsError::NoIdentity)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        _ => Err(TlsError::NoIdentity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_one_way_only() {
        let identity = Identity {
            cluster: ClusterId([0xab; 16]),
            node: NodeId(7),
            roles: Roles::METADATA.and(Roles::GATEWAY),
        };
        let uri = identity.to_string();
        assert_eq!(uri, "drystone://abababababababababababababababab/7?roles=metadata,gateway");
        assert_eq!(Identity::parse(&uri), Some(identity));
        for other in [
            uri.replace("/7", "/07"),
            uri.replace("/7", "/+7"),
            uri.replace("ab", "AB"),
            uri.replace("metadata,gateway", "gateway,metadata"),
            uri.replace("metadata,gateway", ""),
            format!("{uri},"),
            uri.replace("drystone", "https"),
            uri.replace("?roles", "&roles"),
            uri[..44].to_owned(),
        ] {
            assert_eq!(Identity::parse(&other), None, "{other}");
        }
    }
}
