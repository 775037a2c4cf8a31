//! What a program holds while it records.
//!
//! ```text
//! subscription ─▶ task ─▶ queue, bounded in bytes ─▶ writing ─▶ file
//!      ⋮            ⋮
//! ```
//!
//! 1. A task that finds no room in the queue waits. Meanwhile messages stay in its stream's ring, and
//!    beyond that it is told what it lost, as any reader: that gap is recorded in its place.
//! 2. Nothing is dropped between the ring and the file, except by an error, which everybody hears of.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::entry::What;
use super::output::{self, Storage};
use super::reading::ReadError;
use super::taking::{Command, Queue, Taker};
use super::writing::{self, Job, Sink, Written};
use crate::decode::FromMessage;
use crate::error::Gap;
use crate::name::StreamName;
use crate::stream::Subscription;

/// How a [`Recorder`] works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecorderOptions {
    /// Bytes of messages that may wait for the disk, over all streams: 16 MiB by default, seconds of
    /// a busy feed. Beyond, messages wait in the buffers of their streams.
    pub queue_bytes: usize,
    /// How often what was written is made to survive the machine (`fdatasync`), while something is
    /// written: each second by default, which costs a disk little, and a crash of the machine at most
    /// about that second. [`Duration::MAX`] leaves it to the operating system.
    ///
    /// A crash of the program alone loses nothing that was handed to the operating system, and that is
    /// whatever is there, at once.
    pub sync_every: Duration,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { queue_bytes: 16 << 20, sync_every: Duration::from_secs(1) }
    }
}

impl RecorderOptions {
    /// Sets [`queue_bytes`](field@Self::queue_bytes). One message always fits.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Sets [`sync_every`](field@Self::sync_every).
    #[must_use]
    pub fn sync_every(mut self, period: Duration) -> Self {
        self.sync_every = period;
        self
    }
}

/// Ten years: what is longer is never.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Writes streams into a file, for a [`Replay`](super::Replay).
///
/// Each stream is read by a subscription of the recorder's own, which shares the socket of those that
/// the program reads: [subscribe](crate::WsManager::subscribe) to the name once more, as whatever type,
/// and hand it over. Nothing that the program does with its own subscriptions shows in the recording.
///
/// The disk is written to by blocking threads of the runtime. Where it is slower than the streams, the
/// recorder lags behind like any reader, and records so: a [`Gap::Lagged`] stands where messages are
/// missing.
///
/// [`finish`](Self::finish) it. A recorder that is dropped writes what it has, without saying that this
/// is the end; one that is killed leaves a file that reads up to the last whole record.
pub struct Recorder {
    board: watch::Sender<Board>,
    handle: Handle,
    queue: Queue,
    takers: Mutex<HashMap<StreamName, mpsc::UnboundedSender<Command>>>,
}

/// What everybody can see.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Streams that are being recorded.
    pub(super) active: usize,
    error: Option<Arc<io::Error>>,
    written: Written,
}

impl Recorder {
    /// Records into a file that must not exist yet.
    ///
    /// # Errors
    ///
    /// When the file exists or cannot be made or written.
    pub async fn create(
        path: impl AsRef<Path>,
        options: RecorderOptions,
    ) -> Result<Self, RecordError> {
        let path = path.as_ref().to_owned();
        Self::start(options, move || Ok(Box::new(output::create(&path)?))).await
    }

    /// Records at the end of a file, which is made if it does not exist. A torn end is cut off first,
    /// where a recorder was killed. To streams that go on, the time between is a gap.
    ///
    /// The file is read as a whole before, by a blocking thread. That nobody else writes to it is the
    /// caller's affair.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written, or is not a recording, or is
    /// [damaged](ReadError::Corrupt): nothing is changed then.
    pub async fn append(
        path: impl AsRef<Path>,
        options: RecorderOptions,
    ) -> Result<Self, RecordError> {
        let path = path.as_ref().to_owned();
        Self::start(options, move || {
            let (file, _) = output::append(&path).map_err(RecordError::Unreadable)?;
            Ok(Box::new(file))
        })
        .await
    }

    pub(super) async fn start(
        options: RecorderOptions,
        open: impl FnOnce() -> Result<Box<dyn Storage>, RecordError> + Send + 'static,
    ) -> Result<Self, RecordError> {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let begun = spawn_blocking(move || -> Result<Sink, RecordError> {
            Ok(Sink::begin(open()?, start, wall)?)
        });
        let sink = begun.await.map_err(io::Error::other)??;
        let (jobs, queued) = mpsc::unbounded_channel();
        let bytes = options.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let room = Arc::new(Semaphore::new(bytes));
        let board = watch::Sender::new(Board::default());
        let over = Over { board: board.clone(), room: Arc::clone(&room) };
        let every = options.sync_every.min(NEVER);
        let handle = Handle::current();
        handle.spawn(async move {
            let tell = |written| over.board.send_modify(|board| board.written = written);
            if let Err(e) = writing::run(queued, sink, every, tell).await {
                tracing::error!(error = %e, "the recording cannot be written: {e}");
                over.board.send_modify(|board| board.error = Some(Arc::new(e)));
            }
        });
        let queue = Queue { bytes, jobs, room };
        Ok(Self { board, handle, queue, takers: Mutex::default() })
    }

