//! One thing that is wrong, with its figure, its threshold and the way out.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::HealthStatus;
use super::escape::{cut, escaped};
use crate::error::CloseReason;
use crate::name::StreamName;
use crate::observe::Status;
use crate::observe::window::float;
use crate::transport::TransportError;

/// Something that is wrong and that a person can do something about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What is behind it, where something particular is.
    pub cause: Option<Cause>,
    /// What was measured.
    pub figure: Figure,
    /// What it is about.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// The stream concerned; `None` where it is the manager as a whole.
    pub stream: Option<StreamName>,
    /// The most that would have been well.
    pub threshold: Figure,
}

/// Characters of a cause that are shown: a server's words may be many.
pub(super) const LONGEST_CAUSE: usize = 256;

impl Finding {
    /// What to do, in a sentence.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        self.kind.advice()
    }

    /// What is wrong, in a sentence without the stream's name and the advice.
    #[must_use]
    pub fn summary(&self) -> String {
        let Self { figure, threshold, .. } = self;
        let cause = || self.cause.as_ref().map(|cause| cut(&cause.to_string(), LONGEST_CAUSE));
        let because = || cause().map(|cause| format!(": {cause}")).unwrap_or_default();
        match self.kind {
            FindingKind::ShutDown => "the manager has been shut down".to_owned(),
            FindingKind::StreamEnded => format!("ended {figure} ago{}", because()),
            FindingKind::StreamDown => {
                format!("down for {figure}, above {threshold}{}", because())
            }
            FindingKind::SubscriptionsRefused => {
                format!("{figure} subscriptions refused at the connection limit in a minute")
            }
            FindingKind::Exhausted => {
                format!("{figure} dials failed in a minute for want of file descriptors or ports")
            }
            FindingKind::TooManyConnections => format!("{figure} connections, above {threshold}"),
            FindingKind::HighRetryRate => {
                format!("{figure} retries over a minute, above {threshold}")
            }
            FindingKind::FrequentReconnects => {
                format!("lost {figure} times in five minutes, above {threshold}")
            }
            FindingKind::HighLagRate => {
                format!("{figure} messages lost by lag over a minute, above {threshold}")
            }
            FindingKind::ReaderStalled => {
                format!("a reader leaves messages unread for {figure}, above {threshold}")
            }
            FindingKind::ReaderBehind => {
                format!("a reader is {figure} messages behind, above {threshold}")
            }
            FindingKind::HighDecodeErrorRate => {
                format!("{figure} of messages could not be read, above {threshold}")
            }
            FindingKind::StreamQuiet => format!("no message for {figure}, not below {threshold}"),
            FindingKind::HighLatency => {
                format!("messages arrive {figure} old, above {threshold}")
            }
            FindingKind::FailedOver => {
                format!("{figure} streams are not at their first base, above {threshold}")
            }
            FindingKind::LeaseWithoutReaders => {
                format!("leased without a reader for {figure}, above {threshold}")
            }
            FindingKind::DuplicateManagers => {
                let host = cause().unwrap_or_default();
                format!("{figure} more managers of this process have sockets to {host}")
            }
            FindingKind::UnroutableMessages => {
                format!("{figure} messages for nobody over a minute, above {threshold}")
            }
        }
    }

    /// The worst first: by severity, then by kind, then by figure.
    pub(super) fn by_urgency(&self, other: &Self) -> Ordering {
        let figures = other.figure.value().total_cmp(&self.figure.value());
        let ranks = other.severity.cmp(&self.severity).then(self.kind.cmp(&other.kind));
        ranks.then(figures).then_with(|| self.stream.cmp(&other.stream))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.severity)?;
        if let Some(stream) = &self.stream {
            write!(f, "{}: ", escaped(stream.as_str()))?;
        }
        write!(f, "{}. {}", self.summary(), self.advice())
    }
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Somebody should look at it.
    Warn,
    /// A stream that is wanted brings nothing, or the manager cannot do what it is asked to.
    Fail,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&HealthStatus::from(*self), f)
    }
}

/// What was measured: a number and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Figure {
    /// How many.
    Count(u64),
    /// How long.
    Duration(Duration),
    /// How often, per second.
    PerSecond(f64),
    /// Which part of the whole, from 0 to 1.
    Share(f64),
}

impl Figure {
    /// The bare number: a duration in seconds.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Count(n) => float(n),
            Self::Duration(duration) => duration.as_secs_f64(),
            Self::PerSecond(n) | Self::Share(n) => n,
        }
    }

    /// The unit of [`value`](Self::value); empty for a plain number.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Count(_) | Self::Share(_) => "",
            Self::Duration(_) => "s",
            Self::PerSecond(_) => "1/s",
        }
    }

    pub(super) fn exceeds(self, threshold: Self) -> bool {
        self.value() > threshold.value()
    }
}

