//! Writer sessions: names for extents and commands that are never used twice.
//!
//! In: a gateway's stable name and the commands that it proposes. Out: extent ids, and outcomes
//! with the effect of one execution each (I-5). What always holds: a sequence number names one
//! command; it counts as acknowledged only when its outcome is known or its proposer gave up.
//!
//! A gateway keeps two session names and takes turns: opening the next ends the one before the
//! current, so that a long upload that began before the change can still be committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use model::command::{Command, CommandEnvelope, CommandId, Outcome, Refusal};
use model::ids::{ExtentId, PgId, SessionId};
use model::query::MetadataError;
use wire::clock::{Clock, timeout};

use crate::client::{MetadataClient, TOTAL_DEADLINE};
use crate::limits::SESSION_WINDOW;

/// A session is replaced when it is this old.
pub const SESSION_AGE_MAX: Duration = Duration::from_hours(24);

/// A session is replaced when it has named this many extents: well before the number runs out.
const EXTENTS_PER_SESSION: u32 = u32::MAX - (1 << 24);

/// How long a proposer waits when the oldest command is a whole window behind: rare.
const WINDOW_PAUSE: Duration = Duration::from_millis(2);

/// One open session.
#[derive(Debug)]
pub struct WriterSession {
    /// Its number.
    id: SessionId,
    /// When it was opened, by the client's monotonic clock.
    opened: Duration,
    next_extent: AtomicU32,
    commands: Mutex<Sequences>,
    /// Permits for commands whose outcome isn't known.
    window: tokio::sync::Semaphore,
}

/// The sequence numbers of a session's commands.
#[derive(Debug)]
struct Sequences {
    next: u64,
    outstanding: BTreeSet<u64>,
}

impl WriterSession {
    fn new(id: SessionId, opened: Duration) -> Self {
        Self {
            id,
            opened,
            next_extent: AtomicU32::new(1),
            commands: Mutex::new(Sequences { next: 1, outstanding: BTreeSet::new() }),
            // Half of what the state machine allows, as numbers above a slow one run ahead.
            window: tokio::sync::Semaphore::new(SESSION_WINDOW as usize / 2),
        }
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// A new extent's name; `None` when the session is used up ([`Writer::session`] gives one
    /// that isn't).
    pub fn next_extent(&self, pg: PgId) -> Option<ExtentId> {
        let next = |sequence: u32| sequence.checked_add(1);
        let sequence =
            self.next_extent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(ExtentId { pg, session: self.id, sequence })
    }

    fn is_worn(&self, now: Duration) -> bool {
        now.saturating_sub(self.opened) >= SESSION_AGE_MAX
            || self.next_extent.load(Ordering::Relaxed) >= EXTENTS_PER_SESSION
    }

    /// Proposes a command under this session.
    async fn propose(
        &self,
        client: &MetadataClient,
        command: Command,
    ) -> Result<Outcome, MetadataError> {
        let _permit = self.window.acquire().await.map_err(|_| MetadataError::Unavailable)?;
        let (ticket, acknowledged_below) = Ticket::take(self, &**client.clock()).await;
        let envelope = CommandEnvelope {
            id: CommandId { session: self.id, sequence: ticket.sequence },
            acknowledged_below,
            proposed: client.clock().now(),
            command,
        };
        let outcomes = client.propose(vec![envelope]).await?;
        outcomes.into_iter().next().ok_or(MetadataError::Unknown)
    }
}

/// A sequence number in use; given back when its outcome is known or nobody waits for it.
struct Ticket<'a> {
    session: &'a WriterSession,
    sequence: u64,
}