    /// Records what `subscription` yields from here on, until it ends. What it is read as does not
    /// matter: messages are recorded as they came.
    ///
    /// A name that is recorded again after its stream had ended goes on behind a gap.
    ///
    /// # Errors
    ///
    /// When the name is being recorded already, or the file cannot be written any more.
    pub fn record<T: FromMessage>(&self, subscription: Subscription<T>) -> Result<(), RecordError> {
        self.check()?;
        let name = subscription.name().clone();
        let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = takers.get(&name);
        if before.is_some_and(|before| !before.is_closed()) {
            return Err(RecordError::AlreadyRecorded { name });
        }
        let first = before.map(|_| What::Gap(Gap::Sequence { missed: None }));
        let (commands, obeyed) = mpsc::unbounded_channel();
        takers.insert(name.clone(), commands);
        drop(takers);
        self.board.send_modify(|board| board.active += 1);
        let active = Active(self.board.clone());
        let queue = self.queue.clone();
        let taker = Taker::new(subscription.read_as(), name, obeyed, queue);
        self.handle.spawn(async move {
            let _active = active;
            taker.run(first).await;
        });
        Ok(())
    }

    /// Waits until everything that the streams have brought by now is written, and would survive the
    /// machine.
    ///
    /// Cancel safe: it is written all the same.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn flush(&self) -> Result<(), RecordError> {
        self.have_taken(Command::Drain).await;
        self.synced(false).await
    }

    /// Ends the recording: what the streams have brought by now is written, and that this is the end.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub async fn finish(self) -> Result<Recorded, RecordError> {
        self.have_taken(Command::Stop).await;
        self.synced(true).await?;
        Ok(self.so_far())
    }

    /// Waits until all streams that are recorded have ended, or the file cannot be written. Ends at
    /// once if none is recorded.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. It is not written to any more.
    pub async fn ended(&self) -> Result<(), RecordError> {
        let mut board = self.board.subscribe();
        // The sender is ours, and so lives.
        let _ = board.wait_for(|board| board.active == 0 || board.error.is_some()).await;
        self.check()
    }

    /// Whether all is well.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. It is not written to any more.
    pub fn check(&self) -> Result<(), RecordError> {
        self.board.borrow().error.clone().map_or(Ok(()), |e| Err(RecordError::Io(e)))
    }

    /// What is written so far.
    #[must_use]
    pub fn so_far(&self) -> Recorded {
        Recorded(self.board.borrow().written)
    }

    /// Has all streams that are recorded do as `command` says, and waits until they have.
    async fn have_taken(&self, command: fn(oneshot::Sender<()>) -> Command) {
        let asked: Vec<_> = {
            let mut takers = self.takers.lock().unwrap_or_else(PoisonError::into_inner);
            let ask = |taker: &mut mpsc::UnboundedSender<Command>| {
                let (done, asked) = oneshot::channel();
                taker.send(command(done)).ok().map(|()| asked)
            };
            takers.values_mut().filter_map(ask).collect()
        };
        for done in asked {
            let _ = done.await; // It has ended by itself.
        }
    }

    async fn synced(&self, is_end: bool) -> Result<(), RecordError> {
        let (done, synced) = oneshot::channel();
        if self.queue.jobs.send(Job::Sync { is_end, done }).is_ok() && synced.await.is_ok() {
            return Ok(());
        }
        // The error is told a moment after the queue is gone.
        let mut board = self.board.subscribe();
        let _ = board.wait_for(|board| board.error.is_some()).await;
        self.check()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("board", &*self.board.borrow()).finish_non_exhaustive()
    }
}

/// Tells everybody that nothing is written any more, also where the runtime has dropped the writer.
struct Over {
    board: watch::Sender<Board>,
    room: Arc<Semaphore>,
}

impl Drop for Over {
    fn drop(&mut self) {
        let cut_off = || Arc::new(io::Error::other("the runtime of the recorder was shut down"));
        self.board.send_modify(|board| _ = board.error.get_or_insert_with(cut_off));
        self.room.close(); // Whoever waits for room need not any longer.
    }
}

/// Counts one stream for as long as it is recorded.
struct Active(watch::Sender<Board>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.send_modify(|board| board.active -= 1);
    }
}

/// What was written into a recording.
#[derive(Clone, Copy, Debug)]
pub struct Recorded(Written);

impl Recorded {
    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Gaps of all kinds.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.0.gaps
    }

    /// Messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.0.messages
    }

    /// Messages that are missing because the recorder was too slow. Each has a gap in its place.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.0.missed
    }

    /// Streams that something came on.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.0.streams
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several =
            |n: u64, what| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        let Written { bytes, gaps, messages, missed, streams } = self.0;
        let parts = [(streams, "stream"), (messages, "message"), (gaps, "gap"), (bytes, "byte")];
        let parts = parts.map(|(n, what)| several(n, what));
        f.write_str(&parts.join(", "))?;
        if missed > 0 { write!(f, ", {missed} missed by lagging") } else { Ok(()) }
    }
}

/// Why something is not recorded.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// The stream is being recorded already.
    AlreadyRecorded {
        /// Its name.
        name: StreamName,
    },
    /// The file cannot be written: the disk is full, or the like. What was written before stays, and
    /// may end in a part of a record.
    Io(Arc<io::Error>),
    /// The file that is to be appended to cannot be read as a recording.
    Unreadable(ReadError),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRecorded { name } => {
                write!(f, "the stream {name} is being recorded already: once is enough")
            }
            Self::Io(e) => write!(f, "the recording cannot be written: {e}"),
            Self::Unreadable(e) => write!(f, "the recording cannot be appended to: {e}"),
        }
    }
}

impl StdError for RecordError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::AlreadyRecorded { .. } => None,
            Self::Io(e) => e.source(),
            Self::Unreadable(e) => e.source(),
        }
    }
}

impl From<io::Error> for RecordError {
    fn from(e: io::Error) -> Self {
        Self::Io(Arc::new(e))
    }
}
