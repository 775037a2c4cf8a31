//! The records of a file, one after the other.
//!
//! 1. Whatever the bytes are, reading them neither panics nor takes more memory than the largest
//!    record that is allowed, plus the names of the streams.
//! 2. What is yielded before an error is what was written, in order.
//! 3. A stream that goes on in a later run has a gap there: nobody recorded what lies between.

use std::collections::HashSet;
use std::fmt;
use std::io::{BufReader, Read};
use std::iter::FusedIterator;
use std::time::{Duration, SystemTime};

use super::entry::{Entry, What, Wrong};
use super::frame::{self, HEAD, TAIL};
use super::reading::ReadError;
use crate::error::Gap;
use crate::message::{Message, Text};
use crate::name::StreamName;

/// The largest record by default: four times the default of the largest message.
const MAX_RECORD: usize = 64 << 20;

/// A thousand years: a later time is a lie, which must not be a sum that nobody can hold.
const LATEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

/// The names of all streams of a file together.
pub(super) const MAX_NAMES: usize = 64 << 20;

/// Something that came on a stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// When it came, since the recording began. It may be before that of the record before, where
    /// the recorder took several streams in turn.
    pub at: Duration,
    /// What came.
    pub item: Item,
    /// The stream.
    pub name: StreamName,
    /// When it came by the wall clock, as that was when the recorder was started.
    pub wall: SystemTime,
}

/// What came.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Item {
    /// The stream ended.
    Closed {
        /// The reason's [`label`](crate::CloseReason::label).
        label: Text,
        /// Its text.
        words: Text,
    },
    /// A break in the stream. [`Gap::Lagged`] is the recorder's own lag.
    Gap(Gap),
    /// A message.
    Message(Message),
}

/// Reads the records of a recording from anything that can be read: the file, or its bytes.
///
/// An iterator, which ends after its first error. It takes what it is given by blocking reads; a
/// buffer is its own.
///
/// ```no_run
/// use wsmux::record::{Item, ReadError, Records};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// for record in Records::new(std::fs::File::open("monday.rec")?) {
///     match record {
///         Ok(record) => println!("{:?} {} {:?}", record.at, record.name, record.item),
///         Err(ReadError::Torn { at }) => println!("its writer was killed: {at} bytes are whole"),
///         Err(e) => return Err(e.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Records<R> {
    /// Where the current run began, since the first.
    base: Duration,
    finished: bool,
    from: BufReader<R>,
    is_over: bool,
    last: Duration,
    max: usize,
    /// By number, in this run.
    names: Vec<StreamName>,
    names_len: usize,
    /// The time of the record before, in this run.
    now: i64,
    position: u64,
    /// Names of earlier runs that have not gone on yet.
    seen: HashSet<StreamName>,
    /// When the current run began.
    wall: Option<SystemTime>,
    first_wall: Option<SystemTime>,
}

impl<R: Read> Records<R> {
    /// The records that `from` holds.
    pub fn new(from: R) -> Self {
        Self {
            base: Duration::ZERO,
            finished: false,
            from: BufReader::with_capacity(64 << 10, from),
            is_over: false,
            last: Duration::ZERO,
            max: MAX_RECORD,
            names: Vec::new(),
            names_len: 0,
            now: 0,
            position: 0,
            seen: HashSet::new(),
            wall: None,
            first_wall: None,
        }
    }

    /// Sets the largest record that is read, in bytes: 64 MiB by default. It bounds the memory.
    #[must_use]
    pub fn max_record(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    fn step(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let at = self.position;
            let data = match frame::read(&mut self.from, at, self.max) {
                Ok(Some(data)) => data,
                Ok(None) => return Ok(None),
                // What does not begin as a recording is none, rather than a damaged one.
                Err(ReadError::Corrupt { .. } | ReadError::TooLarge { .. }) if at == 0 => {
                    return Err(ReadError::NotARecording);
                }
                Err(e) => return Err(e),
            };
            let len = (HEAD + data.len() + TAIL) as u64;
            let taken = Entry::read(data).and_then(|entry| self.take(entry));
            match taken {
                Ok(record) => {
                    self.position += len;
                    if record.is_some() {
                        return Ok(record);
                    }
                }
                Err(Wrong::Invalid(_)) if at == 0 => return Err(ReadError::NotARecording),
                Err(Wrong::Invalid(why)) => return Err(ReadError::Invalid { at, why }),
                Err(Wrong::Version(found)) => return Err(ReadError::Version { found }),
            }
        }
    }

