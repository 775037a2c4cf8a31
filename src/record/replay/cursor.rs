//! A place in a recording.

use std::io::Read;
use std::time::Duration;

use crate::record::reading::ReadError;
use crate::record::recording::Recording;
use crate::record::records::{Record, Records};

pub(super) struct Cursor {
    /// The time that has come: a record that was written late comes no earlier.
    at: Duration,
    next: Option<Record>,
    /// Records before it.
    pub(super) passed: u64,
    records: Records<Box<dyn Read + Send>>,
}

impl Cursor {
    /// The place behind so many records.
    pub(super) fn open(recording: &Recording, passed: u64) -> Result<Self, ReadError> {
        let records = recording.records()?;
        let mut this = Self { at: Duration::ZERO, next: None, passed: 0, records };
        while this.passed < passed && this.peek()?.is_some() {
            this.pass();
        }
        Ok(this)
    }

    /// The next record and its time; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<(Duration, &Record)>, ReadError> {
        if self.next.is_none() {
            self.next = match self.records.next().transpose() {
                Err(ReadError::Torn { .. }) => None,
                other => other?,
            };
            self.at = self.at.max(self.next.as_ref().map_or(Duration::ZERO, |next| next.at));
        }
        Ok(self.next.as_ref().map(|next| (self.at, next)))
    }

    /// Steps over the record that was seen.
    pub(super) fn pass(&mut self) -> Option<Record> {
        self.passed += 1;
        self.next.take()
    }
}