impl<'a> Ticket<'a> {
    /// Takes the next number, waiting while the oldest one in use is a whole window behind.
    async fn take(session: &'a WriterSession, clock: &dyn Clock) -> (Self, u64) {
        loop {
            {
                let mut commands = session.commands.lock().unwrap_or_else(PoisonError::into_inner);
                let oldest = commands.outstanding.first().copied().unwrap_or(commands.next);
                if commands.next - oldest < SESSION_WINDOW {
                    let sequence = commands.next;
                    commands.next += 1;
                    commands.outstanding.insert(sequence);
                    return (Self { session, sequence }, oldest);
                }
            }
            clock.sleep(WINDOW_PAUSE).await;
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut commands = self.session.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.outstanding.remove(&self.sequence);
    }
}

/// A gateway's hold on the metadata: gives a session that isn't worn out.
pub struct Writer {
    client: Arc<MetadataClient>,
    gateway: String,
    /// None before the first is open.
    current: RwLock<Option<Arc<WriterSession>>>,
    /// Which of the two names is opened next; held while a session is opened.
    turn: tokio::sync::Mutex<u32>,
}

impl Writer {
    /// Opens a session for the gateway with this stable name; ends the sessions of its last run.
    pub async fn open(client: Arc<MetadataClient>, gateway: &str) -> Result<Self, MetadataError> {
        let writer = Self::open_later(client, gateway);
        writer.first_session().await?;
        Ok(writer)
    }

    /// As [`Writer::open`], but the session is opened when somebody needs it: a gateway may start
    /// while the metadata is out of reach.
    pub fn open_later(client: Arc<MetadataClient>, gateway: &str) -> Self {
        Self {
            client,
            gateway: gateway.to_owned(),
            current: RwLock::new(None),
            turn: tokio::sync::Mutex::new(1),
        }
    }

    /// The client underneath, for queries.
    pub fn client(&self) -> &Arc<MetadataClient> {
        &self.client
    }

    /// The session to name new extents by; a new one when the current is old or used up.
    pub async fn session(&self) -> Result<Arc<WriterSession>, MetadataError> {
        let Some(session) = self.current() else {
            // However many wait in front of us.
            let first = timeout(&**self.client.clock(), TOTAL_DEADLINE, self.first_session());
            return first.await.unwrap_or(Err(MetadataError::Unavailable));
        };
        if session.is_worn(self.client.clock().monotonic()) {
            return self.replace(session.id).await;
        }
        Ok(session)
    }

    /// Proposes a command. A command without extents is proposed again in a new session when the
    /// old one has ended; with extents, `Refused(SessionEnded)` means that they must be written
    /// again, under ids of the session that is open by then.
    pub async fn propose(&self, command: Command) -> Result<Outcome, MetadataError> {
        let session = self.session().await?;
        let again = (!names_extents(&command)).then(|| command.clone());
        let outcome = session.propose(&self.client, command).await?;
        if outcome != Outcome::Refused(Refusal::SessionEnded) {
            return Ok(outcome);
        }
        let session = self.replace(session.id).await?;
        match again {
            Some(command) => session.propose(&self.client, command).await,
            None => Ok(outcome),
        }
    }

    /// Replaces the session `ended`, unless somebody else did.
    async fn replace(&self, ended: SessionId) -> Result<Arc<WriterSession>, MetadataError> {
        let mut turn = self.turn.lock().await;
        if let Some(current) = self.current().filter(|current| current.id != ended) {
            return Ok(current);
        }
        let session = Arc::new(open_session(&self.client, &self.gateway, *turn).await?);
        *turn ^= 1;
        self.put(&session);
        Ok(session)
    }

    /// The session that is open, or the first of this run.
    async fn first_session(&self) -> Result<Arc<WriterSession>, MetadataError> {
        let _turn = self.turn.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        // Both names, so that nothing of an earlier run can be committed any more.
        open_session(&self.client, &self.gateway, 1).await?;
        let session = Arc::new(open_session(&self.client, &self.gateway, 0).await?);
        self.put(&session);
        Ok(session)
    }

    fn current(&self) -> Option<Arc<WriterSession>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, session: &Arc<WriterSession>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::clone(session));
    }
}

async fn open_session(
    client: &MetadataClient,
    gateway: &str,
    turn: u32,
) -> Result<WriterSession, MetadataError> {
    let command = Command::OpenSession { gateway: format!("{gateway}#{turn}") };
    match client.propose_one(command).await? {
        Outcome::SessionOpened(id) => Ok(WriterSession::new(id, client.clock().monotonic())),
        _ => Err(MetadataError::Unavailable),
    }
}

