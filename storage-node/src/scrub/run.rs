//! The thread that scrubs one disk: takes orders, verifies window after window, books what it
//! finds, and rests in between.
//!
//! What fails is read again before it is judged. A live shard that is damaged is booked with the
//! ledger, which keeps its segment; damage where nothing lives is noted as a region. Segments may
//! be reclaimed while they are read: what the ledger doesn't know any more is passed over.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use model::ids::ShardId;
use model::shard::ShardError;
use model::time::Timestamp;
use tokio::sync::oneshot;
use wire::disk::OpenMode;

use super::control::{Order, ScrubControl};
use super::plan::{self, Due, Pace, PaceLimits, Stretch};
use super::reads::Reads;
use super::state::{Pass, ScrubState};
use super::walk::{Seen, Walk, Window};
use crate::index::{DamagedRegion, Location, SegmentUse};
use crate::lock::lock;
use crate::segment::{Kind, Seal, segment_name};
use crate::store::{Job, JobKind, Queue, Shared, Waits, is_shortage};
use crate::sync::thread::{Builder, JoinHandle};

/// How long to rest when there is nothing to do: orders come in between.
const IDLE: Duration = Duration::from_hours(1);
/// How long to leave a disk alone that can't be read, be it for want of memory or open files.
const AILING: Duration = Duration::from_secs(5);
/// Steps in which it gives way to others who use the disk.
const GIVE_WAY_STEP: Duration = Duration::from_millis(2);
/// A pause is saved up until it is worth a timer.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// On a disk that nobody writes to, nothing but scrub has its progress saved: so often at most.
const SAVE_EVERY: Duration = Duration::from_mins(10);
/// The same when damage was found or a pass ended.
const SAVE_NEWS_EVERY: Duration = Duration::from_mins(1);

/// Who else uses the disk.
pub(crate) struct Neighbours {
    /// The writer's queue.
    pub(crate) queue: Arc<Queue>,
    /// What the disk is doing.
    pub(crate) waits: Arc<Waits>,
}

/// Starts the thread; [`ScrubControl::stop`] ends it.
pub(crate) fn start(
    shared: Arc<Shared>,
    control: Arc<ScrubControl>,
    neighbours: Neighbours,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Builder::new().name(format!("disk-{}-scrub", shared.identity.disk)).spawn(move || {
        let scrub = Scrub {
            shared,
            control,
            neighbours,
            walk: None,
            again: 0..0,
            owed: Duration::ZERO,
            saved: Duration::ZERO,
            is_changed: false,
            has_news: false,
        };
        runtime.block_on(scrub.run());
    })
}

struct Scrub {
    shared: Arc<Shared>,
    control: Arc<ScrubControl>,
    neighbours: Neighbours,
    walk: Option<Walk>,
    /// The stretch of the walk that is read for the second time: what fails there is damaged.
    again: Range<u64>,
    /// Rest that was earned and not taken yet.
    owed: Duration,
    /// When the state was last to be saved, and whether it has changed since.
    saved: Duration,
    is_changed: bool,
    /// Whether the change is more than progress.
    has_news: bool,
}

impl Scrub {
    async fn run(mut self) {
        while !self.control.is_stopped() {
            self.obey();
            let state = self.control.get();
            if self.shared.health.check_read().is_err() {
                self.walk = None;
                self.rest(AILING).await;
                continue;
            }
            match state.current().copied() {
                Some(pass) => {
                    let pace = self.pace(&state, &pass);
                    self.give_way(&pace).await;
                    self.go_on(&pass, &pace).await;
                }
                None => self.begin_or_wait(&state).await,
            }
            self.save_if_due();
        }
    }

    fn limits(&self) -> PaceLimits {
        let options = &self.shared.options;
        PaceLimits {
            interval: options.scrub_interval,
            rate_min: options.scrub_bytes_per_second_min,
            rate_max: options.scrub_bytes_per_second_max,
            busy_percent: options.scrub_busy_percent,
        }
    }

    fn pace(&self, state: &ScrubState, pass: &Pass) -> Pace {
        match state.asked {
            Some((_, bytes_per_second)) => Pace::asked(bytes_per_second),
            None => Pace::paced(pass, self.shared.clock.now(), &self.limits()),
        }
    }

    fn obey(&mut self) {
        let Some(order) = self.control.take_order() else {
            return;
        };
        self.walk = None;
        self.owed = Duration::ZERO;
        let disk = self.shared.identity.disk;
        match order {
            Order::Begin(bytes_per_second) => {
                let pass = self.new_pass();
                tracing::info!(%disk, bytes = pass.total_bytes, "a scrub was asked for");
                self.change(|state| state.asked = Some((pass, bytes_per_second)));
            }
            Order::End => {
                tracing::info!(%disk, "the scrub that was asked for is ended");
                self.change(|state| state.asked = None);
            }
        }
    }

    fn new_pass(&self) -> Pass {
        // Never 0, which means none.
        let began = self.shared.clock.now().max(Timestamp(1));
        let pass = Pass { began, until: self.shared.durable(), ..Pass::default() };
        Pass { total_bytes: plan::remaining_bytes(&pass, &self.segments()), ..pass }
    }

