//! The gateway's values. Each default has its reason beside it.

use std::time::Duration;

/// What becomes of a client that does not keep up, once its queue is full.
///
/// Clients of the raw relay are always [disconnected](Self::Disconnect): a relay that is true byte for
/// byte has no way to tell of a gap.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum SlowClient {
    /// Of each name it gets the newest message, after a gap that counts those it missed. Begins as soon
    /// as a write falls short, so that what it gets is never old.
    Conflate,
    /// It is closed with 1013 (try again later).
    Disconnect,
    /// The oldest messages give way to a gap that counts them.
    #[default]
    DropOldest,
}

/// How a [`Gateway`](super::Gateway) serves. Fields may be set as such, or by the setters of their names.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayConfig {
    /// What of a batch's results may wait for a client before no more requests are begun for it, and the
    /// longest reply, in bytes. 4 MiB: a few hundred charts.
    pub batch_bytes: usize,
    /// How many requests a client may post as one batch; its [`max_names`](super::Standing::max_names) at most.
    /// 100: a page of charts.
    pub batch_requests: usize,
    /// How many batches of all clients may run, or wait to be read to the end. 64, so that they cost 256 MiB at
    /// most beside what is in flight. Who comes then is told to try again (503).
    pub batches: usize,
    /// How long a client that is being closed has to answer. 2 s, as for the crate's own sockets.
    pub close_timeout: Duration,
    /// The comment that keeps a stream of events alive where nothing else comes. 15 s: proxies cut off
    /// what is silent for 30 to 60 s (nginx `proxy_read_timeout` 60 s).
    pub keep_alive: Duration,
    /// The longest message a client may send, in bytes. 64 KiB, what a list of names needs many times
    /// over. A longer one closes it with 1009.
    pub max_message: usize,
    /// How long a client may take for a message that it has begun, with all of its frames. 30 s, what 64 KiB need on
    /// a very slow line. One that takes longer is closed with 1008: what it holds back costs the gateway memory.
    pub message_timeout: Duration,
    /// How many names a client may read at once. 1,000.
    pub names_per_client: usize,
    /// How often a client is pinged. One from which nothing came since the last ping is cut off, so a
    /// dead one lasts twice as long at most. 20 s, below what routers and proxies forget.
    pub ping_interval: Duration,
    /// What waits for a client that does not read, in bytes. 1 MiB: seconds of a busy name.
    pub queue_bytes: usize,
    /// How many events of a name are kept for those that come back with `Last-Event-ID`. 1,024.
    pub replay: usize,
    /// The same in bytes. 4 MiB.
    pub replay_bytes: usize,
    /// How long a name that was read by SSE or by snapshots is kept after that: a browser comes back
    /// after some 3 s, a poller after its interval. 60 s.
    pub replay_linger: Duration,
    /// How many tasks write to clients; 0 is one per core. 0.
    pub shards: usize,
    /// What becomes of a client that does not keep up. [`SlowClient::DropOldest`].
    pub slow: SlowClient,
    /// How long a request for a snapshot waits for the first message of a name. 5 s.
    pub snapshot_timeout: Duration,
    /// How long a round gathers what comes after its first message. More of it means fewer writes, and
    /// later ones. Zero: a round takes what is there.
    pub window: Duration,
    /// How long a client may take nothing of what waits for it, before it is cut off. 10 s.
    pub write_timeout: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 4 << 20,
            batch_requests: 100,
            batches: 64,
            close_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_secs(15),
            max_message: 64 << 10,
            message_timeout: Duration::from_secs(30),
            names_per_client: 1000,
            ping_interval: Duration::from_secs(20),
            queue_bytes: 1 << 20,
            replay: 1024,
            replay_bytes: 4 << 20,
            replay_linger: Duration::from_secs(60),
            shards: 0,
            slow: SlowClient::default(),
            snapshot_timeout: Duration::from_secs(5),
            window: Duration::ZERO,
            write_timeout: Duration::from_secs(10),
        }
    }
}

macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        impl GatewayConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

setters! {
    batch_bytes: usize,
    batch_requests: usize,
    batches: usize,
    close_timeout: Duration,
    keep_alive: Duration,
    max_message: usize,
    message_timeout: Duration,
    names_per_client: usize,
    ping_interval: Duration,
    queue_bytes: usize,
    replay: usize,
    replay_bytes: usize,
    replay_linger: Duration,
    shards: usize,
    slow: SlowClient,
    snapshot_timeout: Duration,
    window: Duration,
    write_timeout: Duration,
}

impl GatewayConfig {
    /// The same values, brought to where they can work: a period is at least a millisecond, and a
    /// number at least one. The queue holds a close frame at least.
    pub(super) fn sane(mut self) -> Self {
        let least = Duration::from_millis(1);
        for period in [
            &mut self.close_timeout,
            &mut self.keep_alive,
            &mut self.message_timeout,
            &mut self.ping_interval,
            &mut self.write_timeout,
        ] {
            *period = (*period).max(least);
        }
        self.batch_bytes = self.batch_bytes.max(1024);
        self.max_message = self.max_message.max(125);
        self.replay = self.replay.max(1);
        self.queue_bytes = self.queue_bytes.max(1024);
        if self.shards == 0 {
            self.shards = std::thread::available_parallelism().map_or(1, usize::from);
        }
        self
    }
}
