//! Where another S3 endpoint is.
//!
//! In: `http://HOST[:PORT]` or `https://HOST[:PORT]`. Out: what to connect to and what to call it.

use http::Uri;

/// An S3 endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    is_tls: bool,
    authority: String,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Reads it; `None` where it has another scheme, a path, a user, or no host.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        let is_plain = !authority.as_str().contains('@') && uri.query().is_none();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        // `Uri` takes a port that is none for no port.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
            None => return None,
        };
        (is_plain && uri.path() == "/" && !host.is_empty()).then(|| Self {
            is_tls,
            authority: authority.as_str().to_owned(),
            host: host.to_owned(),
            port,
        })
    }

    /// Whether it is spoken to by TLS.
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What the `host` header says.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is on this host, so that nobody else sees what goes there.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read() {
        let check = |text: &str, host: &str, port: u16, is_tls: bool| {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
            assert_eq!(endpoint.is_tls(), is_tls, "{text}");
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        };
        check("https://s3.example.com", "s3.example.com", 443, true);
        check("https://s3.example.com/", "s3.example.com", 443, true);
        check("http://10.0.0.1:9000", "10.0.0.1", 9000, false);
        check("http://[::1]:9000", "::1", 9000, false);
        check("http://localhost", "localhost", 80, false);
        for text in [
            "s3.example.com",
            "ftp://s3.example.com",
            "https://",
            "https://host/path",
            "https://host?query",
            "https://user:secret@host",
            "https://host:0",
            "https://host:99999",
            "",
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text}");
        }
        assert!(Endpoint::parse("http://127.0.0.1:1").expect("valid").is_loopback());
        assert!(!Endpoint::parse("http://s3.test").expect("valid").is_loopback());
    }
}
