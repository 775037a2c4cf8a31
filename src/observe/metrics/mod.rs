//! Every count of this crate, named and kept in one place.
//!
//! A count is kept by its manager, where [`ManagerMetrics`] and the Prometheus text read it, and is
//! told to the `metrics` facade in the same step, for whatever recorder the program has installed.
//!
//! # Invariants
//!
//! 1. On the path of a message this happens once per batch, and allocates nothing.
//! 2. A recorder that is installed late learns what the metrics mean, and what the gauges are, with
//!    the first count that it is told. Counters begin at what comes then.
//! 3. The values of labels come out of closed sets, but for the manager's own label, which the
//!    program chooses, and the names of streams, which it has to ask for and which are bounded.
//! 4. No recorder is called under a lock: it may be anybody's code.

mod cell;
mod families;
mod histogram;
mod level;
mod per_stream;
#[cfg(feature = "prometheus")]
mod prometheus;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Recorder, SharedString};
use tokio::time::Instant;

use self::cell::{Counter, Counters, Histogram};
use self::level::{Level, Levels};
use self::per_stream::PerStream;
use super::activity::Recent;
use super::{HandoverReason, Status};
use crate::config::Label;
use crate::error::{CloseReason, Gap, SendError};
use crate::name::StreamName;
use crate::protocol::DisconnectReason;

pub use histogram::DurationHistogram;
pub(crate) use per_stream::Series;
#[cfg(feature = "prometheus")]
pub(crate) use prometheus::render;
pub use snapshot::{ManagerMetrics, StreamCounts, StreamStates};

/// The running counts behind [`ManagerMetrics`].
#[derive(Debug)]
pub(crate) struct Metrics {
    built_at: Instant,
    bytes: Counter,
    callback_panics: Counter,
    decode_errors: Counter,
    disconnects: Counters,
    exhausted: Counter,
    gaps: Counters,
    handovers: Counters,
    handshakes: Histogram,
    label: Label,
    lagged: Counter,
    levels: Levels,
    messages: Counter,
    per_stream: Option<PerStream>,
    /// The same by time, where [`Health`](crate::Health) asks for it.
    pub(crate) recent: Recent,
    reconnects: Histogram,
    retries: Counter,
    send_errors: Counters,
    sent: Counter,
    stream_cleanups: Counters,
    stream_creations: Counter,
    unroutable: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Label::default(), None)
    }
}

impl Metrics {
    /// The counts of the manager of this label; by stream for so many names, if at all.
    pub(crate) fn new(label: Label, per_stream: Option<usize>) -> Self {
        let manager = SharedString::from_shared(label.to_shared());
        let counter = |family| Counter::new(family, &manager);
        let counters = |family, name, labels| Counters::new(family, &manager, name, labels);
        Self {
            built_at: Instant::now(),
            bytes: counter(&families::BYTES),
            callback_panics: counter(&families::CALLBACK_PANICS),
            decode_errors: counter(&families::DECODE_ERRORS),
            disconnects: counters(&families::DISCONNECTS, "reason", DisconnectReason::LABELS),
            exhausted: counter(&families::EXHAUSTED),
            gaps: counters(&families::GAPS, "cause", Gap::LABELS),
            handovers: counters(&families::HANDOVERS, "reason", HandoverReason::LABELS),
            handshakes: Histogram::new(&families::HANDSHAKE, &manager),
            lagged: counter(&families::LAGGED),
            levels: Levels::new(&manager),
            messages: counter(&families::MESSAGES),
            per_stream: per_stream.map(|max| PerStream::new(&manager, max)),
            recent: Recent::default(),
            reconnects: Histogram::new(&families::RECONNECT, &manager),
            retries: counter(&families::RETRIES),
            send_errors: counters(&families::SEND_ERRORS, "reason", SendError::LABELS),
            sent: counter(&families::SENT),
            stream_cleanups: counters(&families::STREAM_CLEANUPS, "reason", CloseReason::LABELS),
            stream_creations: counter(&families::STREAM_CREATIONS),
            unroutable: counter(&families::UNROUTABLE),
            label,
        }
    }

    pub(crate) fn label(&self) -> &str {
        self.label.as_str()
    }

