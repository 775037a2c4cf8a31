//! What was counted, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DurationHistogram;

/// What a [`WsManager`](crate::WsManager) has counted since it was built, and what is now.
///
/// Each figure is as of one moment, all of them together are not.
///
/// ```
/// use std::time::Duration;
/// use wsmux::ManagerMetrics;
///
/// fn report(earlier: &ManagerMetrics, later: &ManagerMetrics) {
///     let new = later.since(earlier);
///     println!("{:.1} messages/s, {} gaps", new.per_second(new.messages), new.gaps);
/// }
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ManagerMetrics {
    /// Sockets open now.
    pub active_connections: u64,
    /// Most sockets that were open at once.
    pub active_connections_hwm: u64,
    /// Bytes of messages received.
    pub bytes: u64,
    /// Panics of [callbacks](crate::WsManager::subscribe_with) that were contained.
    pub callback_panics: u64,
    /// Messages that could not be read as the type subscribed to, per reader.
    pub decode_errors: u64,
    /// Sockets lost.
    pub disconnects: u64,
    /// Sockets lost, by [`DisconnectReason::label`](crate::DisconnectReason::label). Reasons that
    /// did not occur are left out.
    pub disconnects_by_reason: BTreeMap<&'static str, u64>,
    /// Dials that failed since the process had no file descriptor or port left. They are no retries.
    pub exhausted: u64,
    /// Breaks of streams, each counted once whatever its readers.
    pub gaps: u64,
    /// Gaps by [`Gap::label`](crate::Gap::label): breaks of streams, and how often a reader lagged.
    /// Causes that did not occur are left out.
    pub gaps_by_cause: BTreeMap<&'static str, u64>,
    /// Sockets whose streams began to go over to another one. Those that were lost are
    /// [`disconnects`](Self::disconnects).
    pub handovers: u64,
    /// The same by [`HandoverReason::label`](crate::HandoverReason::label). Reasons that did not occur are
    /// left out.
    pub handovers_by_reason: BTreeMap<&'static str, u64>,
    /// How long it took to open a socket: DNS, TCP, TLS and upgrade.
    pub handshakes: DurationHistogram,
    /// Messages that the slowest reader has yet to read: the largest
    /// [`StreamInfo::lag`](crate::StreamInfo::lag).
    pub lag: u64,
    /// Messages missed by readers that lagged, summed over all of them.
    pub lagged: u64,
    /// Leases now.
    pub leases: u64,
    /// Messages received.
    pub messages: u64,
    /// Counts by stream name, and those of all other names as `other`. Empty without
    /// [`metrics_per_stream`](crate::WsManagerBuilder::metrics_per_stream).
    pub per_stream: BTreeMap<String, StreamCounts>,
    /// Streams that are [quiet](crate::StreamInfo::quiet) now.
    pub quiet_streams: u64,
    /// Subscriptions now.
    pub readers: u64,
    /// Time from the last frame of a lost socket to the join on the next, per stream.
    pub reconnects: DurationHistogram,
    /// Retries scheduled.
    pub retries: u64,
    /// Messages of the program's own that were not [sent](crate::WsManager::send), or of which nobody
    /// knows.
    pub send_errors: u64,
    /// The same by [`SendError::label`](crate::SendError::label). Reasons that did not occur are left
    /// out.
    pub send_errors_by_reason: BTreeMap<&'static str, u64>,
    /// Messages of the program's own that were [sent](crate::WsManager::send).
    pub sent: u64,
    /// Streams closed.
    pub stream_cleanups: u64,
    /// Streams closed, by [`CloseReason::label`](crate::CloseReason::label). Reasons that did not
    /// occur are left out.
    pub stream_cleanups_by_reason: BTreeMap<&'static str, u64>,
    /// Streams opened.
    pub stream_creations: u64,
    /// Streams wanted now, by what they are doing.
    pub streams: StreamStates,
    /// Messages for nobody: of no stream known, or of one not joined.
    pub unroutable: u64,
    /// Time since the manager was built; of what [`since`](Self::since) returns, the time between.
    pub uptime: Duration,
}

