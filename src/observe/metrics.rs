//! Every counter of this crate, named and kept in one place.
//!
//! Each is counted twice: in the manager's own [`ManagerMetrics`], and by the `metrics` facade for
//! whatever recorder the program installed. On the path of a message both happen once per batch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::activity::Recent;
use crate::error::{CloseReason, Gap};
use crate::protocol::DisconnectReason;

/// What a [`WsManager`](crate::WsManager) has counted since it was built.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct ManagerMetrics {
    /// Sockets open now.
    pub active_connections: u64,
    /// Most sockets that were open at once.
    pub active_connections_hwm: u64,
    /// Bytes of messages received.
    pub bytes: u64,
    /// Panics of callbacks that were contained.
    pub callback_panics: u64,
    /// Messages that could not be read as the type subscribed to, per reader.
    pub decode_errors: u64,
    /// Sockets lost.
    pub disconnects: u64,
    /// Breaks of streams, each counted once whatever its readers.
    pub gaps: u64,
    /// Messages missed by readers that lagged, summed over all of them.
    pub lagged: u64,
    /// Messages received.
    pub messages: u64,
    /// Subscriptions now.
    pub readers: u64,
    /// Retries scheduled.
    pub retries: u64,
    /// Streams closed.
    pub stream_cleanups: u64,
    /// Streams opened.
    pub stream_creations: u64,
    /// Messages for nobody: of no stream known, or of one not joined.
    pub unroutable: u64,
}

macro_rules! metrics {
    ($($field:ident,)*) => {
        /// The running counts behind [`ManagerMetrics`].
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $($field: AtomicU64,)*
            /// The same by time, where [`Health`](crate::Health) asks for it.
            pub(crate) recent: Recent,
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> ManagerMetrics {
                ManagerMetrics { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

metrics! {
    active_connections,
    active_connections_hwm,
    bytes,
    callback_panics,
    decode_errors,
    disconnects,
    gaps,
    lagged,
    messages,
    readers,
    retries,
    stream_cleanups,
    stream_creations,
    unroutable,
}

fn add(count: &AtomicU64, n: u64) -> u64 {
    count.fetch_add(n, Ordering::Relaxed) + n
}

fn subtract(count: &AtomicU64, n: u64) -> u64 {
    count.fetch_sub(n, Ordering::Relaxed) - n
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 sockets are enough")]
fn float(n: u64) -> f64 {
    n as f64
}

impl Metrics {
    pub(crate) fn connected(&self, handshake: Duration) {
        let active = add(&self.active_connections, 1);
        gauge!("ws_manager_active_connections").increment(1.0);
        let hwm = self.active_connections_hwm.fetch_max(active, Ordering::Relaxed).max(active);
        gauge!("ws_manager_active_connections_hwm").set(float(hwm));
        histogram!("ws_manager_handshake_seconds").record(handshake);
    }

    /// A socket that was [`connected`](Self::connected) is closed, by whom ever.
    pub(crate) fn disconnected(&self) {
        subtract(&self.active_connections, 1);
        gauge!("ws_manager_active_connections").decrement(1.0);
    }

    /// A socket was lost.
    pub(crate) fn lost(&self, reason: &DisconnectReason) {
        add(&self.disconnects, 1);
        self.recent.disconnects.add(1, Instant::now());
        counter!("ws_manager_disconnects_total", "reason" => reason.label()).increment(1);
    }

    pub(crate) fn retrying(&self) {
        add(&self.retries, 1);
        self.recent.retries.add(1, Instant::now());
        counter!("ws_manager_retry_count_total").increment(1);
    }

    pub(crate) fn reconnected(&self, down_for: Duration) {
        histogram!("ws_manager_reconnect_seconds").record(down_for);
    }

    pub(crate) fn received(&self, messages: u64, bytes: u64) {
        add(&self.messages, messages);
        add(&self.bytes, bytes);
        counter!("ws_manager_messages_total").increment(messages);
        counter!("ws_manager_bytes_total").increment(bytes);
    }

    pub(crate) fn unroutable(&self, messages: u64) {
        add(&self.unroutable, messages);
        self.recent.unroutable.add(messages, Instant::now());
        counter!("ws_manager_unroutable_messages_total").increment(messages);
    }

    pub(crate) fn gap(&self, gap: &Gap) {
        let cause = match gap {
            Gap::Lagged { missed } => {
                add(&self.lagged, *missed);
                self.recent.lagged.add(*missed, Instant::now());
                counter!("ws_manager_lagged_messages_total").increment(*missed);
                "lagged"
            }
            Gap::Reconnected { .. } => {
                add(&self.gaps, 1);
                "reconnected"
            }
            Gap::Sequence { .. } => {
                add(&self.gaps, 1);
                "sequence"
            }
        };
        counter!("ws_manager_gaps_total", "cause" => cause).increment(1);
    }

    pub(crate) fn callback_panicked(&self) {
        add(&self.callback_panics, 1);
        counter!("ws_manager_callback_panics_total").increment(1);
    }

    pub(crate) fn decode_error(&self) {
        add(&self.decode_errors, 1);
        self.recent.decode_errors.add(1, Instant::now());
        counter!("ws_manager_decode_errors_total").increment(1);
    }

    pub(crate) fn stream_opened(&self) {
        add(&self.stream_creations, 1);
        counter!("ws_manager_stream_creations_total").increment(1);
    }

    pub(crate) fn stream_closed(&self, reason: &CloseReason) {
        add(&self.stream_cleanups, 1);
        counter!("ws_manager_stream_cleanups_total", "reason" => reason.label()).increment(1);
    }

    pub(crate) fn reader_joined(&self) {
        add(&self.readers, 1);
        gauge!("ws_manager_readers").increment(1.0);
    }

    pub(crate) fn reader_left(&self) {
        subtract(&self.readers, 1);
        gauge!("ws_manager_readers").decrement(1.0);
    }
}

/// A stream of a [`Switch`](crate::compat::Switch) was to go `to` a side.
pub(crate) fn switch_counted(to: &'static str, outcome: &'static str) {
    counter!("ws_manager_switched_streams_total", "to" => to, "outcome" => outcome).increment(1);
}
