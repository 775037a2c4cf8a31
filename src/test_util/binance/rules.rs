//! What holds on each of the venue's markets.

use std::time::Duration;

/// What holds on a market.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) frames: usize,
    pub(super) is_futures: bool,
    pub(super) ping_every: Duration,
    pub(super) pong_within: Duration,
}

impl Rules {
    pub(super) const SPOT: Self = Self {
        frames: 5,
        is_futures: false,
        ping_every: Duration::from_secs(20),
        pong_within: Duration::from_secs(60),
    };

    pub(super) const FUTURES: Self = Self {
        frames: 10,
        is_futures: true,
        ping_every: Duration::from_secs(180),
        pong_within: Duration::from_secs(600),
    };
}
