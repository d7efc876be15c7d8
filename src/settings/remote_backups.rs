//! The settings of backups to another S3 endpoint: what they need together, and what they come to.

use gateway::auth::Secret;
use gateway::remote_store::{Endpoint, RemoteSettings};

use super::effective::Effective;
use super::mistakes::Mistakes;
use super::origin::Origin;
use super::table::key;
use super::together::read_secret;

/// What says more of the endpoint, and means nothing without it.
const MORE: [&str; 7] = [
    key::BACKUP_BUCKET,
    key::BACKUP_PREFIX,
    key::BACKUP_REGION,
    key::BACKUP_ACCESS_KEY,
    key::BACKUP_SECRET_KEY,
    key::BACKUP_SECRET_KEY_FILE,
    key::BACKUP_CA,
];

/// The region of an endpoint that was given none.
const REGION: &str = "us-east-1";

/// Looks at the values together; reads nothing.
pub fn check(effective: &Effective, mistakes: &mut Mistakes) {
    let origin = |key| effective.origin(key);
    let endpoint = origin(key::BACKUP_ENDPOINT);
    if endpoint == Origin::Default {
        for key in MORE.into_iter().filter(|key| origin(key) != Origin::Default) {
            let problem =
                format!("{key} does nothing without backup_endpoint: give both or neither");
            mistakes.add(&origin(key), problem);
        }
        return;
    }
    let needed = [
        (key::BACKUP_BUCKET, "the bucket there that backups go to, which must exist"),
        (key::BACKUP_ACCESS_KEY, "the access key to sign with"),
    ];
    for (key, what) in needed {
        if origin(key) == Origin::Default {
            mistakes.add(&endpoint, format!("backup_endpoint needs {key}, too: {what}"));
        }
    }
    let (secret, file) = (origin(key::BACKUP_SECRET_KEY), origin(key::BACKUP_SECRET_KEY_FILE));
    if secret.rank() == file.rank() {
        if secret == Origin::Default {
            mistakes.add(
                &endpoint,
                "backup_endpoint needs backup_secret_key or backup_secret_key_file, too: the secret \
                 key to sign with",
            );
        } else {
            mistakes.add(
                &file,
                "backup_secret_key and backup_secret_key_file are two ways to say one thing: \
                 expected one",
            );
        }
    }
    let parsed = effective.text(key::BACKUP_ENDPOINT).and_then(|text| Endpoint::parse(&text));
    let authority = origin(key::BACKUP_CA);
    if parsed.is_some_and(|endpoint| !endpoint.is_tls()) && authority != Origin::Default {
        mistakes.add(
            &authority,
            "backup_ca does nothing with an endpoint of http://: expected one of https://",
        );
    }
    if effective.seconds(key::BACKUP_INTERVAL_SECONDS) == Some(0) {
        mistakes.add(
            &endpoint,
            "backup_endpoint does nothing with backup_interval_seconds = 0, as no backup is taken: \
             expected an interval, or no endpoint",
        );
    }
}

/// What is allowed but unwise.
pub fn unwise(effective: &Effective) -> Option<String> {
    let endpoint = Endpoint::parse(&effective.text(key::BACKUP_ENDPOINT)?)?;
    (!endpoint.is_tls() && !endpoint.is_loopback()).then(|| {
        format!(
            "backups of the metadata go to {endpoint} in the clear, for everyone on the way to read: \
             use https://"
        )
    })
}

/// Where backups go besides the store itself. Reads the file with the secret key.
pub fn decide(effective: &Effective, mistakes: &mut Mistakes) -> Option<RemoteSettings> {
    let endpoint = Endpoint::parse(&effective.text(key::BACKUP_ENDPOINT)?)?;
    let (secret, file) =
        (effective.origin(key::BACKUP_SECRET_KEY), effective.origin(key::BACKUP_SECRET_KEY_FILE));
    let secret_key = if secret.rank() >= file.rank() {
        effective.text(key::BACKUP_SECRET_KEY)?
    } else {
        let read = read_secret(&effective.path(key::BACKUP_SECRET_KEY_FILE)?);
        if let Err(error) = &read {
            // The path is not told: it may be the secret itself, given by the wrong name.
            mistakes.add(
                &file,
                format!("backup_secret_key_file: {error}: expected a file that holds the key"),
            );
        }
        read.ok()?
    };
    Some(RemoteSettings {
        endpoint,
        bucket: effective.text(key::BACKUP_BUCKET)?,
        prefix: effective.text(key::BACKUP_PREFIX).unwrap_or_default(),
        region: effective.text(key::BACKUP_REGION).unwrap_or_else(|| REGION.to_owned()),
        access_key: effective.text(key::BACKUP_ACCESS_KEY)?,
        secret_key: Secret::new(secret_key),
        authority: effective.path(key::BACKUP_CA),
    })
}
