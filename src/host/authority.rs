//! Keeps the certificate authority's sealed key in two places: in the metadata, and beside it.
//!
//! In: what the metadata has, and what the host directory of a metadata node has. Out: both have the
//! same. What always holds: an authority that the metadata has is never replaced by another.

use std::sync::Arc;
use std::time::Duration;

use metadata::client::MetadataClient;
use model::command::{Command, Outcome};
use model::node::Authority;
use model::query::{Answer, Query};

use super::directory::SealedAuthority;
use crate::process::Doors;

/// The pause between two looks at the metadata's authority, until it is kept here.
const AUTHORITY_PAUSE: Duration = Duration::from_secs(5);

/// Keeps the authority's sealed key in the host directory, too, and gives it back to metadata that
/// was rebuilt from the disks and has none: else nobody could join or renew any more.
pub async fn keep(
    client: Arc<MetadataClient>,
    certificate: Vec<u8>,
    kept: SealedAuthority,
    doors: Doors,
) {
    loop {
        if let Ok(Answer::Trust(trust)) = client.query(Query::Trust).await
            && settle(&client, trust.authority, &certificate, &kept).await
        {
            return;
        }
        doors.clock.sleep(AUTHORITY_PAUSE).await;
    }
}

/// Makes the metadata and the host directory have the same; `false` when it must be tried again.
async fn settle(
    client: &MetadataClient,
    authority: Option<Authority>,
    certificate: &[u8],
    kept: &SealedAuthority,
) -> bool {
    match (authority, kept.read()) {
        (Some(authority), here) if here.as_deref() == Some(authority.sealed_key.as_slice()) => true,
        (Some(authority), _) => match kept.write(&authority.sealed_key) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the authority's sealed key was not kept here");
                false
            }
        },
        (None, Some(sealed)) => {
            let certificate = certificate.to_vec().into();
            let authority = Authority { certificate, sealed_key: sealed.into() };
            match client.propose_one(Command::SetAuthority(authority)).await {
                Ok(Outcome::Done) => {
                    tracing::warn!("the metadata had no certificate authority; it has it again");
                    true
                }
                Ok(other) => {
                    tracing::error!(?other, "the certificate authority was not put back");
                    true
                }
                Err(_) => false,
            }
        }
        // The founder gives it before long.
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use metadata::client::ReplicaBook;
    use model::command::Refusal;
    use model::ids::ReplicaId;
    use model::query::{MetadataError, MetadataRequest, MetadataResponse, Trust};
    use wire::BoxFuture;
    use wire::clock::{Clock, SystemClock};
    use wire::network::{InProcess, Peer, Service};

    use super::*;

    /// Metadata that knows nothing but the authority.
    #[derive(Default)]
    struct Known {
        authority: Mutex<Option<Authority>>,
    }

    impl Known {
        fn authority(&self) -> Option<Authority> {
            self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn carry_out(&self, command: Command) -> Outcome {
            let Command::SetAuthority(new) = command else { panic!("{command:?}") };
            let mut known = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                Some(known) if known.certificate == new.certificate => Outcome::Done,
                Some(_) => Outcome::Refused(Refusal::AuthorityExists),
                None => {
                    *known = Some(new);
                    Outcome::Done
                }
            }
        }
    }

    impl Service<MetadataRequest, MetadataResponse> for Known {
        fn serve(&self, request: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
            let response = match request {
                MetadataRequest::Query(Query::Trust) => {
                    let trust = Trust { authority: self.authority(), tokens: Vec::new() };
                    MetadataResponse::Answer(Box::new(Answer::Trust(Box::new(trust))))
                }
                MetadataRequest::Propose(commands) => {
                    let commands = commands.into_iter();
                    let outcomes = commands.map(|one| self.carry_out(one.command)).collect();
                    MetadataResponse::Outcomes(outcomes)
                }
                _ => MetadataResponse::Failed(MetadataError::Unavailable),
            };
            Box::pin(std::future::ready(response))
        }
    }

    struct World {
        known: Arc<Known>,
        client: Arc<MetadataClient>,
        root: tempfile::TempDir,
    }

    impl World {
        fn new(authority: Option<Authority>) -> Self {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let network = Arc::new(InProcess::new(Arc::clone(&clock)));
            let known = Arc::new(Known { authority: Mutex::new(authority) });
            network.register(Peer(1), Arc::clone(&known) as _);
            let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
            let client = Arc::new(MetadataClient::new(network, book, clock));
            Self { known, client, root: tempfile::tempdir().expect("made") }
        }

        fn kept(&self) -> SealedAuthority {
            SealedAuthority::in_directory(self.root.path())
        }

        async fn run(&self, certificate: &[u8]) {
            let doors = Doors::of_the_machine();
            keep(Arc::clone(&self.client), certificate.to_vec(), self.kept(), doors).await;
        }
    }

    fn authority(certificate: u8, sealed: u8) -> Authority {
        Authority { certificate: vec![certificate].into(), sealed_key: vec![sealed; 40].into() }
    }

    #[tokio::test]
    async fn what_the_metadata_has_is_kept_beside_it() {
        let world = World::new(Some(authority(1, 2)));
        world.run(&[1]).await;
        assert_eq!(world.kept().read(), Some(vec![2; 40]));
        // The metadata's counts more than what was here.
        world.kept().write(&[9; 40]).expect("written");
        world.run(&[1]).await;
        assert_eq!(world.kept().read(), Some(vec![2; 40]));
        assert_eq!(world.known.authority(), Some(authority(1, 2)));
    }

    #[tokio::test]
    async fn metadata_that_lost_the_authority_gets_it_back() {
        let world = World::new(None);
        world.kept().write(&[2; 40]).expect("written");
        world.run(&[1]).await;
        assert_eq!(world.known.authority(), Some(authority(1, 2)));
        assert_eq!(world.kept().read(), Some(vec![2; 40]));
    }

    #[tokio::test]
    async fn where_nobody_has_it_yet_it_is_waited_for() {
        let world = World::new(None);
        let certificate = [1];
        let settled = async || {
            settle(&world.client, world.known.authority(), &certificate, &world.kept()).await
        };
        assert!(!settled().await);
        assert_eq!((world.known.authority(), world.kept().read()), (None, None));
        *world.known.authority.lock().expect("whole") = Some(authority(1, 2));
        assert!(settled().await);
        assert_eq!(world.kept().read(), Some(vec![2; 40]));
    }
}