const HOUR: f64 = 3600.0;

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => fmt::Display::fmt(n, f),
            Self::Duration(duration) => match duration.as_secs_f64() {
                0.0 => f.write_str("0 s"),
                seconds if seconds < 10.0 => write!(f, "{duration:.1?}"),
                seconds if seconds < 2.0 * HOUR => write!(f, "{seconds:.0} s"),
                seconds if seconds < 48.0 * HOUR => write!(f, "{:.1} h", seconds / HOUR),
                seconds => write!(f, "{:.1} d", seconds / (24.0 * HOUR)),
            },
            Self::PerSecond(n) => write!(f, "{n:.1}/s"),
            Self::Share(n) => write!(f, "{:.1} %", n * 100.0),
        }
    }
}

/// What is behind a [`Finding`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The stream ended so.
    Closed(CloseReason),
    /// The stream is doing this.
    Down {
        /// Why it lost its socket or could not open one; `None` if it is the first attempt.
        error: Option<Arc<TransportError>>,
        /// What it is doing.
        status: Status,
    },
    /// Host and port concerned.
    Host(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(reason) => fmt::Display::fmt(reason, f),
            Self::Down { error: Some(e), status }
                if !matches!(status, Status::BackingOff { .. }) =>
            {
                write!(f, "{status}, after: {e}")
            }
            Self::Down { status, .. } => fmt::Display::fmt(status, f),
            Self::Host(host) => f.write_str(host),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $label:literal, $advice:literal;)*) => {
        /// What a [`Finding`] is about: a closed set, in the order in which findings of one
        /// severity are listed.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum FindingKind {
            $($(#[$doc])* $kind,)*
        }

        impl FindingKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// One word out of a closed set, for labels and machines.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)*
                }
            }

            /// What to do, in a sentence.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self {
                    $(Self::$kind => $advice,)*
                }
            }
        }
    };
}

kinds! {
    /// The manager has been shut down.
    ShutDown: "shut_down",
        "Build a new manager, or stop asking this one.";
    /// A stream ended for good and was not opened again.
    StreamEnded: "stream_ended",
        "Mend what ended it and subscribe again; where retries ran out, `RetryPolicy::forever()` goes on.";
    /// A stream has been connecting, joining or waiting to reconnect for long.
    StreamDown: "stream_down",
        "Check the host, the network and the venue's status page; it is retried meanwhile.";
    /// Subscriptions were refused at the connection limit.
    SubscriptionsRefused: "subscriptions_refused",
        "Drop subscriptions and leases that nobody needs, or raise `limits.max_connections`.";
    /// Dials failed since the process had no file descriptor or port left.
    Exhausted: "exhausted",
        "Raise the limits of the process (`ulimit -n`), or open fewer sockets and files.";
    /// More connections than is usual, or nearly as many as are allowed.
    TooManyConnections: "too_many_connections",
        "Look for subscriptions that are never dropped, or put several names on one socket.";
    /// Many retries.
    HighRetryRate: "high_retry_rate",
        "See the WARN lines for what fails; the server may be refusing this many connections.";
    /// A stream is lost again and again.
    FrequentReconnects: "frequent_reconnects",
        "See why in the stream's last error: the venue may cut off clients that break its limits.";
    /// Readers lose messages because they are too slow.
    HighLagRate: "high_lag_rate",
        "Do less per message, conflate, move work to another task, or raise `buffer`.";
    /// A reader has not read for long what is there for it.
    ReaderStalled: "reader_stalled",
        "Poll the subscription, or drop it: a `Lease` keeps a stream open without reading it.";
    /// A reader is about to lose messages, or loses them: on a busy stream also one that reads
    /// nothing, since what is there for it is overwritten before it gets old.
    ReaderBehind: "reader_behind",
        "Is it polled? If so, do less per message, conflate, use another task, or raise `buffer`.";
    /// Many messages are not what their readers ask for.
    HighDecodeErrorRate: "high_decode_error_rate",
        "Compare the type with a message of the feed (`DecodeError::message`): its form may have changed.";
    /// A joined stream has brought nothing for long.
    StreamQuiet: "stream_quiet",
        "Check the name; set `data_timeout` to reconnect, or a longer `quiet_after` if it is normal.";
    /// Messages are old when they arrive.
    HighLatency: "high_latency",
        "Compare the machine's clock with NTP first; then move closer to the venue, or ask it.";
    /// Open streams are at another base than the first of a protocol that has several.
    FailedOver: "failed_over",
        "See the WARN lines for what is wrong at the first base; once it works, they go back by themselves.";
    /// A lease keeps a stream open that nobody reads.
    LeaseWithoutReaders: "lease_without_readers",
        "Drop the lease if the stream is not needed.";
    /// Another manager of this process has sockets to the same base URL, with the same credentials.
    /// Those over [`Tungstenite`](crate::transport::Tungstenite), the default transport, are compared.
    DuplicateManagers: "duplicate_managers",
        "Share one manager: `WsManager` is a handle, and clones share their sockets.";
    /// Messages came that belong to no stream.
    UnroutableMessages: "unroutable_messages",
        "Have the protocol's session recognise them, or leave what the server still sends.";
}
