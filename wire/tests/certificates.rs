//! What the authority issues, and what it takes from a request.

use std::time::Duration;

use model::ids::ClusterId;
use model::node::Roles;
use model::time::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use wire::tls::{Authority, Credentials, NodeKey, TlsError};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::world::*;

#[test]
fn a_certificate_says_who_the_node_is_and_for_how_long() {
    let authority = authority();
    let at = Timestamp::from_seconds(2_000_000_000);
    let who = identity(7, Roles::METADATA.and(Roles::GATEWAY));
    let lifetime = Duration::from_hours(72);
    let (certificate, key) = certificate(&authority, &who, at, lifetime);
    let credentials =
        Credentials::new(&certificate, key.der(), authority.certificate()).expect("they fit");
    assert_eq!(credentials.identity(), who);
    let ends = at.as_seconds() + lifetime.as_secs();
    assert_eq!(credentials.expires().as_seconds(), ends);
    // Two thirds through, counted from five minutes before it was issued.
    let begins = at.as_seconds() - 300;
    assert_eq!(credentials.renew_at().as_seconds(), begins + (ends - begins) / 3 * 2);
    assert_eq!(credentials.authority(), authority.certificate());
}

#[test]
fn an_authority_comes_back_from_its_bytes() {
    let first = authority();
    let again = Authority::from_der(first.certificate(), first.key()).expect("the same");
    assert_eq!((again.cluster(), again.certificate()), (CLUSTER, first.certificate()));
    let (certificate, key) = certificate(&again, &identity(1, Roles::ALL), now(), DAY);
    Credentials::new(&certificate, key.der(), first.certificate()).expect("the same authority");
    let other = authority();
    let mixed = Authority::from_der(first.certificate(), other.key());
    assert_eq!(mixed.expect_err("another's key"), TlsError::OtherKey);
    assert_ne!(Authority::pin(first.certificate()), Authority::pin(other.certificate()));
    assert!(Authority::from_der(&certificate, key.der()).is_err(), "a node is no authority");
    assert!(Authority::from_der(b"", b"").is_err());
}

