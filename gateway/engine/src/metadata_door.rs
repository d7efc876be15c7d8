//! The engine's door to the metadata service.
//!
//! In: queries, commands, a PG that needs a new extent. Out: answers, outcomes, extent ids. The
//! real implementation is a gateway's `metadata::session::Writer`, which finds the leader, keeps a
//! session open and repeats proposals under one id (I-5); tests have one in memory.

use metadata::session::Writer;
use model::command::{Command, Outcome};
use model::ids::{ExtentId, PgId, SessionId};
use model::query::{Answer, MetadataError, Query};
use wire::BoxFuture;

/// What the engine asks of the metadata.
pub trait Metadata: Send + Sync + 'static {
    /// A linearizable answer (I-4).
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>>;

    /// Carries out one command, with the effect of one however often it had to be sent (I-5).
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>>;

    /// The name of a new extent in `pg`, in a session that is open.
    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>>;

    /// The session that is open now: in its name this gateway holds leases.
    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>>;
}

impl Metadata for Writer {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, MetadataError>> {
        Box::pin(self.client().query(query))
    }

    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, MetadataError>> {
        Box::pin(async move {
            match command {
                // These may be repeated without harm, and need no session to remember them.
                Command::QueueRepair { .. } | Command::CollectGarbage { .. } => {
                    self.client().propose_one(command).await
                }
                command => Writer::propose(self, command).await,
            }
        })
    }

    fn next_extent(&self, pg: PgId) -> BoxFuture<'_, Result<ExtentId, MetadataError>> {
        Box::pin(async move {
            let session = self.session().await?;
            session.next_extent(pg).ok_or(MetadataError::Unavailable)
        })
    }
    fn holder(&self) -> BoxFuture<'_, Result<SessionId, MetadataError>> {
        Box::pin(async move { Ok(self.session().await?.id()) })
    }
}
