//! Values a user may set. Collaborators (protocol, transport, runtime) go to the
//! [`WsManagerBuilder`](crate::WsManagerBuilder).

mod credentials;
mod dial_rate;
mod label;
mod limits;
mod retry;
mod secret;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

pub(crate) use credentials::{Cause, Place};
pub use credentials::{Credentials, CredentialsError, NoToken, Token, TokenProvider, TokenReason};
pub use dial_rate::DialRate;
pub use label::InvalidLabel;
pub(crate) use label::Label;
pub use limits::Limits;
pub(crate) use retry::Backoff;
pub use retry::{FirstRetry, RetryPolicy};
pub use secret::Secret;

/// Settings of a [`WsManager`](crate::WsManager).
///
/// Write only what differs: fields are added in minor releases, so a literal ends with
/// `..Config::default()`. Durations above ten years count as ten years, so [`Duration::MAX`] stands
/// for "never". Every timeout and interval is above zero. [`docs/defaults.md`][defaults] gives the
/// reason for every default.
///
/// [defaults]: crate::docs::defaults
///
/// ```
/// use std::time::Duration;
/// use wsmux::{Config, RetryPolicy};
///
/// let literal = Config { linger: Duration::from_secs(5), ..Config::default() };
/// let fluent = Config::default().linger(Duration::from_secs(5));
/// assert_eq!(literal, fluent);
///
/// // A bot that is to outlast a venue's maintenance.
/// let bot = Config::default().retry(RetryPolicy::forever());
/// # let _ = bot;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Messages kept per stream for readers that fall behind. Default 1024; at least 1.
    pub buffer: usize,
    /// Bytes of messages kept per stream for readers that fall behind. Default 16 MiB; at least 1.
    /// The latest message is kept whatever its size.
    pub buffer_bytes: usize,
    /// Longest time a close handshake may take, and longest time that
    /// [`shutdown`](crate::WsManager::shutdown) waits. Default 2 s. A name that is wanted again
    /// while its socket closes waits for as long.
    pub close_timeout: Duration,
    /// Longest time from the start of a dial to an open WebSocket: DNS, TCP, TLS and upgrade
    /// together. Default 10 s. Waiting for a turn at the host is not counted.
    pub connect_timeout: Duration,
    /// Reconnect a stream that has had no message for this long. Default `None`: quiet streams are
    /// normal, and a dead socket is found by the [heartbeat](Self::heartbeat).
    pub data_timeout: Option<Duration>,
    /// Longest time that a stream which goes over to another socket may read from both, from the
    /// join on the new one on. Default 10 s. Where the two cannot be aligned in it, a gap is told.
    pub handover_timeout: Duration,
    /// Liveness checks on an open socket. Default: a ping after 20 s of silence, dead 10 s later.
    pub heartbeat: Heartbeat,
    /// Longest time from an open WebSocket to the server's word that a name is joined. Default 10 s.
    pub join_timeout: Duration,
    /// What may be opened and kept.
    pub limits: Limits,
    /// How long a stream stays open with neither readers nor leases. Default zero: close at once.
    /// [`sweep_idle`](crate::WsManager::sweep_idle) closes earlier.
    pub linger: Duration,
    /// How old a socket may get before another one takes over from it, without a break. Default
    /// `None`: as old as the server lets it. Each socket draws its time from the last fifth of it,
    /// so that they do not move all at once.
    pub max_age: Option<Duration>,
    /// Whether credentials may go to another machine over `ws://`, where everybody on the way can
    /// read them: the tokens of a provider, and a user name in the URL. Default false: it ends the
    /// streams. To this machine they may always go.
    pub plain_text_credentials: bool,
    /// A joined stream without a message for this long is reported as
    /// [`quiet`](crate::StreamInfo::quiet). Default 2 min.
    pub quiet_after: Duration,
    /// Whether a reader that joins a stream which already had a message is given the last one
    /// first, at once and marked as [`replayed`](crate::Stamped::replayed). Default false.
    pub replay_latest: bool,
    /// How long a reply to a [request](crate::WsManager::request) may take, and each further part of
    /// it, from the moment the request was written. Default 30 s.
    pub reply_timeout: Duration,
    /// How lost connections are retried. Default: ten times, in about 90 s.
    pub retry: RetryPolicy,
    /// Messages that may wait to be [sent](crate::WsManager::send) per stream. Default 256; at least
    /// 1. They are the program's own, and so not bounded in bytes.
    pub send_queue: usize,
    /// How long a message may wait to be [sent](crate::WsManager::send). Default 5 s. Once it is
    /// handed to a socket, [`write_timeout`](Self::write_timeout) bounds it instead.
    pub send_ttl: Duration,
    /// Longest time between two looks of the sweeper while a stream is due to be closed. Default
    /// 60 s. It sleeps until the next one is due, so this bounds nothing but surprises such as a
    /// clock that stood still.
    pub sweep_interval: Duration,
    /// How long before its expiry a token of a [`TokenProvider`] is not used any more, and open
    /// sockets are moved to a fresh one; half of its life, if that is less. Default 60 s. Sockets do
    /// so up to a half of this earlier, at random.
    pub token_refresh: Duration,
    /// Longest time that a [`TokenProvider`] may take. Default 10 s. It is not part of
    /// [`connect_timeout`](Self::connect_timeout).
    pub token_timeout: Duration,
    /// A write that the kernel does not take for this long ends its connection. Default 10 s.
    pub write_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            buffer: 1024,
            buffer_bytes: 16 * 1024 * 1024,
            close_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(10),
            data_timeout: None,
            handover_timeout: Duration::from_secs(10),
            heartbeat: Heartbeat::default(),
            join_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            linger: Duration::ZERO,
            max_age: None,
            plain_text_credentials: false,
            quiet_after: Duration::from_secs(120),
            replay_latest: false,
            reply_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            send_queue: 256,
            send_ttl: Duration::from_secs(5),
            sweep_interval: Duration::from_secs(60),
            token_refresh: Duration::from_secs(60),
            token_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// Setters of public fields, named as these are.