    fn segments(&self) -> Vec<(u64, SegmentUse)> {
        lock(&self.shared.ledger).segments()
    }

    async fn begin_or_wait(&mut self, state: &ScrubState) {
        let limits = self.limits();
        match plan::due(state.last_began, self.shared.clock.now(), limits.interval) {
            Due::Now => {
                let pass = self.new_pass();
                self.change(|state| state.paced = Some(pass));
            }
            Due::In(wait) => self.rest(wait.min(IDLE)).await,
            Due::Never => self.rest(IDLE).await,
        }
    }

    /// Verifies the next window of a pass, and rests for as long as it has earned.
    async fn go_on(&mut self, pass: &Pass, pace: &Pace) {
        let began = self.shared.clock.monotonic();
        let mut walk = match self.walk_of(pass) {
            Ok(walk) => walk,
            Err(pause) => return self.rest(pause).await,
        };
        let segment = walk.stretch().segment;
        let shared = Arc::clone(&self.shared);
        let at = walk.reached();
        let reads = Reads::new(&shared.health, segment, at);
        let window = walk.advance(pace.window_bytes(), &|outcome| reads.heard(outcome));
        shared.meter.scrub_bytes.increment(window.bytes);
        if reads.has_failed() {
            shared.meter.failure("read");
        }
        if let Some(error) = &window.error {
            let disk = shared.identity.disk;
            tracing::warn!(%disk, segment, offset = at, %error, "a read of the scrub failed");
        }
        let bytes = window.bytes;
        if shared.health.check_read().is_ok() {
            let judged = if reads.is_short() { None } else { self.judge(&mut walk, window) };
            let Some(reached) = judged else {
                // Nothing is known of this window: it is read again from where the pass stands.
                return self.rest(AILING).await;
            };
            self.advance(|pass| {
                pass.verified_bytes += reached.saturating_sub(at);
                (pass.segment, pass.offset) = (segment, reached);
            });
            self.walk = (!walk.is_done()).then_some(walk);
        }
        let busy = self.shared.clock.monotonic().saturating_sub(began);
        self.shared.meter.scrub_seconds.record(busy.as_secs_f64());
        self.rest(pace.pause(bytes, busy)).await;
    }

    /// The walk under way, or the next one; or how long to rest before this is asked again.
    fn walk_of(&mut self, pass: &Pass) -> Result<Walk, Duration> {
        if let Some(walk) = self.walk.take()
            && lock(&self.shared.ledger).used(walk.stretch().segment).is_some()
        {
            return Ok(walk);
        }
        self.again = 0..0;
        let segments = self.segments();
        let left = plan::remaining_bytes(pass, &segments);
        self.advance(|pass| pass.total_bytes = pass.verified_bytes + left);
        let Some(stretch) = plan::next(pass, &segments) else {
            self.finish(pass);
            return Err(Duration::ZERO);
        };
        // Its own handle: the kernel reads ahead by handle, and clients read at random.
        match self.shared.disk.open(&segment_name(stretch.segment), OpenMode::Read) {
            Ok(file) => {
                let seal = Seal::new(&self.shared.identity, stretch.segment);
                Ok(Walk::new(file, seal, stretch))
            }
            Err(error) => Err(self.cannot_open(&stretch, &error)),
        }
    }

    fn finish(&mut self, pass: &Pass) {
        let now = self.shared.clock.now();
        self.change(|state| state.finish(now));
        self.shared.meter.scrub_passes.increment(1);
        self.has_news = true;
        let seconds = now.0.saturating_sub(pass.began.0) / 1_000_000_000;
        tracing::info!(
            disk = %self.shared.identity.disk, bytes = pass.verified_bytes, seconds,
            "a scrub has verified the whole disk"
        );
    }

    /// A segment that can't be opened. One that was reclaimed a moment ago isn't in the ledger
    /// any more; one that is, and has no file, is lost with all that lives in it. Gives how long to
    /// rest.
    fn cannot_open(&mut self, stretch: &Stretch, error: &io::Error) -> Duration {
        let segment = stretch.segment;
        if lock(&self.shared.ledger).used(segment).is_none() {
            return Duration::ZERO;
        }
        if is_shortage(error) {
            tracing::warn!(disk = %self.shared.identity.disk, segment, %error, "not opened yet");
            return AILING;
        }
        if error.kind() == io::ErrorKind::NotFound && self.shared.disk.is_present() {
            let lost = [DamagedRegion { segment, offset: 0, bytes: stretch.to }];
            if !self.look_for_live(segment, &lost) {
                return AILING;
            }
        } else {
            tracing::warn!(disk = %self.shared.identity.disk, segment, %error, "not opened");
            self.shared.health.read_failed(segment, 0, error);
            // It is tried again in the next pass: nothing is known of it now.
        }
        self.advance(|pass| (pass.segment, pass.offset) = (segment, stretch.to));
        Duration::ZERO
    }