    /// Where stream `name` is counted by itself, if it is to be.
    pub(crate) fn series(&self, name: &StreamName) -> Option<Arc<Series>> {
        self.per_stream.as_ref().map(|streams| streams.series(name))
    }

    pub(crate) fn snapshot(&self) -> ManagerMetrics {
        let disconnects_by_reason = self.disconnects.get();
        let gaps_by_cause = self.gaps.get();
        let handovers_by_reason = self.handovers.get();
        let send_errors_by_reason = self.send_errors.get();
        let stream_cleanups_by_reason = self.stream_cleanups.get();
        let level = |level| self.levels.get(level);
        ManagerMetrics {
            active_connections: level(Level::Active),
            active_connections_hwm: self.levels.hwm(),
            bytes: self.bytes.get(),
            callback_panics: self.callback_panics.get(),
            decode_errors: self.decode_errors.get(),
            disconnects: disconnects_by_reason.values().sum(),
            disconnects_by_reason,
            exhausted: self.exhausted.get(),
            gaps: gaps_by_cause.iter().filter(|(c, _)| **c != "lagged").map(|(_, n)| n).sum(),
            gaps_by_cause,
            handovers: handovers_by_reason.values().sum(),
            handovers_by_reason,
            handshakes: self.handshakes.get(),
            lag: level(Level::Lag),
            lagged: self.lagged.get(),
            leases: level(Level::Leases),
            messages: self.messages.get(),
            per_stream: self.per_stream.as_ref().map(PerStream::get).unwrap_or_default(),
            quiet_streams: level(Level::Quiet),
            readers: level(Level::Readers),
            reconnects: self.reconnects.get(),
            retries: self.retries.get(),
            send_errors: send_errors_by_reason.values().sum(),
            send_errors_by_reason,
            sent: self.sent.get(),
            stream_cleanups: stream_cleanups_by_reason.values().sum(),
            stream_cleanups_by_reason,
            stream_creations: self.stream_creations.get(),
            streams: StreamStates {
                backing_off: level(Level::BackingOff),
                connecting: level(Level::Connecting),
                joining: level(Level::Joining),
                open: level(Level::Open),
                waiting: level(Level::Waiting),
            },
            unroutable: self.unroutable.get(),
            uptime: self.built_at.elapsed(),
        }
    }

    /// Tells the recorder of this moment something, and first of all what the metrics are.
    fn tell(&self, tell: impl FnOnce(&dyn Recorder)) {
        ::metrics::with_recorder(|recorder| {
            if self.levels.is_new_to(recorder) {
                families::describe(recorder);
                self.levels.tell_all(recorder);
            }
            tell(recorder);
        });
    }
}

/// What is counted.
impl Metrics {
    pub(crate) fn connected(&self, handshake: Duration) {
        self.tell(|to| {
            self.levels.change(Level::Active, 1, to);
            self.handshakes.record(handshake, to);
        });
    }

    /// A socket that was [`connected`](Self::connected) is closed, by whom ever.
    pub(crate) fn disconnected(&self) {
        self.tell(|to| self.levels.change(Level::Active, -1, to));
    }

    /// A socket was lost.
    pub(crate) fn lost(&self, reason: &DisconnectReason) {
        self.recent.disconnects.add(1, Instant::now());
        self.tell(|to| self.disconnects.add(reason.label(), 1, to));
    }

    /// The streams of a socket begin to go over to another.
    pub(crate) fn hands_over(&self, reason: HandoverReason) {
        self.tell(|to| self.handovers.add(reason.label(), 1, to));
    }

    /// A dial failed since the process had run out of something.
    pub(crate) fn exhausted(&self) {
        self.recent.exhausted.add(1, Instant::now());
        self.tell(|to| self.exhausted.add(1, to));
    }

    pub(crate) fn retrying(&self) {
        self.recent.retries.add(1, Instant::now());
        self.tell(|to| self.retries.add(1, to));
    }

    pub(crate) fn reconnected(&self, down_for: Duration) {
        self.tell(|to| self.reconnects.record(down_for, to));
    }

    pub(crate) fn received(&self, messages: u64, bytes: u64, series: Option<&Series>) {
        self.tell(|to| {
            self.messages.add(messages, to);
            self.bytes.add(bytes, to);
            if let Some(series) = series {
                series.received(messages, bytes, to);
            }
        });
    }