macro_rules! setters {
    ($($field:ident: $type:ty,)*) => {
        $(
            #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: $type) -> Self {
                self.$field = $field;
                self
            }
        )*
    };
}
pub(crate) use setters;

impl Config {
    /// Settings for connections that are kept between uses: linger 5 min, heartbeat every 30 s,
    /// quiet after 2 min.
    #[must_use]
    pub fn persistent() -> Self {
        Self {
            heartbeat: Heartbeat { interval: Duration::from_secs(30), ..Heartbeat::default() },
            linger: Duration::from_secs(300),
            quiet_after: Duration::from_secs(120),
            ..Self::default()
        }
    }

    setters! {
        buffer: usize,
        buffer_bytes: usize,
        close_timeout: Duration,
        connect_timeout: Duration,
        data_timeout: Option<Duration>,
        handover_timeout: Duration,
        heartbeat: Heartbeat,
        join_timeout: Duration,
        limits: Limits,
        linger: Duration,
        max_age: Option<Duration>,
        plain_text_credentials: bool,
        quiet_after: Duration,
        replay_latest: bool,
        reply_timeout: Duration,
        retry: RetryPolicy,
        send_queue: usize,
        send_ttl: Duration,
        sweep_interval: Duration,
        token_refresh: Duration,
        token_timeout: Duration,
        write_timeout: Duration,
    }

    /// The settings that hold for a stream without settings of its own.
    pub(crate) fn stream(&self) -> StreamConfig {
        StreamConfig {
            buffer: self.buffer,
            buffer_bytes: self.buffer_bytes,
            data_timeout: self.data_timeout,
            linger: self.linger,
            quiet_after: self.quiet_after,
            replay_latest: self.replay_latest,
            send_queue: self.send_queue,
            send_ttl: self.send_ttl,
        }
    }

    /// Checks the values, and caps durations so that no deadline can overflow.
    pub(crate) fn validated(mut self) -> Result<Self, ConfigError> {
        self.stream().validated()?;
        self.retry.validate()?;
        self.limits.validate()?;
        positive("close_timeout", self.close_timeout)?;
        positive("connect_timeout", self.connect_timeout)?;
        positive("handover_timeout", self.handover_timeout)?;
        positive("heartbeat.interval", self.heartbeat.interval)?;
        positive("heartbeat.timeout", self.heartbeat.timeout)?;
        positive("join_timeout", self.join_timeout)?;
        positive("reply_timeout", self.reply_timeout)?;
        positive("sweep_interval", self.sweep_interval)?;
        positive("token_timeout", self.token_timeout)?;
        positive("write_timeout", self.write_timeout)?;
        for duration in [
            &mut self.close_timeout,
            &mut self.connect_timeout,
            &mut self.handover_timeout,
            &mut self.heartbeat.interval,
            &mut self.heartbeat.timeout,
            &mut self.join_timeout,
            &mut self.linger,
            &mut self.quiet_after,
            &mut self.reply_timeout,
            &mut self.retry.base_delay,
            &mut self.retry.max_delay,
            &mut self.retry.min_delay,
            &mut self.retry.reset_after,
            &mut self.send_ttl,
            &mut self.sweep_interval,
            &mut self.token_refresh,
            &mut self.token_timeout,
            &mut self.write_timeout,
        ] {
            *duration = (*duration).min(NEVER);
        }
        self.data_timeout = self.data_timeout.map(|timeout| timeout.min(NEVER));
        if let Some(age) = self.max_age {
            positive("max_age", age)?;
        }
        self.max_age = self.max_age.map(|age| age.min(NEVER));
        Ok(self)
    }
}

