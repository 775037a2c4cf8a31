//! What goes up and down: the gauges of a manager, and of all managers of one label.
//!
//! A recorder is told a gauge's value, not its changes, so that one that is installed late learns
//! what is. The value is the sum over all managers of the label that tell the same recorder, so that
//! two of one label do not overwrite each other.
//!
//! # Invariants
//!
//! 1. When nothing changes any more, what was told last is what is: who tells a value looks again
//!    afterwards, and tells again if it has changed meanwhile.
//! 2. No recorder is told anything under a lock.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use ::metrics::{Key, Recorder, SharedString};

use super::cell::METADATA;
use super::families::{self, Family};

/// A gauge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Level {
    Active,
    BackingOff,
    Connecting,
    Joining,
    Lag,
    Leases,
    Open,
    Quiet,
    Readers,
    Waiting,
}

impl Level {
    const ALL: [Self; 10] = [
        Self::Active,
        Self::BackingOff,
        Self::Connecting,
        Self::Joining,
        Self::Lag,
        Self::Leases,
        Self::Open,
        Self::Quiet,
        Self::Readers,
        Self::Waiting,
    ];

    /// Its metric, and its value of the label `status` if it has one.
    fn family(self) -> (&'static Family, Option<&'static str>) {
        match self {
            Self::Active => (&families::ACTIVE_CONNECTIONS, None),
            Self::BackingOff => (&families::STREAMS, Some("backing_off")),
            Self::Connecting => (&families::STREAMS, Some("connecting")),
            Self::Joining => (&families::STREAMS, Some("joining")),
            Self::Lag => (&families::READER_LAG, None),
            Self::Leases => (&families::LEASES, None),
            Self::Open => (&families::STREAMS, Some("open")),
            Self::Quiet => (&families::STREAMS_QUIET, None),
            Self::Readers => (&families::READERS, None),
            Self::Waiting => (&families::STREAMS, Some("waiting")),
        }
    }
}

/// The values of one manager.
#[derive(Debug, Default)]
struct Values {
    /// Most sockets that were open at once, when this one changed their number, over all managers
    /// that are shown as one with it.
    group_hwm: AtomicU64,
    /// Below zero only while what belongs together is half done.
    levels: [AtomicI64; Level::ALL.len()],
    /// The address of the recorder that was told last. It decides only whether to introduce
    /// ourselves, and with whom to be added up.
    recorder: AtomicUsize,
}

impl Values {
    fn get(&self, level: Level) -> u64 {
        self.levels[level as usize].load(SeqCst).try_into().unwrap_or(0)
    }
}

/// The managers of one label.
#[derive(Debug, Default)]
struct Group {
    /// How many there were when the last one came: who is alone needs no lock to add itself up.
    came: AtomicUsize,
    members: Mutex<Vec<Weak<Values>>>,
}

static GROUPS: LazyLock<Mutex<HashMap<String, Weak<Group>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    /// The group of `label`, with `values` in it.
    fn join(label: &str, values: &Arc<Values>) -> Arc<Self> {
        let mut groups = lock(&GROUPS);
        groups.retain(|_, group| group.strong_count() > 0);
        let group = groups.get(label).and_then(Weak::upgrade).unwrap_or_default();
        groups.insert(label.to_owned(), Arc::downgrade(&group));
        let mut members = lock(&group.members);
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(values));
        group.came.store(members.len(), SeqCst);
        drop(members);
        group
    }

    /// What `read` finds in each of the managers that tell the same recorder as `own`.
    fn fold(&self, own: &Values, read: impl Fn(&Values) -> u64, fold: fn(u64, u64) -> u64) -> u64 {
        if self.came.load(SeqCst) == 1 {
            return read(own);
        }
        let recorder = own.recorder.load(Relaxed);
        let members = lock(&self.members);
        let members = members.iter().filter_map(Weak::upgrade);
        let alike = members.filter(|values| values.recorder.load(Relaxed) == recorder);
        alike.map(|values| read(&values)).fold(0, fold)
    }

    /// A gauge over all of them: the sum, and of lags the largest.
    fn total(&self, own: &Values, level: Level) -> u64 {
        let fold = if level == Level::Lag { Ord::max } else { u64::saturating_add };
        self.fold(own, |values| values.get(level), fold)
    }

    fn hwm(&self, own: &Values) -> u64 {
        self.fold(own, |values| values.group_hwm.load(SeqCst), Ord::max)
    }
}

