//! What the server prints when it is ready: where it listens, what it survives, how to use it.

use std::net::SocketAddr;

use model::coding::Coding;

use crate::directories::Plan;
use crate::settings::RootCredentials;

/// What there is to say.
pub struct Greeting<'a> {
    /// What the server runs on.
    pub plan: &'a Plan,
    /// The S3 listener.
    pub s3: SocketAddr,
    /// How clients speak to it.
    pub scheme: &'static str,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The root identity.
    pub root: &'a RootCredentials,
    /// Whether the secret key was generated; only then it is shown.
    pub generated: bool,
    /// The region.
    pub region: &'a str,
}

/// Prints it on standard output.
pub fn print(greeting: &Greeting<'_>) {
    let plan = greeting.plan;
    println!("Drystone {}", env!("CARGO_PKG_VERSION"));
    println!("{}", survives(plan.coding, plan.directories.len()));
    let secret = if greeting.generated { greeting.root.secret_key.as_str() } else { "…" };
    println!("  export AWS_ACCESS_KEY_ID={}", greeting.root.access_key);
    println!("  export AWS_SECRET_ACCESS_KEY={secret}");
    println!("  export AWS_DEFAULT_REGION={}", greeting.region);
    println!("  aws --endpoint-url {}://{} s3 mb s3://my-bucket", greeting.scheme, greeting.s3);
    println!("S3 listening on {}://{}", greeting.scheme, greeting.s3);
    println!("Admin listening on http://{}", greeting.admin);
}

fn survives(coding: Coding, directories: usize) -> String {
    let loss = match coding.parity() {
        0 => "WARNING: losing any directory loses data".to_owned(),
        1 => "any 1 directory may be lost".to_owned(),
        parity => format!("any {parity} directories may be lost"),
    };
    let usable = 100 * u32::from(coding.data()) / u32::from(coding.width());
    format!("{directories} directories, coding {coding}: {loss}; {usable} % of the space is usable")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_may_be_lost() {
        let check = |coding, directories, expected: &str| {
            let coding = Coding::parse(coding).expect("valid");
            assert!(survives(coding, directories).contains(expected));
        };
        check("4+2", 6, "any 2 directories may be lost; 66 %");
        check("2+1", 3, "any 1 directory may be lost");
        check("1+0", 1, "WARNING");
    }
}