/// Settings of one stream, set with [`WsManagerBuilder::stream`](crate::WsManagerBuilder::stream);
/// those of [`Config`] hold for what is left alone.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StreamConfig {
    /// See [`Config::buffer`](field@Config::buffer).
    pub buffer: usize,
    /// See [`Config::buffer_bytes`](field@Config::buffer_bytes).
    pub buffer_bytes: usize,
    /// See [`Config::data_timeout`](field@Config::data_timeout).
    pub data_timeout: Option<Duration>,
    /// See [`Config::linger`](field@Config::linger).
    pub linger: Duration,
    /// See [`Config::quiet_after`](field@Config::quiet_after).
    pub quiet_after: Duration,
    /// See [`Config::replay_latest`](field@Config::replay_latest).
    pub replay_latest: bool,
    /// See [`Config::send_queue`](field@Config::send_queue).
    pub send_queue: usize,
    /// See [`Config::send_ttl`](field@Config::send_ttl).
    pub send_ttl: Duration,
}

impl StreamConfig {
    pub(crate) fn validated(mut self) -> Result<Self, ConfigError> {
        at_least_one("buffer", self.buffer)?;
        at_least_one("buffer_bytes", self.buffer_bytes)?;
        at_least_one("send_queue", self.send_queue)?;
        positive("send_ttl", self.send_ttl)?;
        if let Some(timeout) = self.data_timeout {
            positive("data_timeout", timeout)?;
        }
        self.data_timeout = self.data_timeout.map(|timeout| timeout.min(NEVER));
        self.linger = self.linger.min(NEVER);
        self.quiet_after = self.quiet_after.min(NEVER);
        self.send_ttl = self.send_ttl.min(NEVER);
        Ok(self)
    }
}

/// When to ping, and when to call a silent socket dead. Any frame is a sign of life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heartbeat {
    /// A ping is sent after this much silence. Default 20 s.
    pub interval: Duration,
    /// A socket that stays silent for this much longer is dead. Default 10 s.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) }
    }
}

/// What stands for "never": far enough off, and near enough that no sum of instants overflows.
pub(crate) const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why a [`Config`] cannot work.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// `low` is above `high`.
    OutOfOrder {
        /// The setting that must not be above the other.
        low: &'static str,
        /// The setting that must not be below the other.
        high: &'static str,
    },
    /// The setting is zero, which would do nothing or never succeed.
    Zero {
        /// The setting.
        setting: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { low, high } => {
                write!(f, "`{low}` is above `{high}`: set `{high}` to at least `{low}`")
            }
            Self::Zero { setting } => write!(f, "`{setting}` is zero: set it to at least 1"),
        }
    }
}

impl StdError for ConfigError {}

fn at_least_one(setting: &'static str, value: usize) -> Result<(), ConfigError> {
    if value == 0 { Err(ConfigError::Zero { setting }) } else { Ok(()) }
}

fn positive(setting: &'static str, value: Duration) -> Result<(), ConfigError> {
    if value.is_zero() { Err(ConfigError::Zero { setting }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::default().validated().is_ok());
        assert!(Config::persistent().validated().is_ok());
    }

    #[test]
    fn what_cannot_work_is_named_with_what_would() {
        let refused = |config: Config| config.validated().unwrap_err().to_string();
        assert_eq!(refused(Config::default().buffer(0)), "`buffer` is zero: set it to at least 1");
        assert!(refused(Config::default().buffer_bytes(0)).contains("buffer_bytes"));
        assert!(refused(Config::default().connect_timeout(Duration::ZERO)).contains("connect"));
        assert!(refused(Config::default().data_timeout(Some(Duration::ZERO))).contains("data"));
        let retry = RetryPolicy { max_delay: Duration::from_millis(1), ..RetryPolicy::default() };
        let text = refused(Config::default().retry(retry));
        assert!(text.contains("`max_delay`") && text.contains("`base_delay`"), "{text}");
        let limits = Limits { max_connections: 0, ..Limits::default() };
        assert!(refused(Config::default().limits(limits)).contains("max_connections"));
    }

    #[test]
    fn never_is_a_long_time_and_no_overflow() {
        let config = Config::default().linger(Duration::MAX).data_timeout(Some(Duration::MAX));
        let config = config.validated().unwrap();
        let now = tokio::time::Instant::now();
        assert!(now.checked_add(config.linger).is_some());
        assert_eq!(config.data_timeout, Some(NEVER));
    }
}