/// How many streams are in each state. Those that linger are wanted too.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamStates {
    /// Waiting before a retry: they have lost their socket, or cannot get one.
    pub backing_off: u64,
    /// Dialling, or about to.
    pub connecting: u64,
    /// The socket is open, and the server has yet to confirm the stream.
    pub joining: u64,
    /// Messages come in.
    pub open: u64,
    /// Waiting to be allowed to dial, mostly for a turn at the host.
    pub waiting: u64,
}

/// What was counted for one stream name since the manager was built, over all streams of that name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamCounts {
    /// Bytes of messages received.
    pub bytes: u64,
    /// Gaps, of any cause.
    pub gaps: u64,
    /// Messages missed by readers that lagged.
    pub lagged: u64,
    /// Messages received.
    pub messages: u64,
}

impl ManagerMetrics {
    /// What was counted between `earlier` and this: counts and histograms are the difference, and
    /// what is now stays as it is. Nothing falls below zero, so the order does not matter much.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut new = self.clone();
        for (count, before) in new.counts_mut().into_iter().zip(earlier.clone().counts_mut()) {
            *count = count.saturating_sub(*before);
        }
        for (counts, before) in new.breakdowns_mut().into_iter().zip(earlier.breakdowns()) {
            for (label, count) in counts.iter_mut() {
                *count = count.saturating_sub(before.get(label).copied().unwrap_or(0));
            }
            counts.retain(|_, count| *count > 0);
        }
        for (name, counts) in &mut new.per_stream {
            let before = earlier.per_stream.get(name).copied().unwrap_or_default();
            *counts = counts.since(before);
        }
        new.handshakes = self.handshakes.since(&earlier.handshakes);
        new.reconnects = self.reconnects.since(&earlier.reconnects);
        new.uptime = self.uptime.saturating_sub(earlier.uptime);
        new
    }

    /// `count` per second of [`uptime`](Self::uptime): of what [`since`](Self::since) returns, the
    /// rate in between. Zero where no time has passed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 of anything are enough")]
    pub fn per_second(&self, count: u64) -> f64 {
        if self.uptime.is_zero() { 0.0 } else { count as f64 / self.uptime.as_secs_f64() }
    }

    /// What only grows.
    fn counts_mut(&mut self) -> [&mut u64; 15] {
        [
            &mut self.bytes,
            &mut self.callback_panics,
            &mut self.decode_errors,
            &mut self.disconnects,
            &mut self.exhausted,
            &mut self.gaps,
            &mut self.handovers,
            &mut self.lagged,
            &mut self.messages,
            &mut self.retries,
            &mut self.send_errors,
            &mut self.sent,
            &mut self.stream_cleanups,
            &mut self.stream_creations,
            &mut self.unroutable,
        ]
    }

    fn breakdowns(&self) -> [&BTreeMap<&'static str, u64>; 5] {
        [
            &self.disconnects_by_reason,
            &self.gaps_by_cause,
            &self.handovers_by_reason,
            &self.send_errors_by_reason,
            &self.stream_cleanups_by_reason,
        ]
    }

    fn breakdowns_mut(&mut self) -> [&mut BTreeMap<&'static str, u64>; 5] {
        [
            &mut self.disconnects_by_reason,
            &mut self.gaps_by_cause,
            &mut self.handovers_by_reason,
            &mut self.send_errors_by_reason,
            &mut self.stream_cleanups_by_reason,
        ]
    }
}

impl StreamCounts {
    fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(earlier.bytes),
            gaps: self.gaps.saturating_sub(earlier.gaps),
            lagged: self.lagged.saturating_sub(earlier.lagged),
            messages: self.messages.saturating_sub(earlier.messages),
        }
    }
}

