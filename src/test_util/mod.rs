//! What to test a bot against, without a network.
//!
//! | for | there is |
//! |---|---|
//! | hours of backoff in microseconds, with paused time | [`memory`]: a transport without sockets |
//! | the whole client, over TCP and TLS on 127.0.0.1 | [`MockServer`]: every move is scripted |
//! | a protocol of one's own, in memory and on a port | [`Mock`]: runs a [`Service`], the server's side without I/O |
//! | a venue that breaks, falls silent or says nonsense on time | [`Faulty`], around any [`Service`] |
//! | clients of Binance's combined streams | [`MockBinance`] |
//! | clients of Binance's WebSocket API | [`MockBinanceApi`] |
//! | clients of Phoenix's channels and of Supabase Realtime | [`MockPhoenix`], [`MockSupabase`] |
//! | clients of an Ethereum node's subscriptions and of Deribit | [`MockJsonRpc`], [`MockDeribit`] |
//! | clients of OKX's public channels | [`MockOkx`] |
//! | clients of Bybit, Coinbase Advanced Trade, Hyperliquid and Kraken | [`MockBybit`], [`MockCoinbase`], [`MockHyperliquid`], [`MockKraken`] |
//! | clients of a GraphQL server's subscriptions | [`MockGraphql`] |
//! | clients of TradingView's chart socket | [`MockTradingView`] |
//! | a bot that wants a feed | [`MockExchange`]: speaks as Binance does, thousands of messages a second |
//!
//! ```
//! use wsmux::test_util::{Answer, MockServer, Peer};
//! use wsmux::{Gap, StreamError, Text, WsManager};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = MockServer::builder()
//!     // All sockets under /ws/ run this script.
//!     .route("/ws/", |peer: Peer| async move {
//!         peer.drop_after(2);
//!         while peer.send("tick").await {}
//!     })
//!     .start()
//!     .await?;
//! // The first dial is refused, the next ones are not.
//! server.next_dials([Answer::status(503)]);
//!
//! let manager = WsManager::connect(&format!("{}/ws", server.url()))?;
//! let mut ticks = manager.subscribe::<Text>("btcusdt@trade")?;
//! assert_eq!(&*ticks.recv().await.unwrap()?, "tick");
//! assert_eq!(&*ticks.recv().await.unwrap()?, "tick");
//! let notice = ticks.recv().await.unwrap().unwrap_err();
//! assert!(matches!(notice, StreamError::Gap(Gap::Reconnected { .. })));
//!
//! // And this is what the server knows of it.
//! assert!(server.dials() >= 3);
//! assert_eq!(server.max_sockets_on("/ws/btcusdt@trade"), 1);
//! # Ok(())
//! # }
//! ```

mod binance;
mod bybit;
mod channels;
mod coinbase;
mod exchange;
mod graphql;
mod hyperliquid;
mod json_rpc;
mod kraken;
pub mod memory;
mod mock;
mod okx;
mod server;
mod tradingview;

pub use binance::{MockBinance, MockBinanceApi};
pub use bybit::MockBybit;
pub use channels::{MockPhoenix, MockSupabase};
pub use coinbase::MockCoinbase;
pub use exchange::{Audit, DepthFaults, MockBook, MockExchange, MockExchangeBuilder, Served, Tape};
pub use graphql::MockGraphql;
pub use hyperliquid::MockHyperliquid;
pub use json_rpc::{MockDeribit, MockJsonRpc};
pub use kraken::MockKraken;
pub use mock::{
    After, Answers, Budget, Fault, Faulty, Handshake, Mock, Out, Service, SocketId, Trouble,
};
pub use okx::MockOkx;
pub use server::{Answer, Certificate, Garbage, MockServer, MockServerBuilder, Peer};
pub use tradingview::MockTradingView;
