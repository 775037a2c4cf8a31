//! `wsmux mock`: each fault, seen by our own client.

use std::time::Duration;

use serde_json::Value;
use wsmux::protocol::{
    BinanceCombined, Bybit, CoinbaseAdvanced, Deribit, GraphqlWs, Hyperliquid, JsonRpc, KrakenV2,
    Okx, Phoenix, Protocol, TradingView,
};
use wsmux::{
    CloseReason, Config, DisconnectReason, Gap, RetryPolicy, StreamError, Subscription, Text,
    WsManager,
};

use super::*;

/// The program, once it listens.
pub(super) struct Exchange {
    program: Running,
    pub(super) url: String,
}

impl Exchange {
    pub(super) async fn start(arguments: &[&str]) -> Self {
        let mut program = Running::start(&[&["mock"], arguments].concat());
        let url = program.line().await.trim_end().to_owned();
        assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
        Self { program, url }
    }

    fn manager(&self, attempts: Option<u32>) -> WsManager {
        let retry = RetryPolicy { max_attempts: attempts, ..RetryPolicy::default() };
        WsManager::connect_with(&self.url, Config::default().retry(retry)).unwrap()
    }

    async fn ends_with_0(self, signal: Signal) -> Ran {
        self.program.signal(signal);
        let ran = self.program.end().await;
        assert_eq!((ran.code, &*ran.stdout), (Some(0), &b""[..]), "{ran:?}");
        ran
    }
}

/// Messages up to the first notice, and that.
async fn until_notice(reader: &mut Subscription<Text>) -> (Vec<Value>, StreamError) {
    let mut messages = Vec::new();
    loop {
        match within(reader.recv()).await.unwrap() {
            Ok(text) => messages.push(serde_json::from_str(&text).unwrap()),
            Err(notice) => return (messages, notice),
        }
    }
}

/// Why the only socket of a client that does not dial again was lost, and what came before.
async fn lost(exchange: &Exchange) -> (usize, DisconnectReason) {
    let manager = exchange.manager(Some(0));
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    let (messages, notice) = until_notice(&mut trades).await;
    let StreamError::Closed(CloseReason::RetriesExhausted { last, .. }) = notice else {
        panic!("{notice:?}");
    };
    (messages.len(), last.reason().clone())
}

#[tokio::test]
async fn its_url_is_its_only_line_and_signals_end_it_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let exchange = Exchange::start(&["--rate", "1000"]).await;
        let manager = exchange.manager(Some(0));
        let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
        let trade = within(trades.recv()).await.unwrap().unwrap();
        assert!(trade.contains("\"e\":\"trade\""), "{trade:?}");
        let ran = exchange.ends_with_0(signal).await;
        assert!(ran.stderr.contains("dials: 1, sockets: 1"), "{ran:?}");
    }
    let ran = run(&["mock", "--for", "10ms"]).await;
    assert_eq!((ran.code, ran.text().lines().count()), (Some(0), 1), "{ran:?}");
}

#[tokio::test]
async fn the_same_seed_says_the_same_on_any_day() {
    let first = async |seed: &str| {
        let exchange = Exchange::start(&["--rate", "2000", "--seed", seed]).await;
        let manager = exchange.manager(Some(0));
        let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
        let mut messages = Vec::new();
        for _ in 0..50 {
            let text = within(trades.recv()).await.unwrap().unwrap();
            let mut trade: Value = serde_json::from_str(&text).unwrap();
            (trade["E"], trade["T"]) = (Value::Null, Value::Null);
            messages.push(trade);
        }
        messages
    };
    let seven = first("7").await;
    assert_eq!(seven, first("7").await);
    assert_ne!(seven, first("8").await);
}

#[tokio::test]
async fn sockets_are_dropped_closed_and_broken_right_behind_as_many_messages() {
    for (fault, reason) in [
        ("--drop-after", DisconnectReason::Ended),
        ("--garbage-after", DisconnectReason::ProtocolViolation),
    ] {
        let exchange = Exchange::start(&["--rate", "1000", fault, "7"]).await;
        for _ in 0..3 {
            assert_eq!(lost(&exchange).await, (7, reason.clone()), "{fault}");
        }
    }
    let exchange = Exchange::start(&["--rate", "1000", "--close-after", "7"]).await;
    let (messages, reason) = lost(&exchange).await;
    assert_eq!(messages, 7);
    assert!(matches!(reason, DisconnectReason::Closed { code: Some(1012), .. }), "{reason:?}");
}