/// Adding up, for managers that are shown as one.
#[cfg(feature = "prometheus")]
mod sum {
    use super::{ManagerMetrics, StreamCounts, StreamStates};

    impl ManagerMetrics {
        /// Adds what another manager has counted. Of the largest, the larger.
        pub(in crate::observe::metrics) fn add(&mut self, other: &Self) {
            let mut other = other.clone();
            for (own, more) in self.counts_mut().into_iter().zip(other.counts_mut()) {
                *own += *more;
            }
            for (own, more) in self.gauges_mut().into_iter().zip(other.gauges_mut()) {
                *own += *more;
            }
            for (own, more) in self.breakdowns_mut().into_iter().zip(other.breakdowns()) {
                more.iter().for_each(|(label, n)| *own.entry(*label).or_default() += *n);
            }
            for (name, more) in &other.per_stream {
                self.per_stream.entry(name.clone()).or_default().add(*more);
            }
            let hwm = self.active_connections_hwm.max(other.active_connections_hwm);
            self.active_connections_hwm = hwm.max(self.active_connections);
            self.handshakes.add(&other.handshakes);
            self.lag = self.lag.max(other.lag);
            self.reconnects.add(&other.reconnects);
        }

        /// What is now.
        fn gauges_mut(&mut self) -> [&mut u64; 9] {
            let StreamStates { backing_off, connecting, joining, open, waiting } =
                &mut self.streams;
            [
                &mut self.active_connections,
                &mut self.leases,
                &mut self.quiet_streams,
                &mut self.readers,
                backing_off,
                connecting,
                joining,
                open,
                waiting,
            ]
        }
    }

    impl StreamCounts {
        fn add(&mut self, other: Self) {
            self.bytes += other.bytes;
            self.gaps += other.gaps;
            self.lagged += other.lagged;
            self.messages += other.messages;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u64) -> ManagerMetrics {
        let counts = StreamCounts { bytes: n, gaps: n, lagged: n, messages: n };
        ManagerMetrics {
            disconnects_by_reason: [("ended", n), ("io", 1)].into(),
            messages: n,
            per_stream: [("x".to_owned(), counts)].into(),
            readers: n,
            uptime: Duration::from_secs(n),
            ..ManagerMetrics::default()
        }
    }

    #[test]
    fn since_is_what_was_counted_in_between_and_what_is_now() {
        let new = sample(30).since(&sample(10));
        assert_eq!((new.messages, new.readers, new.uptime), (20, 30, Duration::from_secs(20)));
        assert_eq!(new.disconnects_by_reason, [("ended", 20)].into(), "io was there before");
        assert_eq!(new.per_stream["x"].messages, 20);
        assert!((new.per_second(new.messages) - 1.0).abs() < 1e-9);
        assert_eq!(sample(30).since(&ManagerMetrics::default()).messages, 30);
    }

    #[test]
    fn the_wrong_order_and_no_time_at_all_are_zero() {
        let new = sample(10).since(&sample(30));
        assert_eq!((new.messages, new.uptime), (0, Duration::ZERO));
        assert!(new.disconnects_by_reason.is_empty());
        assert!(new.per_second(7).abs() < 1e-9);
    }

    #[cfg(feature = "prometheus")]
    #[test]
    fn adding_up_adds_and_keeps_the_largest() {
        let mut sum = sample(3);
        sum.active_connections = 2;
        sum.active_connections_hwm = 2;
        sum.lag = 9;
        let mut other = sample(4);
        other.active_connections = 1;
        other.active_connections_hwm = 1;
        other.lag = 5;
        sum.add(&other);
        assert_eq!((sum.messages, sum.readers, sum.per_stream["x"].bytes), (7, 7, 7));
        assert_eq!((sum.active_connections, sum.active_connections_hwm, sum.lag), (3, 3, 9));
        assert_eq!(sum.disconnects_by_reason, [("ended", 7), ("io", 2)].into());
    }
}
