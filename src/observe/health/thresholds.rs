//! What is still well.

use std::time::Duration;

use crate::config::setters;

/// The most of each that is still well; for
/// [`WsManager::health_with`](crate::WsManager::health_with).
///
/// What is above a threshold is a [`Finding`](crate::Finding). [`Duration::MAX`], `usize::MAX` and
/// [`f64::INFINITY`] turn a rule off. Fields are added in minor releases, so a literal ends with
/// `..Thresholds::default()`. When a stream counts as quiet is its own setting,
/// [`Config::quiet_after`](field@crate::Config::quiet_after).
///
/// ```
/// use std::time::Duration;
/// use wsmux::{Thresholds, WsManager};
///
/// let manager = WsManager::connect("wss://stream.binance.com:9443/ws")?;
/// let strict = Thresholds::default().latency(Duration::from_millis(250)).connections(20);
/// println!("{}", manager.health_with(&strict));
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Connections, whether open or not. Default 100: few programs mean to have more, and a
    /// subscription that is never dropped shows up here first.
    pub connections: usize,
    /// Connections as a share of [`Limits::max_connections`](crate::Limits). Default 0.9: time to
    /// act before a subscription is refused.
    pub connections_share: f64,
    /// Messages that readers could not read, as a share of those received, over five minutes.
    /// Default 0.01: a server's occasional word of another form is no finding, a feed that has
    /// changed its form is. Fewer than five are none.
    pub decode_errors: f64,
    /// How long a stream may be down before it fails. Default 60 s: outages that end by themselves
    /// are mostly shorter, and ten retries take about 90 s.
    pub down_fail: Duration,
    /// How long a stream may be down before it is mentioned. Default 10 s: a connect may take as
    /// long, and an ordinary reconnect is quicker.
    pub down_warn: Duration,
    /// How long a stream that ended is mentioned if it was not opened again. Default 5 min: longer
    /// than the time between two looks. The latest 256 are known.
    pub ended_within: Duration,
    /// Open streams that may be at another base than the first, where a protocol has
    /// [several](crate::protocol::Failover). Default 0: they are further away than is meant, until the
    /// first is back.
    pub failed_over: usize,
    /// How far behind a reader may be, as a share of what its stream keeps
    /// ([`Config::buffer`](field@crate::Config::buffer)). Default 0.8: the next burst may be lost.
    pub lag: f64,
    /// Messages lost by readers that lag, per second over a minute. Default 0.1: six in a minute
    /// may be a task that had no turn, what is more is worth a look.
    pub lagged: f64,
    /// Latency by the feed's own timestamps, where it is
    /// [measured](crate::Subscription::latency_by): the 99th percentile of at least 100 messages
    /// in the last one to two minutes, of fewer the median. Default 1 s: what is on its way for
    /// longer is queueing, or a clock is wrong.
    pub latency: Duration,
    /// How long a lease may keep a stream that nobody reads. Default 10 min: readers that come and
    /// go are mostly back by then.
    pub leased_for: Duration,
    /// How often a stream may be lost in five minutes. Default 3: venues cut connections once a
    /// day, and a restart costs two or three. At most 16 are counted.
    pub reconnects: usize,
    /// Retries per second over a minute. Default 0.5: thirty a minute. With the default policy,
    /// about five streams that are down for good.
    pub retries: f64,
    /// Messages for nobody, per second over a minute. Default 1: some still come after a name is
    /// left.
    pub unroutable: f64,
    /// How long a reader may leave a message unread. Default 30 s: a task that works on one message
    /// for longer is stuck, or nobody polls the subscription.
    pub unread_for: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            connections: 100,
            connections_share: 0.9,
            decode_errors: 0.01,
            down_fail: Duration::from_secs(60),
            down_warn: Duration::from_secs(10),
            ended_within: Duration::from_secs(300),
            failed_over: 0,
            lag: 0.8,
            lagged: 0.1,
            latency: Duration::from_secs(1),
            leased_for: Duration::from_secs(600),
            reconnects: 3,
            retries: 0.5,
            unroutable: 1.0,
            unread_for: Duration::from_secs(30),
        }
    }
}

impl Thresholds {
    setters! {
        connections: usize,
        connections_share: f64,
        decode_errors: f64,
        down_fail: Duration,
        down_warn: Duration,
        ended_within: Duration,
        failed_over: usize,
        lag: f64,
        lagged: f64,
        latency: Duration,
        leased_for: Duration,
        reconnects: usize,
        retries: f64,
        unroutable: f64,
        unread_for: Duration,
    }
}
