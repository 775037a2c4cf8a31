//! Counts by stream name, for those who ask for them: bounded, whatever names come.
//!
//! The first names that come have a series each, for as long as the manager lives: a recorder never
//! forgets a series, so a place that was given to another name would cost a new one each time. All
//! other names share the series `other`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use ::metrics::{Recorder, SharedString};

use super::StreamCounts;
use super::cell::Counter;
use super::families;
use crate::error::Gap;
use crate::name::StreamName;

/// The longest name that has a series of its own, in bytes.
const MAX_LEN: usize = 128;

const OTHER: &str = "other";

/// The series of one name, or of all names that have none.
#[derive(Debug)]
pub(crate) struct Series {
    bytes: Counter,
    gaps: Counter,
    lagged: Counter,
    messages: Counter,
}

impl Series {
    fn new(manager: &SharedString, stream: &str) -> Self {
        let counter = |family| Counter::labelled(family, manager, &[("stream", stream)]);
        Self {
            bytes: counter(&families::STREAM_BYTES),
            gaps: counter(&families::STREAM_GAPS),
            lagged: counter(&families::STREAM_LAGGED),
            messages: counter(&families::STREAM_MESSAGES),
        }
    }

    pub(super) fn received(&self, messages: u64, bytes: u64, recorder: &dyn Recorder) {
        self.messages.add(messages, recorder);
        self.bytes.add(bytes, recorder);
    }

    pub(super) fn gap(&self, gap: &Gap, recorder: &dyn Recorder) {
        self.gaps.add(1, recorder);
        if let Gap::Lagged { missed } = gap {
            self.lagged.add(*missed, recorder);
        }
    }

    fn get(&self) -> StreamCounts {
        StreamCounts {
            bytes: self.bytes.get(),
            gaps: self.gaps.get(),
            lagged: self.lagged.get(),
            messages: self.messages.get(),
        }
    }
}

#[derive(Debug)]
pub(super) struct PerStream {
    manager: SharedString,
    max: usize,
    other: Arc<Series>,
    own: Mutex<HashMap<StreamName, Arc<Series>>>,
}

impl PerStream {
    pub(super) fn new(manager: &SharedString, max: usize) -> Self {
        let other = Arc::new(Series::new(manager, OTHER));
        Self { manager: manager.clone(), max, other, own: Mutex::default() }
    }

    /// The series that `name` is counted in.
    pub(super) fn series(&self, name: &StreamName) -> Arc<Series> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = own.get(name) {
            return Arc::clone(series);
        }
        let text = name.as_str();
        if own.len() >= self.max || text.len() > MAX_LEN || text == OTHER {
            return Arc::clone(&self.other);
        }
        let series = Arc::new(Series::new(&self.manager, text));
        own.insert(name.clone(), Arc::clone(&series));
        series
    }

    pub(super) fn get(&self) -> BTreeMap<String, StreamCounts> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: BTreeMap<_, _> =
            own.iter().map(|(name, series)| (name.to_string(), series.get())).collect();
        drop(own);
        counts.insert(OTHER.to_owned(), self.other.get());
        counts
    }
}

#[cfg(test)]
mod tests {
    use ::metrics::NoopRecorder;

    use super::*;

    #[test]
    fn the_first_names_have_a_series_each_and_keep_it_and_all_others_share_one() {
        let streams = PerStream::new(&SharedString::const_str("x"), 2);
        let long = "x".repeat(MAX_LEN + 1);
        for name in ["other", &long, "a", "b", "c", "d", "a"] {
            let name = StreamName::try_from(name).unwrap();
            streams.series(&name).received(1, 10, &NoopRecorder);
        }
        let counts = streams.get();
        let messages: Vec<_> = counts.iter().map(|(name, n)| (&**name, n.messages)).collect();
        assert_eq!(messages, [("a", 2), ("b", 1), ("other", 4)]);
    }

    #[test]
    fn with_no_place_at_all_everything_is_other() {
        let streams = PerStream::new(&SharedString::const_str("x"), 0);
        let name = StreamName::try_from("a").unwrap();
        streams.series(&name).gap(&Gap::Lagged { missed: 7 }, &NoopRecorder);
        let counts = streams.get();
        assert_eq!((counts.len(), counts["other"].gaps, counts["other"].lagged), (1, 1, 7));
    }
}