    fn take(&mut self, entry: Entry) -> Result<Option<Record>, Wrong> {
        if self.wall.is_none() && !matches!(entry, Entry::Start { .. }) {
            return Err(Wrong::Invalid("it does not begin with a run"));
        }
        match entry {
            Entry::Start { wall } => self.begin(wall).map(|()| None),
            Entry::Name { id, name } => self.name(id, &name),
            Entry::Item { dt, id, what } => {
                let id = usize::try_from(id).ok();
                let name = id.and_then(|id| self.names.get(id)).cloned();
                let name = name.ok_or(Wrong::Invalid("a stream that has no name"))?;
                let item = match what {
                    What::Closed { label, words } => Item::Closed { label, words },
                    What::Gap(gap) => Item::Gap(gap),
                    What::Message(message) => Item::Message(message),
                };
                self.tick(dt)?;
                Ok(Some(self.record(name, item)))
            }
            Entry::End { dt } => {
                self.tick(dt)?;
                self.last = self.last.max(self.record_time());
                self.finished = true;
                Ok(None)
            }
            Entry::Unknown => Ok(None),
        }
    }

    fn begin(&mut self, wall: u64) -> Result<(), Wrong> {
        let wall = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(wall));
        let wall = wall.ok_or(Wrong::Invalid("a date that is none"))?;
        let first = *self.first_wall.get_or_insert(wall);
        // A clock that was set back must not make time run backwards.
        self.base = wall.duration_since(first).unwrap_or_default().max(self.last).min(LATEST);
        self.last = self.base;
        (self.wall, self.now, self.finished) = (Some(wall), 0, false);
        self.seen.extend(self.names.drain(..));
        Ok(())
    }

    fn name(&mut self, id: u64, name: &str) -> Result<Option<Record>, Wrong> {
        let name =
            StreamName::try_from(name).map_err(|_| Wrong::Invalid("a name that is not one"))?;
        self.names_len += name.as_str().len();
        if id != self.names.len() as u64 {
            return Err(Wrong::Invalid("a stream's number is not the next one"));
        }
        if self.names_len > MAX_NAMES {
            return Err(Wrong::Invalid("too many streams"));
        }
        self.names.push(name.clone());
        let goes_on = self.seen.remove(&name);
        if goes_on {
            self.names_len -= name.as_str().len(); // It has been counted before.
        }
        let gap = Item::Gap(Gap::Sequence { missed: None });
        Ok(goes_on.then(|| self.record(name, gap)))
    }

    fn tick(&mut self, dt: i64) -> Result<(), Wrong> {
        self.now = self.now.checked_add(dt).ok_or(Wrong::Invalid("a time beyond all times"))?;
        Ok(())
    }

    /// The time of the latest record, in all runs.
    fn record_time(&self) -> Duration {
        (self.base + Duration::from_nanos(u64::try_from(self.now).unwrap_or(0))).min(LATEST)
    }

    fn record(&mut self, name: StreamName, item: Item) -> Record {
        let at = self.record_time();
        self.last = self.last.max(at);
        let since = Duration::from_nanos(self.now.unsigned_abs());
        let start = self.wall.unwrap_or(SystemTime::UNIX_EPOCH);
        let wall = if self.now < 0 { start.checked_sub(since) } else { start.checked_add(since) };
        Record { at, item, name, wall: wall.unwrap_or(start) }
    }
}

impl<R> Records<R> {
    /// Bytes read so far, in whole records: for a progress bar, and where a torn end begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the last record so far says that the recorder was finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// When the recording began by the wall clock; `None` before the first record.
    #[must_use]
    pub fn started(&self) -> Option<SystemTime> {
        self.first_wall
    }

    /// All streams that were named, in this run and in earlier ones.
    pub(super) fn into_names(self) -> impl Iterator<Item = StreamName> {
        self.names.into_iter().chain(self.seen)
    }

    /// The time of the latest record so far, since the recording began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.last
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.step().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<R: Read> FusedIterator for Records<R> {}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("position", &self.position).finish_non_exhaustive()
    }
}
