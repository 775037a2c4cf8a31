//! How often a host may be dialled, and what venues say about it.

use std::time::Duration;

use super::NEVER;

/// How many dials of one host may begin within any period of some length, for a
/// [`Limiter`](crate::Limiter).
///
/// The period slides, and the bound is exact: there is no moment at which more than
/// [`dials`](Self::dials) begin within one [`window`](Self::window). As a server counts a dial some
/// time after it has begun, each counts here until a window after its handshake was *over*: so the
/// bound holds at the server too, however late a packet is.
///
/// The presets are what the venues say. They count by address, so other programs behind the same
/// address count too: take a part of it where there are any.
///
/// ```
/// use std::time::Duration;
/// use wsmux::{DialRate, Limiter};
///
/// let limiter = Limiter::new();
/// limiter.set_rate("feed.example:443", DialRate::new(20, Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DialRate {
    dials: u32,
    window: Duration,
}

impl DialRate {
    /// Binance: 300 attempts in 5 minutes per address, says [its documentation][source] ("Limits"
    /// of the WebSocket streams, and of the WebSocket API).
    ///
    /// [source]: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
    pub const BINANCE: Self = Self::new(300, Duration::from_secs(300));

    /// Coinbase, Advanced Trade and Exchange: 8 connections a second per address, say the
    /// documentations of [the one][advanced] and [the other][exchange]. (The Exchange allows bursts
    /// of 20, of which no use is made.)
    ///
    /// [advanced]: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-rate-limits
    /// [exchange]: https://docs.cdp.coinbase.com/exchange/websocket-feed/rate-limits
    pub const COINBASE: Self = Self::new(8, Duration::from_secs(1));

    /// Kraken: about 150 attempts in a sliding 10 minutes per address, above which an address is
    /// banned for 10 minutes, says [its documentation][source].
    ///
    /// [source]: https://docs.kraken.com/api/docs/guides/spot-ws-intro
    pub const KRAKEN: Self = Self::new(150, Duration::from_secs(600));

    /// No bound. Handshakes in flight are still bounded, by
    /// [`Limits::handshakes_per_host`](crate::Limits).
    pub const UNLIMITED: Self = Self::new(u32::MAX, Duration::ZERO);

    /// At most `dials` within any `window`. A host that is never dialled makes no sense: 0 counts as
    /// 1. Windows above ten years count as ten years.
    #[must_use]
    pub const fn new(dials: u32, window: Duration) -> Self {
        let window = if window.as_secs() < NEVER.as_secs() { window } else { NEVER };
        Self { dials: if dials == 0 { 1 } else { dials }, window }
    }

    /// How many.
    #[must_use]
    pub const fn dials(&self) -> u32 {
        self.dials
    }

    /// Within which time.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// What holds for `host`, without a port, by default.
    pub(crate) fn of(host: &str) -> Self {
        match host {
            "data-stream.binance.vision" | "stream.binance.com" | "ws-api.binance.com" => {
                Self::BINANCE
            }
            "advanced-trade-ws-user.coinbase.com"
            | "advanced-trade-ws.coinbase.com"
            | "ws-direct.exchange.coinbase.com"
            | "ws-feed.exchange.coinbase.com" => Self::COINBASE,
            "ws-auth.kraken.com" | "ws.kraken.com" => Self::KRAKEN,
            _ => Self::default(),
        }
    }
}

impl Default for DialRate {
    /// 250 dials in a second: for hosts of which nothing is known.
    fn default() -> Self {
        Self::new(250, Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn venues_have_the_rates_they_ask_for_and_others_the_default() {
        assert_eq!(DialRate::of("stream.binance.com"), DialRate::BINANCE);
        assert_eq!(DialRate::of("ws.kraken.com"), DialRate::KRAKEN);
        assert_eq!(DialRate::of("ws-feed.exchange.coinbase.com"), DialRate::COINBASE);
        assert_eq!(DialRate::of("stream.binance.com.evil.example"), DialRate::default());
    }

    #[test]
    fn what_makes_no_sense_is_the_next_that_does() {
        let never = DialRate::new(0, Duration::MAX);
        assert_eq!(never.dials(), 1);
        assert!(never.window() < Duration::MAX);
    }
}
