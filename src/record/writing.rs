//! From what was taken to what is in the file.
//!
//! A task takes all that is queued, and hands it to a blocking thread as one piece: so a busy stream
//! costs few switches, and a slow disk holds up no worker. While nothing is written, no thread is
//! held: with tokio's paused time, time goes on.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::entry::{Entry, What};
use super::frame;
use super::output::Storage;
use super::records::MAX_NAMES;
use crate::error::Gap;
use crate::name::StreamName;

/// Written at once. A larger record is written as a whole.
const PIECE: usize = 256 << 10;

/// Jobs done in one go.
const JOBS: usize = 1024;

/// What is to be done, in order.
pub(super) enum Job {
    /// Write what came on a stream.
    Items { name: StreamName, items: Vec<(Instant, What)>, room: OwnedSemaphorePermit },
    /// Have all before it survive the machine, and say so.
    Sync { is_end: bool, done: oneshot::Sender<()> },
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) gaps: u64,
    pub(super) messages: u64,
    pub(super) missed: u64,
    pub(super) streams: u64,
}

/// A file that is being written.
pub(super) struct Sink {
    buf: Vec<u8>,
    is_dirty: bool,
    names: HashMap<StreamName, u64>,
    names_len: usize,
    /// The time of the record before, since the start, in nanoseconds.
    now: i64,
    start: Instant,
    storage: Box<dyn Storage>,
    written: Written,
}

impl Sink {
    /// Begins a run at `start`, which is `wall` by the wall clock. Blocks.
    pub(super) fn begin(
        storage: Box<dyn Storage>,
        start: Instant,
        wall: SystemTime,
    ) -> io::Result<Self> {
        let mut this = Self {
            buf: Vec::new(),
            is_dirty: false,
            names: HashMap::new(),
            names_len: 0,
            now: 0,
            start,
            storage,
            written: Written::default(),
        };
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        this.put(&Entry::Start { wall })?;
        this.sync()?;
        Ok(this)
    }

    /// Does `jobs`, and has all survive the machine if it is time to. Returns who waits for that.
    /// Blocks.
    pub(super) fn run(
        &mut self,
        jobs: Vec<Job>,
        sync: bool,
    ) -> io::Result<Vec<oneshot::Sender<()>>> {
        let mut waiting = Vec::new();
        let mut rooms = Vec::new();
        for job in jobs {
            match job {
                Job::Items { name, items, room } => {
                    let id = self.id(&name)?;
                    for (at, what) in items {
                        self.item(id, at, what)?;
                    }
                    rooms.push(room);
                }
                Job::Sync { is_end, done } => {
                    if is_end {
                        let dt = self.step(Instant::now());
                        self.put(&Entry::End { dt })?;
                    }
                    waiting.push(done);
                }
            }
        }
        self.flush()?;
        if sync || !waiting.is_empty() {
            self.sync()?;
        }
        Ok(waiting)
    }

    fn item(&mut self, id: u64, at: Instant, what: What) -> io::Result<()> {
        match &what {
            What::Message(_) => self.written.messages += 1,
            What::Gap(gap) => {
                self.written.gaps += 1;
                if let Gap::Lagged { missed } = gap {
                    self.written.missed = self.written.missed.saturating_add(*missed);
                }
            }
            What::Closed { .. } => {}
        }
        let dt = self.step(at);
        self.put(&Entry::Item { dt, id, what })
    }

    /// The number of a stream, which is told the first time.
    fn id(&mut self, name: &StreamName) -> io::Result<u64> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        self.names_len += name.as_str().len();
        if self.names_len > MAX_NAMES {
            return Err(io::Error::other("too many streams for one recording"));
        }
        let id = self.names.len() as u64;
        self.put(&Entry::Name { id, name: name.as_str().into() })?;
        self.names.insert(name.clone(), id);
        self.written.streams += 1;
        Ok(id)
    }

    fn step(&mut self, at: Instant) -> i64 {
        let since = |later: Instant, earlier| {
            let nanos = later.saturating_duration_since(earlier).as_nanos();
            i64::try_from(nanos).unwrap_or(i64::MAX)
        };
        let now = if at >= self.start { since(at, self.start) } else { -since(self.start, at) };
        let dt = now.saturating_sub(self.now);
        self.now = now;
        dt
    }

    fn put(&mut self, entry: &Entry) -> io::Result<()> {
        frame::write(&mut self.buf, |out| entry.write(out))?;
        if self.buf.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Hands what there is to the kernel.
    fn flush(&mut self) -> io::Result<()> {
        if !self.buf.is_empty() {
            self.is_dirty = true;
            self.storage.write_all(&self.buf)?;
            self.storage.flush()?;
            self.written.bytes += self.buf.len() as u64;
            self.buf.clear();
            self.buf.shrink_to(2 * PIECE);
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        if std::mem::take(&mut self.is_dirty) { self.storage.sync() } else { Ok(()) }
    }
}

/// Writes what is queued until nobody can queue any more. Tells after each piece what is written.
pub(super) async fn run(
    mut jobs: mpsc::UnboundedReceiver<Job>,
    mut sink: Sink,
    sync_every: Duration,
    told: impl Fn(Written),
) -> io::Result<()> {
    let mut synced = Instant::now();
    loop {
        let mut batch = Vec::new();
        let due = synced + sync_every;
        tokio::select! {
            some = jobs.recv_many(&mut batch, JOBS) => if some == 0 { break },
            () = sleep_until(due), if sink.is_dirty => {}
        }
        let sync = due <= Instant::now();
        let done = spawn_blocking(move || {
            let result = sink.run(batch, sync);
            (sink, result)
        });
        let result;
        (sink, result) = done.await.map_err(io::Error::other)?;
        let waiting = result?;
        if sync {
            synced = Instant::now();
        }
        told(sink.written); // Before anybody who waits for it looks.
        for done in waiting {
            let _ = done.send(()); // Who has gone does not want to know.
        }
    }
    spawn_blocking(move || sink.sync()).await.map_err(io::Error::other)?
}

/// What a message costs of the queue's room, beside its bytes.
const COST: usize = 64;

pub(super) fn cost(what: &What) -> usize {
    COST + if let What::Message(message) = what { message.len() } else { 0 }
}