#[tokio::test]
async fn a_socket_that_was_dropped_on_time_is_a_gap_for_one_who_dials_again() {
    let exchange = Exchange::start(&["--rate", "200", "--drop-after", "50ms"]).await;
    let manager = exchange.manager(None);
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    for _ in 0..3 {
        let (_, notice) = until_notice(&mut trades).await;
        assert!(matches!(notice, StreamError::Gap(Gap::Reconnected { .. })), "{notice:?}");
    }
    within(manager.shutdown()).await;
    exchange.ends_with_0(Signal::TERM).await;
}

#[tokio::test]
async fn messages_are_lost_where_it_was_asked_for_and_only_their_numbers_tell() {
    let exchange = Exchange::start(&["--rate", "2000", "--lose-every", "5"]).await;
    let manager = exchange.manager(Some(0));
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 40 {
        let text = within(trades.recv()).await.unwrap().unwrap();
        numbers.push(serde_json::from_str::<Value>(&text).unwrap()["t"].as_u64().unwrap());
    }
    let steps: Vec<_> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Four of five come: after each fourth there is one missing.
    let holes: Vec<_> =
        steps.iter().enumerate().filter(|(_, step)| **step == 2).map(|(at, _)| at).collect();
    assert_eq!(holes, (3..39).step_by(4).collect::<Vec<_>>(), "{steps:?}");
    assert!(steps.iter().all(|step| matches!(step, 1 | 2)), "{steps:?}");
}

#[tokio::test]
async fn a_silent_socket_stays_open_and_the_client_gives_it_up_by_itself() {
    let exchange = Exchange::start(&["--rate", "1000", "--silence-after", "5"]).await;
    let config = Config::default().data_timeout(Some(Duration::from_secs(1)));
    let manager = WsManager::connect_with(&exchange.url, config).unwrap();
    let mut trades = manager.subscribe::<Text>("btcusdt@trade").unwrap();
    for _ in 0..2 {
        let (messages, notice) = until_notice(&mut trades).await;
        assert_eq!(messages.len(), 5, "{notice:?}");
        let StreamError::Gap(Gap::Reconnected { reason, .. }) = notice else {
            panic!("{notice:?}");
        };
        assert_eq!(reason, DisconnectReason::DataTimeout, "{reason:?}");
    }
}

#[tokio::test]
async fn dials_are_refused_by_their_number_and_accepted_slowly() {
    let exchange = Exchange::start(&["--refuse", "503", "--refuse-every", "2"]).await;
    let doctor = ["doctor", &exchange.url, "btcusdt@trade"];
    for code in [0, 4, 0, 4] {
        let ran = run(&doctor).await;
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert_eq!(ran.text().contains(" 503"), code == 4, "{}", ran.text());
    }
    let exchange = Exchange::start(&["--refuse", "429"]).await;
    assert_eq!(lost(&exchange).await, (0, DisconnectReason::Http { status: 429 }));

    let exchange = Exchange::start(&["--drip", "1ms"]).await;
    let ran = run(&["doctor", "--json", &exchange.url, "btcusdt@trade"]).await;
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let steps = json["steps"].as_array().unwrap();
    let handshake = steps.iter().find(|step| step["step"] == "handshake").unwrap();
    // 129 bytes at least, and a wait for each.
    assert!(handshake["took_ms"].as_f64().unwrap() >= 129.0, "{json}");
}

