//! A count, kept here and told to a recorder in one step.
//!
//! The key is made once. The recorder is asked for its handle each time, as the macros of `metrics`
//! do: handles that were kept would stay with the recorder of the day they were made, so that one
//! that is installed later would learn nothing of a socket that is open.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ::metrics::{Key, Level, Metadata, Recorder, SharedString};

use super::DurationHistogram;
use super::families::Family;

pub(super) static METADATA: Metadata<'static> = Metadata::new("wsmux", Level::INFO, Some("wsmux"));

/// What only grows.
#[derive(Debug)]
pub(super) struct Counter {
    count: AtomicU64,
    key: Key,
}

impl Counter {
    pub(super) fn new(family: &Family, manager: &SharedString) -> Self {
        Self::labelled(family, manager, &[])
    }

    pub(super) fn labelled(
        family: &Family,
        manager: &SharedString,
        more: &[(&'static str, &str)],
    ) -> Self {
        Self { count: AtomicU64::new(0), key: family.key(manager, more) }
    }

    pub(super) fn add(&self, n: u64, recorder: &dyn Recorder) {
        self.count.fetch_add(n, Relaxed);
        recorder.register_counter(&self.key, &METADATA).increment(n);
    }

    pub(super) fn get(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

/// Counters of one metric, one for each label out of a closed set.
#[derive(Debug)]
pub(super) struct Counters(Vec<(&'static str, Counter)>);

impl Counters {
    pub(super) fn new(
        family: &Family,
        manager: &SharedString,
        name: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        let counter =
            |label: &'static str| (label, Counter::labelled(family, manager, &[(name, label)]));
        Self(labels.iter().copied().map(counter).collect())
    }

    pub(super) fn add(&self, label: &str, n: u64, recorder: &dyn Recorder) {
        if let Some((_, counter)) = self.0.iter().find(|(own, _)| *own == label) {
            counter.add(n, recorder);
        }
    }

    /// Those that have counted anything.
    pub(super) fn get(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.iter().map(|(label, counter)| (*label, counter.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// How long something took, each time.
#[derive(Debug)]
pub(super) struct Histogram {
    /// How many fell between each bound and the one before; the last is above all bounds.
    buckets: [AtomicU64; DurationHistogram::BOUNDS.len() + 1],
    key: Key,
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(super) fn new(family: &Family, manager: &SharedString) -> Self {
        Self {
            buckets: Default::default(),
            key: family.key(manager, &[]),
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub(super) fn record(&self, took: Duration, recorder: &dyn Recorder) {
        self.buckets[DurationHistogram::bucket_of(took)].fetch_add(1, Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Relaxed);
        recorder.register_histogram(&self.key, &METADATA).record(took);
    }

    pub(super) fn get(&self) -> DurationHistogram {
        let buckets = std::array::from_fn(|i| self.buckets[i].load(Relaxed));
        DurationHistogram::new(buckets, Duration::from_nanos(self.sum_nanos.load(Relaxed)))
    }
}
