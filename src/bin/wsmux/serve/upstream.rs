//! Where streams come from.

use wsmux::protocol::{
    BinanceCombined, Bybit, CoinbaseAdvanced, Deribit, Direct, GraphqlWs, Hyperliquid, JsonRpc,
    KrakenV2, Okx, Phoenix, TradingView,
};
use wsmux::test_util::MockExchange;
use wsmux::{Config, Limits, RetryPolicy, WsManager, WsManagerBuilder};

use crate::args::Speaks;
use crate::exit::Failure;

/// What reads the streams under `url`.
pub(super) fn manager(url: &str, speaks: Speaks, names: usize) -> Result<WsManager, Failure> {
    let mut limits = Limits::default();
    limits.max_connections = limits.max_connections.max(names);
    builder(url, speaks)?.config(config().limits(limits)).build().map_err(Failure::usage)
}

/// Who runs a gateway is not there when the venue comes back: it is tried until it does.
fn config() -> Config {
    Config::default().retry(RetryPolicy::forever())
}

fn builder(url: &str, speaks: Speaks) -> Result<WsManagerBuilder, Failure> {
    Ok(match speaks {
        Speaks::Binance => {
            let spot = BinanceCombined::spot().at(url).map_err(Failure::usage)?;
            WsManager::builder(spot)
        }
        Speaks::Bybit => WsManager::builder(Bybit::new(url).map_err(Failure::usage)?),
        Speaks::Coinbase => WsManager::builder(CoinbaseAdvanced::new(url).map_err(Failure::usage)?),
        Speaks::Deribit => WsManager::builder(Deribit::new(url).map_err(Failure::usage)?),
        Speaks::Direct => WsManager::builder(Direct::new(url).map_err(Failure::usage)?),
        Speaks::Graphql => {
            WsManager::builder(GraphqlWs::new(url).map_err(Failure::usage)?.documents())
        }
        Speaks::Hyperliquid => WsManager::builder(Hyperliquid::new(url).map_err(Failure::usage)?),
        Speaks::Kraken => WsManager::builder(KrakenV2::new(url).map_err(Failure::usage)?),
        Speaks::JsonRpc => WsManager::builder(JsonRpc::new(url).map_err(Failure::usage)?),
        Speaks::Okx => WsManager::builder(Okx::new(url).map_err(Failure::usage)?),
        Speaks::Phoenix => WsManager::builder(Phoenix::new(url).map_err(Failure::usage)?),
        Speaks::TradingView => WsManager::builder(TradingView::new(url).map_err(Failure::usage)?),
    })
}

/// An exchange that makes no money, in this process.
pub(super) async fn demo() -> Result<MockExchange, Failure> {
    // Nobody asks what a book was: all names together take a few megabytes, however long it runs.
    let exchange = MockExchange::builder().rate(20).known_changes(0).start().await;
    exchange.map_err(|e| Failure::io("cannot start the mock exchange", &e))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wsmux::Text;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_a_day_on_which_nothing_answers_upstream() {
        async fn ends(config: Config) -> bool {
            let manager = builder("ws://127.0.0.1:1", Speaks::Direct).unwrap();
            let manager = manager.config(config).build().unwrap();
            let mut stream = manager.subscribe::<Text>("a").unwrap();
            let day = Duration::from_secs(24 * 3600);
            tokio::time::timeout(day, stream.recv()).await.is_ok()
        }
        assert!(!ends(config()).await);
        assert!(ends(Config::default()).await, "a library tells of it instead");
    }
}