/// Whether the command commits extents that were written under a session.
fn names_extents(command: &Command) -> bool {
    match command {
        Command::CommitObject(commit) => !commit.parts.is_empty() || commit.record.is_some(),
        Command::CopyObject(copy) => copy.record.is_some(),
        Command::CompleteUpload(complete) => complete.record.is_some(),
        Command::PutPart(put) => put.shared_with.is_none(),
        Command::RecodeObject(recode) => !recode.parts.is_empty() || recode.record.is_some(),
        Command::InitCluster { .. }
        | Command::RegisterDisk { .. }
        | Command::SetDiskState { .. }
        | Command::AllocateReplica
        | Command::OpenSession { .. }
        | Command::EndSession { .. }
        | Command::CreateBucket { .. }
        | Command::DeleteBucket { .. }
        | Command::DeleteObject { .. }
        | Command::CreateUpload { .. }
        | Command::AbortUpload { .. }
        | Command::QueueRepair { .. }
        | Command::CollectGarbage { .. }
        | Command::ShardsRepaired { .. }
        | Command::RegisterNode(_)
        | Command::JoinNode { .. }
        | Command::RemoveNode { .. }
        | Command::SetAuthority(_)
        | Command::CreateToken(_)
        | Command::RevokeToken { .. }
        | Command::PlaceReplica(_)
        | Command::ForgetReplica { .. }
        | Command::TakeLease { .. }
        // Theirs were written under sessions that have ended.
        | Command::AdoptObject(_)
        | Command::AdoptPart(_)
        | Command::AdoptDisk(_)
        | Command::AdoptNode(_)
        | Command::AdoptPgs { .. }
        | Command::ReleaseHeld { .. }
        | Command::BeginMoves { .. }
        | Command::EndMove(_)
        | Command::DrainDisk { .. }
        | Command::WeighDisk { .. }
        | Command::PlaceNode { .. }
        | Command::SetUpkeep { .. }
        | Command::MuteHealth(_)
        | Command::GiveUpDisk { .. }
        | Command::SetStorageClass { .. }
        | Command::SetBucketClass { .. }
        | Command::SetRecode(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use model::ids::ReplicaId;
    use model::query::{MetadataRequest, MetadataResponse};
    use wire::BoxFuture;
    use wire::clock::SystemClock;
    use wire::network::{InProcess, Peer, Service};

    use super::*;
    use crate::client::ReplicaBook;

    /// Opens a session for each proposal.
    #[derive(Default)]
    struct Leader {
        opened: AtomicUsize,
    }

    impl Service<MetadataRequest, MetadataResponse> for Leader {
        fn serve(&self, _: MetadataRequest) -> BoxFuture<'_, MetadataResponse> {
            let number = self.opened.fetch_add(1, Ordering::Relaxed) as u64 + 1;
            let outcomes = vec![Outcome::SessionOpened(SessionId(number))];
            Box::pin(std::future::ready(MetadataResponse::Outcomes(outcomes)))
        }
    }

    #[tokio::test]
    async fn the_first_session_waits_for_the_metadata() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let network = Arc::new(InProcess::new(Arc::clone(&clock)));
        let book = Arc::new(ReplicaBook::new(vec![ReplicaId(1)]));
        let client = MetadataClient::new(Arc::clone(&network) as _, book, Arc::clone(&clock));
        let writer = Arc::new(Writer::open_later(Arc::new(client), "gateway"));
        // Nobody is there yet; both of these ask at the same time.
        let ask = |writer: Arc<Writer>| {
            tokio::spawn(async move { writer.session().await.map(|session| session.id()) })
        };
        let (one, other) = (ask(Arc::clone(&writer)), ask(Arc::clone(&writer)));
        clock.sleep(Duration::from_millis(50)).await;
        assert!(!one.is_finished() && !other.is_finished());
        let leader = Arc::new(Leader::default());
        network.register(Peer(1), Arc::clone(&leader) as Arc<_>);
        // Both names were opened, once.
        assert_eq!(one.await.expect("joined"), Ok(SessionId(2)));
        assert_eq!(other.await.expect("joined"), Ok(SessionId(2)));
        assert_eq!(leader.opened.load(Ordering::Relaxed), 2);
        assert_eq!(writer.session().await.expect("open").id(), SessionId(2));
    }
}
