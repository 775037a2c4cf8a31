//! `cargo run --release --example conflated_dashboard`: the latest prices of ten symbols, drawn ten
//! times a second; while it draws, new prices take the place of those it has not come to. Ends with
//! Ctrl-C or `WSMUX_DEMO_SECONDS`. Needs no network, and draws nothing where there is no terminal.

use std::io::{self, IsTerminal as _, Write};
use std::{collections::BTreeMap, env, error::Error, pin::pin, time::Duration};

use futures::StreamExt as _;
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::layout::{Constraint::Length, Rect};
use ratatui::widgets::{Block, Row, Table};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use tokio::{select, signal::ctrl_c, time::interval, time::timeout};
use wsmux::test_util::MockExchange;
use wsmux::{StreamName, WsManager, WsStreamExt as _};

#[derive(serde::Deserialize)]
struct Trade {
    p: String, // Binance's name for the price
}

/// What is shown of each name: its price, how many prices were taken, and the last notice.
type Board = BTreeMap<StreamName, (String, u64, String)>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exchange = MockExchange::builder().rate(2_000).start().await?;
    let manager = WsManager::connect(&exchange.url())?;
    let symbols = ["ada", "bnb", "btc", "doge", "dot", "eth", "ltc", "sol", "trx", "xrp"];
    let trades = manager.subscribe_all::<Trade>(symbols.map(|s| format!("{s}usdt@trade")))?;
    // Of each name the latest price and the latest notice: neither takes the other's place.
    let mut latest = trades.conflate_by(|(name, item)| (name.clone(), item.is_ok()));
    let out: Box<dyn Write> =
        if io::stdout().is_terminal() { Box::new(io::stdout()) } else { Box::new(io::sink()) };
    let viewport = Viewport::Fixed(Rect::new(0, 0, 80, 13));
    let mut terminal =
        Terminal::with_options(CrosstermBackend::new(out), TerminalOptions { viewport })?;
    terminal.backend_mut().clear()?;

    let seconds = env::var("WSMUX_DEMO_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let limit = seconds.map_or(Duration::MAX, Duration::from_secs);
    let mut stop = pin!(timeout(limit, ctrl_c()));
    let (mut board, mut frames, mut ticks) =
        (Board::new(), 0, interval(Duration::from_millis(100)));
    loop {
        select! {
            Some((name, item)) = latest.next() => {
                let (price, taken, news) = board.entry(name).or_default();
                match item {
                    Ok(trade) => (*price, *taken) = (trade.p, *taken + 1),
                    Err(notice) => *news = notice.to_string(),
                }
            }
            _ = ticks.tick() => {
                terminal.draw(|frame| draw(frame, &board))?;
                frames += 1;
                if frames == 15 {
                    exchange.drop_sockets(); // so that there is a notice to see
                }
            }
            _ = &mut stop => break,
        }
    }
    terminal.set_cursor_position((0, 13)).and_then(|()| terminal.show_cursor())?;
    let taken: u64 = board.values().map(|(_, taken, _)| taken).sum();
    let metrics = manager.metrics();
    print!("conflated_dashboard: {} symbols, {} messages, ", board.len(), metrics.messages);
    println!("{taken} prices taken, {frames} frames, {} lagged", metrics.lagged);
    Ok(())
}

fn draw(frame: &mut Frame<'_>, board: &Board) {
    let rows = board.iter().map(|(name, (price, taken, news))| {
        Row::new([name.to_string(), price.clone(), taken.to_string(), news.clone()])
    });
    let table = Table::new(rows, [16, 10, 8, 40].map(Length))
        .header(Row::new(["name", "price", "taken", "last notice"]))
        .block(Block::bordered().title(" latest prices "));
    frame.render_widget(table, frame.area());
}
