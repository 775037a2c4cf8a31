//! `wsmux mock`: an exchange that makes no money, and misbehaves as it is told.
//!
//! - What it prints on stdout is its URL, and nothing else: a script reads one line.
//! - SIGTERM, Ctrl-C and `--for` end it with 0. What its clients did wrong is told on stderr.
//! - Faults come by count or by age, never by chance: the same arguments make the same run.

mod feed;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wsmux::test_util::{
    Answer, Faulty, Garbage, Mock as Running, MockBinance, MockBybit, MockCoinbase, MockDeribit,
    MockGraphql, MockHyperliquid, MockJsonRpc, MockKraken, MockOkx, MockPhoenix, MockServer,
    MockServerBuilder, MockTradingView, Trouble,
};

use self::feed::{Feed, Venue};
use crate::args::{Mock, Speaks};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::tail::escape::escaped;

/// How many of its clients' mistakes are told one by one.
const TOLD: usize = 20;

pub(crate) async fn run(args: Mock) -> Result<Exit, Failure> {
    let signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    match args.protocol {
        // Names in the URL: a socket for each, and its messages as they are.
        Speaks::Direct => serve(args, signals, MockBinance::spot(), "/ws").await,
        Speaks::Binance => serve(args, signals, MockBinance::spot(), "").await,
        Speaks::Bybit => serve(args, signals, MockBybit::default(), "/v5").await,
        Speaks::Coinbase => serve(args, signals, MockCoinbase::default(), "").await,
        Speaks::Deribit => serve(args, signals, MockDeribit::default(), "/ws/api/v2").await,
        Speaks::Graphql => serve(args, signals, MockGraphql::default(), "/graphql").await,
        Speaks::Hyperliquid => serve(args, signals, MockHyperliquid::default(), "/ws").await,
        Speaks::Kraken => serve(args, signals, MockKraken::default(), "/v2").await,
        Speaks::JsonRpc => serve(args, signals, MockJsonRpc::default(), "").await,
        Speaks::Okx => serve(args, signals, MockOkx::default(), "/ws/v5").await,
        Speaks::Phoenix => serve(args, signals, MockPhoenix::default(), "/socket/websocket").await,
        Speaks::TradingView => {
            serve(args, signals, MockTradingView::default(), "/socket.io/websocket").await
        }
    }
}

async fn serve(
    args: Mock,
    mut signals: Signals,
    venue: impl Venue,
    path: &str,
) -> Result<Exit, Failure> {
    let feed = Feed::new(venue, args.rate, args.seed, args.lose_every);
    let mock = Running::on_server(troubled(&args, feed), server(&args)).await;
    let mock = mock.map_err(|e| Failure::listen("--listen", args.listen, &e))?;
    // Where nobody reads it, it serves all the same.
    let _ = writeln!(std::io::stdout(), "{}{path}", shown(&mock.url(), args.listen));
    let end = args.limit.and_then(|limit| Instant::now().checked_add(limit));
    tokio::select! {
        () = signals.recv() => {}
        () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {}
    }
    let _ = std::io::stderr().write_all(summary(&mock).as_bytes());
    Ok(Exit::Done)
}

/// All addresses are no address to dial.
fn shown(url: &str, listen: SocketAddr) -> String {
    match listen.ip().is_unspecified() {
        true => url.replacen("0.0.0.0", "127.0.0.1", 1).replacen("[::]", "[::1]", 1),
        false => url.to_owned(),
    }
}

/// What goes wrong on each socket.
fn troubled<V: Venue>(args: &Mock, feed: Feed<V>) -> Faulty<Feed<V>> {
    let faults = [
        (args.garbage_after, Trouble::Garbage(Garbage::BadDataOpcode)),
        (args.close_after, Trouble::Close(1012)),
        (args.drop_after, Trouble::Drop),
        (args.silence_after, Trouble::Silence),
    ];
    faults.into_iter().fold(Faulty::new(feed), |feed, (after, trouble)| match after {
        Some(after) => feed.after(after, trouble),
        None => feed,
    })
}

/// What goes wrong with dials.
fn server(args: &Mock) -> MockServerBuilder {
    let refuse = args.refuse.map(|status| {
        // What each client has to heed, and what none may need.
        Answer::status(status).with_header("retry-after", "1")
    });
    let every = usize::try_from(args.refuse_every).unwrap_or(usize::MAX).max(1);
    let drip: Option<Duration> = args.drip;
    MockServer::builder().listen(args.listen).dials(move |number| {
        let refused = refuse.clone().filter(|_| number % every == 0);
        refused.or_else(|| drip.map(|every| Answer::Drip { every }))
    })
}

/// What there was, and what its clients did wrong.
fn summary<S: wsmux::test_util::Service>(mock: &Running<S>) -> String {
    let (dials, faults) = (mock.server().map_or(0, MockServer::dials), mock.faults());
    let mut text = format!("dials: {dials}, sockets: {}\n", mock.opened());
    if !faults.is_empty() {
        // Writing into a string does not fail.
        let _ = writeln!(text, "mistakes of clients: {}", faults.len());
    }
    for fault in faults.iter().take(TOLD) {
        let _ = writeln!(text, "  socket {}: {}", fault.socket, escaped(&fault.what));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_are_shown_as_one_that_can_be_dialled() {
        let url = |url, listen: &str| shown(url, listen.parse().unwrap());
        assert_eq!(url("ws://0.0.0.0:80", "0.0.0.0:80"), "ws://127.0.0.1:80");
        assert_eq!(url("ws://[::]:80", "[::]:80"), "ws://[::1]:80");
        assert_eq!(url("ws://127.0.0.1:80", "127.0.0.1:0"), "ws://127.0.0.1:80");
    }
}