#[tokio::test]
async fn each_protocol_is_spoken_as_its_client_speaks_it() {
    async fn heard(protocol: impl Protocol, exchange: Exchange, names: [&str; 2], hole: bool) {
        let manager = WsManager::builder(protocol).build().unwrap();
        for name in names {
            let mut reader = manager.subscribe::<Text>(name).unwrap();
            let first = within(reader.recv()).await.unwrap();
            assert!(first.is_ok(), "{name}: {first:?}");
            let mut gaps = 0;
            while hole && gaps < 2 {
                match within(reader.recv()).await.unwrap() {
                    Ok(_) => {}
                    Err(StreamError::Gap(_)) => gaps += 1,
                    Err(e) => panic!("{name}: {e}"),
                }
            }
        }
        within(manager.shutdown()).await;
        let ran = exchange.ends_with_0(Signal::TERM).await;
        assert!(!ran.stderr.contains("mistakes"), "{name:?}: {ran:?}", name = names[0]);
    }
    let start = async |protocol: &str, more: &[&str]| {
        let arguments = [&["--protocol", protocol, "--rate", "200"], more].concat();
        Exchange::start(&arguments).await
    };
    let exchange = start("binance", &[]).await;
    let binance = BinanceCombined::spot().at(&exchange.url).unwrap();
    heard(binance, exchange, ["btcusdt@trade", "ethusdt@bookTicker"], false).await;
    let exchange = start("deribit", &[]).await;
    let deribit = Deribit::new(&exchange.url).unwrap();
    heard(deribit, exchange, ["trades.BTC-PERPETUAL.raw", "book.BTC-PERPETUAL.100ms"], false).await;
    let exchange = start("json-rpc", &[]).await;
    let node = JsonRpc::new(&exchange.url).unwrap();
    heard(node, exchange, ["newHeads", "newPendingTransactions"], false).await;
    let exchange = start("okx", &[]).await;
    let okx = Okx::new(&exchange.url).unwrap();
    heard(okx, exchange, ["trades:BTC-USDT", "books:BTC-USDT"], false).await;
    let exchange = start("phoenix", &[]).await;
    let phoenix = Phoenix::new(&exchange.url).unwrap();
    heard(phoenix, exchange, ["room:one", "room:two"], false).await;
    let exchange = start("graphql", &[]).await;
    let graphql = GraphqlWs::new(&exchange.url).unwrap().documents();
    heard(graphql, exchange, ["subscription { one }", "subscription { two }"], false).await;
    let exchange = start("tradingview", &[]).await;
    let quotes = TradingView::new(&exchange.url).unwrap();
    heard(quotes, exchange, ["NASDAQ:AAPL", "NASDAQ:MSFT"], false).await;
    let exchange = start("bybit", &[]).await;
    let bybit = Bybit::new(&exchange.url).unwrap();
    heard(bybit, exchange, ["spot:publicTrade.BTCUSDT", "linear:orderbook.50.BTCUSDT"], false)
        .await;
    let exchange = start("coinbase", &[]).await;
    let coinbase = CoinbaseAdvanced::new(&exchange.url).unwrap();
    heard(coinbase, exchange, ["market_trades:BTC-USD", "ticker:ETH-USD"], false).await;
    let exchange = start("hyperliquid", &[]).await;
    let hyperliquid = Hyperliquid::new(&exchange.url).unwrap();
    heard(hyperliquid, exchange, ["trades:BTC", "l2Book:ETH"], false).await;
    let exchange = start("kraken", &[]).await;
    let kraken = KrakenV2::new(&exchange.url).unwrap();
    heard(kraken, exchange, ["trade:BTC/USD", "book:ETH/USD"], false).await;
    // A venue that numbers its books has the client find the holes.
    let exchange = start("okx", &["--lose-every", "5"]).await;
    let okx = Okx::new(&exchange.url).unwrap();
    heard(okx, exchange, ["books:BTC-USDT", "books:ETH-USDT"], true).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_told_with_2() {
    for arguments in [
        &["--drop-after", "0"][..],
        &["--drop-after", "soon"],
        &["--refuse", "200"],
        &["--refuse-every", "2"],
        &["--lose-every", "1"],
        &["--rate", "0"],
        &["--protocol", "smoke-signals"],
        &["--listen", "here"],
    ] {
        let ran = run(&[&["mock"], arguments].concat()).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{ran:?}");
    }
    let taken = Exchange::start(&[]).await;
    let address = taken.url.trim_start_matches("ws://").trim_end_matches("/ws");
    let ran = run(&["mock", "--listen", address]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("cannot listen on") && ran.stderr.contains("hint:"), "{ran:?}");
}
