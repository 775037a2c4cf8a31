//! A recording as a whole: what is in it, and its records again and again.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::reading::ReadError;
use super::records::{Item, Records};
use crate::name::StreamName;

/// A file that a [`Recorder`](super::Recorder) wrote, looked through once.
#[derive(Clone, Debug)]
pub struct Recording {
    end: End,
    gaps: u64,
    length: Duration,
    max_record: Option<usize>,
    messages: u64,
    names: BTreeSet<StreamName>,
    size: u64,
    source: Source,
    started: Option<SystemTime>,
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// Its recorder was finished.
    Finished,
    /// Between two records: its recorder was killed, or is still at work.
    Open,
    /// Within a record, because its recorder was killed. What is before is whole.
    Torn {
        /// Where that record begins, in bytes from the start of the file.
        at: u64,
    },
}

#[derive(Clone)]
enum Source {
    Bytes(Bytes),
    File(PathBuf),
}

impl Recording {
    /// Opens a file, and looks through it once: each checksum is checked.
    ///
    /// Blocks for as long as that takes, some hundred megabytes a second at worst.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not a recording, or is damaged. A [torn](End::Torn) end is
    /// no error. What is before a damage can be had with [`Records`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Self::look(Source::File(path.as_ref().to_owned()), None)
    }

    /// The same for bytes in memory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, ReadError> {
        Self::look(Source::Bytes(bytes.into()), None)
    }

    /// The same for a file with records of up to `max_record` bytes, instead of 64 MiB.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, max_record: usize) -> Result<Self, ReadError> {
        Self::look(Source::File(path.as_ref().to_owned()), Some(max_record))
    }

    fn look(source: Source, max_record: Option<usize>) -> Result<Self, ReadError> {
        let mut this = Self {
            end: End::Open,
            gaps: 0,
            length: Duration::ZERO,
            max_record,
            messages: 0,
            names: BTreeSet::new(),
            size: 0,
            source,
            started: None,
        };
        let mut records = this.records()?;
        let torn = loop {
            let record = match records.next() {
                Some(Ok(record)) => record,
                Some(Err(ReadError::Torn { at })) => break Some(End::Torn { at }),
                Some(Err(e)) => return Err(e),
                None => break None,
            };
            match record.item {
                Item::Message(_) => this.messages += 1,
                Item::Gap(_) => this.gaps += 1,
                Item::Closed { .. } => {}
            }
            if !this.names.contains(&record.name) {
                this.names.insert(record.name);
            }
        };
        let finished = if records.is_finished() { End::Finished } else { End::Open };
        this.end = torn.unwrap_or(finished);
        (this.length, this.started) = (records.elapsed(), records.started());
        this.size = records.position();
        this.names.extend(records.into_names());
        Ok(this)
    }

    /// The records from the first on, read anew.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn records(&self) -> Result<Records<Box<dyn Read + Send>>, ReadError> {
        let from: Box<dyn Read + Send> = match &self.source {
            Source::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
            Source::File(path) => Box::new(File::open(path)?),
        };
        let records = Records::new(from);
        Ok(match self.max_record {
            Some(max) => records.max_record(max),
            None => records,
        })
    }

    /// The streams in it, also those that nothing came on.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &StreamName> {
        self.names.iter()
    }

    /// Whether `name` is in it.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// How many messages are in it.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many gaps are in it, of all kinds.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// From the recorder's start to its end, or to the last record.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// When it began by the wall clock; `None` if it is empty.
    #[must_use]
    pub fn started(&self) -> Option<SystemTime> {
        self.started
    }

    /// Its bytes, in whole records.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How it ends.
    #[must_use]
    pub fn end(&self) -> End {
        self.end
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File(path) => path.fmt(f),
        }
    }
}
