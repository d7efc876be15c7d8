//! PEM (RFC 7468): keys and certificates as text, as operators' own tools read them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";

/// The label of a PKCS #8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";

/// The label of a private key that is sealed in a form of our own.
pub const SEALED_KEY: &str = "DRYSTONE SEALED KEY";

/// Characters of a line.
const LINE: usize = 64;

/// Writes one document.
pub fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out + "-----END " + label + "-----\n"
}

/// Reads the first document.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("-----BEGIN ") && line.ends_with("-----"))?;
    let mut body = String::new();
    for line in lines {
        if line.starts_with("-----END ") {
            return STANDARD.decode(body).ok();
        }
        body.push_str(line);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_written_and_read() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let text = encode(CERTIFICATE, &der);
            assert!(text.lines().all(|line| line.len() <= LINE), "{length}");
            assert_eq!(decode(&text), Some(der));
        }
        assert_eq!(decode("-----BEGIN X-----\nAAAA\n"), None);
        assert_eq!(decode(""), None);
    }
}