    /// Books what a window has shown. Gives the offset up to which that is final; `None` when it
    /// has to be read again, because not all of it could be judged.
    fn judge(&mut self, walk: &mut Walk, window: Window) -> Option<u64> {
        let segment = walk.stretch().segment;
        let reached = walk.reached();
        let mut gaps = Vec::new();
        for seen in window.seen {
            if let Seen::Sound { .. } = seen {
                continue;
            }
            if !self.again.contains(&seen.offset()) {
                // The first time: a flip in memory or on the way looks the same.
                self.again = seen.offset()..reached;
                self.shared.meter.scrub_rereads.increment(1);
                walk.rewind(seen.offset());
                break;
            }
            match seen {
                Seen::Unsound { offset, header } => {
                    let location = Location {
                        segment,
                        offset: offset as u32,
                        record_bytes: header.record_bytes() as u32,
                        payload_bytes: header.payload_bytes,
                    };
                    let lives = header.kind == Kind::Shard
                        && self.shared.index.get(header.id).ok().flatten() == Some(location);
                    if lives {
                        if !self.verify(header.id) {
                            return None;
                        }
                    } else {
                        self.shared.damaged(DamagedRegion {
                            segment,
                            offset,
                            bytes: header.record_bytes(),
                        });
                    }
                }
                Seen::Gap { offset, bytes } => {
                    gaps.push(DamagedRegion { segment, offset, bytes });
                }
                Seen::Sound { .. } => {}
            }
        }
        if !gaps.is_empty() && !self.look_for_live(segment, &gaps) {
            return None;
        }
        Some(walk.reached())
    }

    /// Finds, by the index, what lives in regions that don't say so themselves; `false` as
    /// [`Scrub::verify`] says it.
    fn look_for_live(&mut self, segment: u64, regions: &[DamagedRegion]) -> bool {
        for region in regions {
            self.shared.damaged(*region);
        }
        let live = match self.shared.index.in_segment(segment) {
            Ok(live) => live,
            Err(error) => {
                self.shared.index_failed(&error);
                return true;
            }
        };
        self.has_news = true;
        for (id, location) in live {
            let from = u64::from(location.offset);
            let to = from + u64::from(location.record_bytes);
            if regions.iter().any(|r| from < r.offset + r.bytes && r.offset < to)
                && !self.verify(id)
            {
                return false;
            }
        }
        true
    }

    /// Has a shard told sound, or booked as damaged. `false` when that has to be asked again, for
    /// want of memory or open files.
    fn verify(&mut self, id: ShardId) -> bool {
        let Err(error) = self.shared.verify_shard(id) else {
            // Told, booked, or gone: there is nothing to do for the scrub.
            self.has_news = true;
            return true;
        };
        tracing::debug!(disk = %self.shared.identity.disk, shard = %id, %error, "not verified");
        !matches!(error, ShardError::Overloaded(_))
    }

    /// Puts a window off while others use the disk.
    async fn give_way(&mut self, pace: &Pace) {
        let began = self.shared.clock.monotonic();
        let limit = pace.give_way();
        let is_busy = |neighbours: &Neighbours| {
            neighbours.queue.len() > 0 || neighbours.waits.under_way() > 0
        };
        while is_busy(&self.neighbours)
            && self.shared.clock.monotonic().saturating_sub(began) < limit
            && !self.control.is_stopped()
            && !self.control.has_order()
        {
            tokio::select! {
                () = self.shared.clock.sleep(GIVE_WAY_STEP) => {}
                // Kept for the rest that follows, which it shall end too.
                () = self.control.wake.notified() => {
                    self.control.wake.notify_one();
                    break;
                }
            }
        }
    }

    /// Rests, until an order comes or the end. Short pauses are saved up.
    async fn rest(&mut self, pause: Duration) {
        self.owed += pause;
        if self.owed < PAUSE_MIN {
            return;
        }
        let began = self.shared.clock.monotonic();
        tokio::select! {
            () = self.shared.clock.sleep(self.owed) => {}
            () = self.control.wake.notified() => {}
        }
        let slept = self.shared.clock.monotonic().saturating_sub(began);
        self.owed = self.owed.saturating_sub(slept);
    }

    /// Changes the state, and with it what the next checkpoint saves.
    fn change(&mut self, work: impl FnOnce(&mut ScrubState)) {
        *lock(&self.shared.scrub_state) = self.control.change(work);
        self.is_changed = true;
    }

    /// Moves the current pass on.
    fn advance(&mut self, work: impl FnOnce(&mut Pass)) {
        self.change(|state| {
            if let Some(pass) = state.current_mut() {
                work(pass);
            }
        });
    }

    /// Asks for a checkpoint now and then, since on a disk that nobody writes to there is none.
    fn save_if_due(&mut self) {
        let now = self.shared.clock.monotonic();
        let every = if self.has_news { SAVE_NEWS_EVERY } else { SAVE_EVERY };
        if !self.is_changed || now.saturating_sub(self.saved) < every {
            return;
        }
        self.saved = now;
        (self.is_changed, self.has_news) = (false, false);
        let (answer, _) = oneshot::channel();
        let job = Job { kind: JobKind::CheckpointSoon, answer, permit: None };
        // A queue that is closed ends with a checkpoint anyway.
        let _ = self.neighbours.queue.push(job);
    }
}