    /// A message of the program's own was sent, or not.
    pub(crate) fn sent(&self, outcome: &Result<(), SendError>) {
        self.tell(|to| match outcome {
            Ok(()) => self.sent.add(1, to),
            Err(e) => self.send_errors.add(e.label(), 1, to),
        });
    }

    pub(crate) fn unroutable(&self, messages: u64) {
        self.recent.unroutable.add(messages, Instant::now());
        self.tell(|to| self.unroutable.add(messages, to));
    }

    pub(crate) fn gap(&self, gap: &Gap, series: Option<&Series>) {
        if let Gap::Lagged { missed } = gap {
            self.recent.lagged.add(*missed, Instant::now());
        }
        self.tell(|to| {
            self.gaps.add(gap.label(), 1, to);
            if let Gap::Lagged { missed } = gap {
                self.lagged.add(*missed, to);
            }
            if let Some(series) = series {
                series.gap(gap, to);
            }
        });
    }

    pub(crate) fn callback_panicked(&self) {
        self.tell(|to| self.callback_panics.add(1, to));
    }

    pub(crate) fn decode_error(&self) {
        self.recent.decode_errors.add(1, Instant::now());
        self.tell(|to| self.decode_errors.add(1, to));
    }

    /// A stream has come into being, under a lock: nobody is told before it is
    /// [`opened`](Self::stream_opened).
    pub(crate) fn stream_began(&self, status: &Status) {
        level_of(status).into_iter().for_each(|level| self.levels.shift(level, 1));
    }

    pub(crate) fn stream_opened(&self) {
        self.tell(|to| {
            self.stream_creations.add(1, to);
            self.levels.tell(Level::Connecting, to);
        });
    }

    /// A stream has gone from one status to another.
    pub(crate) fn stream_moved(&self, from: &Status, to: &Status) {
        let (from, to) = (level_of(from), level_of(to));
        if from == to {
            return;
        }
        self.tell(|recorder| {
            from.into_iter().for_each(|level| self.levels.change(level, -1, recorder));
            to.into_iter().for_each(|level| self.levels.change(level, 1, recorder));
        });
    }

    pub(crate) fn stream_closed(&self, reason: &CloseReason) {
        self.tell(|to| self.stream_cleanups.add(reason.label(), 1, to));
    }

    pub(crate) fn reader_joined(&self) {
        self.tell(|to| self.levels.change(Level::Readers, 1, to));
    }

    pub(crate) fn reader_left(&self) {
        self.tell(|to| self.levels.change(Level::Readers, -1, to));
    }

    pub(crate) fn lease_taken(&self) {
        self.tell(|to| self.levels.change(Level::Leases, 1, to));
    }

    pub(crate) fn lease_left(&self) {
        self.tell(|to| self.levels.change(Level::Leases, -1, to));
    }

    /// What can only be seen by looking at each stream, as of now.
    pub(crate) fn looked(&self, quiet_streams: u64, lag: u64) {
        self.tell(|to| {
            self.levels.set(Level::Quiet, quiet_streams, to);
            self.levels.set(Level::Lag, lag, to);
        });
    }
}

/// The gauge that a stream of this status is counted in.
fn level_of(status: &Status) -> Option<Level> {
    match status {
        Status::BackingOff { .. } => Some(Level::BackingOff),
        Status::Closed(_) => None,
        Status::Connecting { .. } => Some(Level::Connecting),
        Status::Joining => Some(Level::Joining),
        Status::Open => Some(Level::Open),
        Status::Waiting { .. } => Some(Level::Waiting),
    }
}

impl Drop for Metrics {
    /// What was seen of the streams last holds no more.
    fn drop(&mut self) {
        self.looked(0, 0);
    }
}

/// A stream of a [`Switch`](crate::compat::Switch) was to go `to` a side. It is counted for the
/// recorder alone, since no manager is concerned more than another.
pub(crate) fn switch_counted(to: &'static str, outcome: &'static str) {
    let name = "ws_manager_switched_streams_total";
    ::metrics::counter!(name, "to" => to, "outcome" => outcome).increment(1);
}