#[test]
fn a_request_that_is_not_signed_by_its_key_is_refused() {
    let authority = authority();
    let key = NodeKey::generate().expect("a key");
    let request = key.certificate_request().expect("a request");
    let issue =
        |request: &[u8]| authority.issue(request, &identity(1, Roles::ALL), &[], now(), DAY);
    assert!(issue(&request).is_ok());
    // What is signed is the second element.
    let (_, read) = X509CertificationRequest::from_der(&request).expect("a request");
    let signed = read.certification_request_info.raw;
    let begins = request.windows(signed.len()).position(|bytes| bytes == signed).expect("there");
    let mut unsigned = 0;
    for at in 0..request.len() {
        let mut spoilt = request.clone();
        spoilt[at] ^= 1;
        match issue(&spoilt) {
            Err(TlsError::BadSignature) => unsigned += 1,
            Err(TlsError::Unreadable { .. }) => {}
            // How the algorithm is written says nothing; the key is the one that signed.
            Ok(certificate) if !(begins..begins + signed.len()).contains(&at) => {
                Credentials::new(&certificate, key.der(), authority.certificate())
                    .expect("it fits");
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(unsigned > 100, "{unsigned}");
    let mut longer = request.clone();
    longer.push(0);
    assert!(issue(&longer).is_err());
    for length in 0..request.len() {
        assert!(issue(&request[..length]).is_err());
    }
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let authority = authority();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let claim = identity(99, Roles::ALL).to_string();
    params.subject_alt_names = vec![SanType::URI(claim.try_into().expect("ascii"))];
    let request = params.serialize_request(&key).expect("a request");
    let who = identity(3, Roles::GATEWAY);
    let certificate = authority
        .issue(request.der(), &who, &["host.example:7000".to_owned()], now(), DAY)
        .expect("issued");
    let credentials = Credentials::new(&certificate, &key.serialize_der(), authority.certificate());
    assert_eq!(credentials.expect("they fit").identity(), who);
    let (_, read) = X509Certificate::from_der(&certificate).expect("a certificate");
    assert!(!read.is_ca());
    let names = read.subject_alternative_name().expect("read").expect("names").value;
    let (uri, host) = (who.to_string(), "host.example");
    assert_eq!(names.general_names, [GeneralName::URI(&uri), GeneralName::DNSName(host)]);
}

#[test]
fn what_can_not_be_certified_is_refused() {
    let authority = authority();
    let request = NodeKey::generate().and_then(|key| key.certificate_request()).expect("a request");
    let issue = |identity, address: &str| {
        authority.issue(&request, &identity, &[address.to_owned()], now(), DAY)
    };
    let nobody = identity(1, Roles::NONE);
    assert_eq!(issue(nobody, "a:1"), Err(TlsError::NoIdentity));
    let mut foreign = identity(1, Roles::ALL);
    foreign.cluster = ClusterId([9; 16]);
    assert!(matches!(issue(foreign, "a:1"), Err(TlsError::OtherIdentity(_))));
    for address in ["", ":1", "a b:1", "ä:1", "[::1", "http://a:1"] {
        let refused = issue(identity(1, Roles::ALL), address);
        assert_eq!(refused, Err(TlsError::Address(address.to_owned())));
    }
    for address in ["a", "a:1", "a-b.c_d:65535", "10.0.0.1", "10.0.0.1:7", "::1", "[::1]:7"] {
        assert!(issue(identity(1, Roles::ALL), address).is_ok(), "{address}");
    }
}

#[test]
fn credentials_must_fit_together() {
    let (ours, theirs) = (authority(), authority());
    let who = identity(1, Roles::ALL);
    let (certificate_1, key) = certificate(&ours, &who, now(), DAY);
    let (_, other_key) = certificate(&ours, &who, now(), DAY);
    let fit = |certificate: &[u8], key: &[u8], authority: &[u8]| {
        Credentials::new(certificate, key, authority).map(|credentials| credentials.identity())
    };
    assert_eq!(fit(&certificate_1, key.der(), ours.certificate()), Ok(who));
    let refused = fit(&certificate_1, other_key.der(), ours.certificate());
    assert_eq!(refused, Err(TlsError::OtherKey));
    let refused = fit(&certificate_1, key.der(), theirs.certificate());
    assert_eq!(refused, Err(TlsError::OtherAuthority));
    let refused = fit(ours.certificate(), ours.key(), ours.certificate());
    assert_eq!(refused, Err(TlsError::NoIdentity));
    let elsewhere = Authority::create(ClusterId([9; 16]), now()).expect("an authority");
    let refused = fit(&certificate_1, key.der(), elsewhere.certificate());
    assert!(matches!(refused, Err(TlsError::OtherIdentity(_))));
    for at in 0..certificate_1.len() {
        let mut spoilt = certificate_1.clone();
        spoilt[at] ^= 1;
        assert!(fit(&spoilt, key.der(), ours.certificate()).is_err(), "byte {at}");
    }
    let credentials = Credentials::new(&certificate_1, key.der(), ours.certificate());
    let credentials = credentials.expect("they fit");
    let (fresh, fresh_key) = certificate(&ours, &identity(1, Roles::GATEWAY), now(), DAY);
    credentials.replace(&fresh, fresh_key.der()).expect("of the same node");
    assert_eq!(credentials.identity().roles, Roles::GATEWAY);
    let (another, another_key) = certificate(&ours, &identity(2, Roles::ALL), now(), DAY);
    let refused = credentials.replace(&another, another_key.der());
    assert!(matches!(refused, Err(TlsError::OtherIdentity(_))));
    let (foreign, foreign_key) = certificate(&theirs, &identity(1, Roles::ALL), now(), DAY);
    let refused = credentials.replace(&foreign, foreign_key.der());
    assert_eq!(refused, Err(TlsError::OtherAuthority));
    assert_eq!(credentials.identity().roles, Roles::GATEWAY, "as before");
}