/// The gauges of one manager.
#[derive(Debug)]
pub(super) struct Levels {
    group: Arc<Group>,
    hwm: AtomicU64,
    hwm_key: Key,
    keys: Vec<Key>,
    values: Arc<Values>,
}

impl Levels {
    pub(super) fn new(manager: &SharedString) -> Self {
        let values = Arc::default();
        let key = |level: Level| {
            let (family, status) = level.family();
            let status = status.map(|status| ("status", status));
            family.key(manager, status.as_slice())
        };
        Self {
            group: Group::join(manager, &values),
            hwm: AtomicU64::new(0),
            hwm_key: families::ACTIVE_CONNECTIONS_HWM.key(manager, &[]),
            keys: Level::ALL.into_iter().map(key).collect(),
            values,
        }
    }

    pub(super) fn get(&self, level: Level) -> u64 {
        self.values.get(level)
    }

    pub(super) fn hwm(&self) -> u64 {
        self.hwm.load(SeqCst)
    }

    /// Whether `recorder` is another than the one that was told last.
    pub(super) fn is_new_to(&self, recorder: &dyn Recorder) -> bool {
        let address = ptr::from_ref(recorder).cast::<()>().addr();
        let known = self.values.recorder.load(Relaxed) == address;
        if !known {
            self.values.recorder.store(address, Relaxed);
        }
        !known
    }

    /// Changes a gauge, and tells nobody yet.
    pub(super) fn shift(&self, level: Level, by: i64) {
        self.values.levels[level as usize].fetch_add(by, SeqCst);
        if level == Level::Active {
            self.hwm.fetch_max(self.get(level), SeqCst);
            let total = self.group.total(&self.values, level);
            self.values.group_hwm.fetch_max(total, SeqCst);
        }
    }

    pub(super) fn change(&self, level: Level, by: i64, recorder: &dyn Recorder) {
        self.shift(level, by);
        self.tell(level, recorder);
    }

    pub(super) fn set(&self, level: Level, value: u64, recorder: &dyn Recorder) {
        self.values.levels[level as usize].store(value.try_into().unwrap_or(i64::MAX), SeqCst);
        self.tell(level, recorder);
    }

    pub(super) fn tell(&self, level: Level, recorder: &dyn Recorder) {
        tell(&self.keys[level as usize], recorder, || self.group.total(&self.values, level));
        if level == Level::Active {
            tell(&self.hwm_key, recorder, || self.group.hwm(&self.values));
        }
    }

    pub(super) fn tell_all(&self, recorder: &dyn Recorder) {
        Level::ALL.into_iter().for_each(|level| self.tell(level, recorder));
    }
}

impl Drop for Levels {
    /// A mark that others were part of stays with them: it does not fall while there is one.
    fn drop(&mut self) {
        let recorder = self.values.recorder.load(Relaxed);
        let mark = self.values.group_hwm.load(SeqCst);
        let others: Vec<_> = lock(&self.group.members).iter().filter_map(Weak::upgrade).collect();
        for other in others.iter().filter(|other| other.recorder.load(Relaxed) == recorder) {
            other.group_hwm.fetch_max(mark, SeqCst);
        }
    }
}

/// Tells a value until it is the one that holds.
fn tell(key: &Key, recorder: &dyn Recorder, now: impl Fn() -> u64) {
    let gauge = recorder.register_gauge(key, &METADATA);
    let mut told = now();
    loop {
        gauge.set(float(told));
        match now() {
            same if same == told => return,
            changed => told = changed,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 sockets are enough")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
