//! Every metric's name, kind, unit and help, for whoever shows them.

use ::metrics::{Key, KeyName, Label, Recorder, SharedString, Unit};

/// What is said of one metric, whatever its labels.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) unit: Unit,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Family {
    /// The metric's key, with the label `manager` first and then `more`.
    pub(super) fn key(&self, manager: &SharedString, more: &[(&'static str, &str)]) -> Key {
        let mut labels = vec![Label::new("manager", manager.clone())];
        labels.extend(more.iter().map(|(name, value)| Label::new(*name, value.to_string())));
        // Recorders keep keys: like this, they need not copy it each time.
        Key::from_parts(KeyName::from_const_str(self.name), labels).to_retained()
    }
}

/// Tells `recorder` what the metrics mean.
pub(super) fn describe(recorder: &dyn Recorder) {
    for family in ALL {
        let name = KeyName::from_const_str(family.name);
        let help = SharedString::const_str(family.help);
        match family.kind {
            Kind::Counter => recorder.describe_counter(name, Some(family.unit), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(family.unit), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(family.unit), help),
        }
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal in $unit:ident: $help:literal;)*) => {
        $(pub(super) static $id: Family = Family {
            help: $help,
            kind: Kind::$kind,
            name: concat!("ws_manager_", $name),
            unit: Unit::$unit,
        };)*

        /// Every metric there is, in the order in which they are shown.
        pub(super) static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    ACTIVE_CONNECTIONS = Gauge "active_connections" in Count: "Sockets open now.";
    ACTIVE_CONNECTIONS_HWM = Gauge "active_connections_hwm" in Count: "Most sockets that were open at once.";
    RETRIES = Counter "retry_count_total" in Count: "Retries scheduled.";
    STREAM_CREATIONS = Counter "stream_creations_total" in Count: "Streams opened.";
    STREAM_CLEANUPS = Counter "stream_cleanups_total" in Count: "Streams closed, by reason.";
    STREAMS = Gauge "streams" in Count: "Streams wanted now, by what they are doing.";
    STREAMS_QUIET = Gauge "streams_quiet" in Count: "Open streams without a message for longer than quiet_after.";
    READERS = Gauge "readers" in Count: "Subscriptions now.";
    READER_LAG = Gauge "reader_lag_messages" in Count: "Messages that the slowest reader has yet to read.";
    LEASES = Gauge "leases" in Count: "Leases that keep a stream open now.";
    MESSAGES = Counter "messages_total" in Count: "Messages received.";
    BYTES = Counter "bytes_total" in Bytes: "Bytes of messages received.";
    SENT = Counter "sent_messages_total" in Count: "Messages of the program's own that were sent.";
    SEND_ERRORS = Counter "send_errors_total" in Count: "Messages of the program's own that were not sent, or of which nobody knows, by reason.";
    UNROUTABLE = Counter "unroutable_messages_total" in Count: "Messages received for no stream that is joined.";
    DECODE_ERRORS = Counter "decode_errors_total" in Count: "Messages that could not be read as the type subscribed to, per reader.";
    CALLBACK_PANICS = Counter "callback_panics_total" in Count: "Panics of callbacks that were contained.";
    GAPS = Counter "gaps_total" in Count: "Gaps by cause: breaks of streams, and readers that lagged.";
    LAGGED = Counter "lagged_messages_total" in Count: "Messages that readers missed because they lagged, summed over all readers.";
    DISCONNECTS = Counter "disconnects_total" in Count: "Sockets lost, by reason.";
    EXHAUSTED = Counter "exhausted_dials_total" in Count: "Dials that failed since the process had no file descriptor or port left.";
    HANDOVERS = Counter "handovers_total" in Count: "Sockets whose streams began to go over to another one, by reason.";
    HANDSHAKE = Histogram "handshake_seconds" in Seconds: "Time to open a socket: DNS, TCP, TLS and upgrade.";
    RECONNECT = Histogram "reconnect_seconds" in Seconds: "Time from the last frame of a lost socket to the join on the next, per stream.";
    STREAM_MESSAGES = Counter "stream_messages_total" in Count: "Messages received, by stream.";
    STREAM_BYTES = Counter "stream_bytes_total" in Bytes: "Bytes of messages received, by stream.";
    STREAM_GAPS = Counter "stream_gaps_total" in Count: "Gaps, by stream.";
    STREAM_LAGGED = Counter "stream_lagged_messages_total" in Count: "Messages that readers missed because they lagged, by stream.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for Family { help, kind, name, unit } in ALL {
            assert!(name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            let base = name.trim_end_matches("_total");
            assert_eq!(base.ends_with("_bytes"), *unit == Unit::Bytes, "{name}");
            assert_eq!(base.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
            assert!(help.ends_with('.') && !help.contains(['"', '\\', '\n']), "{name}: {help}");
        }
    }
}
