//! What a mock exchange says as time goes by, in each venue's words.
//!
//! - What is said on a name follows from the name, the seed, and how often something was said on it;
//!   only times are those of the clock.
//! - Names are chosen by clients: [`MOST`] have a feed, others stay silent.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::Instant;
use wsmux::Message;
use wsmux::test_util::{
    Answer, Handshake, MockBinance, MockBybit, MockCoinbase, MockDeribit, MockGraphql,
    MockHyperliquid, MockJsonRpc, MockKraken, MockOkx, MockPhoenix, MockTradingView, Out, Service,
    SocketId, Tape,
};
use wsmux::transport::Frame;

/// How many names have a feed.
const MOST: usize = 1024;
/// What is made up for where the machine was too slow.
const CATCH_UP: Duration = Duration::from_millis(100);

/// A venue that has something to say.
pub(super) trait Venue: Service {
    /// Says the next message of each name that somebody has.
    fn round(&mut self, names: &mut Names, out: &mut Out);
}

/// A venue, and the time.
pub(super) struct Feed<V> {
    every: Duration,
    names: Names,
    next: Instant,
    venue: V,
}

impl<V: Venue> Feed<V> {
    /// `rate` messages per second of each name. Of each name, every `lose`th is lost.
    pub(super) fn new(venue: V, rate: u32, seed: u64, lose: Option<u64>) -> Self {
        let every = Duration::from_secs(1) / rate.max(1);
        let names = Names { lines: HashMap::new(), lose, seed };
        Self { every, names, next: Instant::now() + every, venue }
    }
}

impl<V: Venue> Service for Feed<V> {
    fn answer(&self) -> Answer {
        self.venue.answer()
    }

    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        self.venue.open(socket, dial, out);
    }

    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        self.venue.receive(socket, message, out);
    }

    fn control(&mut self, socket: SocketId, frame: &Frame, out: &mut Out) {
        self.venue.control(socket, frame, out);
    }

    fn gone(&mut self, socket: SocketId) {
        self.venue.gone(socket);
    }

    fn deadline(&self) -> Option<Instant> {
        self.venue.deadline().into_iter().chain([self.next]).min()
    }

    fn tick(&mut self, out: &mut Out) {
        let now = out.now();
        if self.venue.deadline().is_some_and(|due| due <= now) {
            self.venue.tick(out);
        }
        if now.saturating_duration_since(self.next) > CATCH_UP.max(self.every) {
            self.next = now;
        }
        while self.next <= now {
            self.next += self.every;
            self.venue.round(&mut self.names, out);
        }
    }
}

/// How far each name has come.
pub(super) struct Names {
    lines: HashMap<String, Line>,
    lose: Option<u64>,
    seed: u64,
}

struct Line {
    count: u64,
    /// In hundredths.
    price: u64,
    rng: StdRng,
    /// Where the name is one of Binance's.
    tape: Option<Tape>,
}

/// What is next on a name.
struct Next<T> {
    is_lost: bool,
    message: T,
}

impl Names {
    /// The next message of one of Binance's streams.
    fn tape(&mut self, name: &str) -> Option<Next<Message>> {
        let lose = self.lose;
        let line = self.line(name)?;
        let message = line.tape.as_mut()?.next(millis());
        Some(Next { is_lost: line.counted(lose), message })
    }

    /// The next row of any other name: its number, a price, and the time in milliseconds.
    fn row(&mut self, name: &str) -> Option<Next<Value>> {
        let lose = self.lose;
        let line = self.line(name)?;
        let is_lost = line.counted(lose);
        line.price = (line.price + line.rng.random_range(0..=10)).saturating_sub(5).max(100);
        let price = format!("{}.{:02}", line.price / 100, line.price % 100);
        let message = json!({"n": line.count, "px": price, "ts": millis()});
        Some(Next { is_lost, message })
    }

    fn line(&mut self, name: &str) -> Option<&mut Line> {
        if !self.lines.contains_key(name) {
            if self.lines.len() >= MOST {
                return None;
            }
            self.lines.insert(name.to_owned(), Line::new(name, self.seed));
        }
        self.lines.get_mut(name)
    }
}

impl Line {
    fn new(name: &str, seed: u64) -> Self {
        // FNV-1a: the same in every build.
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        let mut rng = StdRng::seed_from_u64(seed ^ name.bytes().fold(0xCBF2_9CE4_8422_2325, step));
        let price = rng.random_range(1000..7_000_000);
        Self { count: 0, price, rng, tape: Tape::new(name, seed) }
    }

    /// Counts a message, and tells whether it is lost.
    fn counted(&mut self, lose: Option<u64>) -> bool {
        self.count += 1;
        lose.is_some_and(|every| self.count % every == 0)
    }
}

impl Venue for MockBinance {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        let wanted: BTreeSet<String> = self.names().into_iter().flatten().collect();
        for name in wanted {
            let Some(next) = names.tape(&name).filter(|next| !next.is_lost) else { continue };
            if let Some(payload) = next.message.as_text() {
                self.publish(&name, payload, out);
            }
        }
    }
}

impl Venue for MockBybit {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for topic in self.topics().into_iter().collect::<BTreeSet<_>>() {
            let Some(next) = names.row(&topic) else { continue };
            match (topic.starts_with("orderbook."), next.is_lost) {
                (true, true) => self.lose_update(&topic),
                (true, false) => drop(self.update(&topic, out)),
                (false, true) => {}
                (false, false) => drop(self.publish(&topic, &json!([next.message]), out)),
            }
        }
    }
}

impl Venue for MockCoinbase {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for name in self.names().into_iter().collect::<BTreeSet<_>>() {
            let Some(next) = names.row(&name) else { continue };
            // Its numbers are those of the socket.
            if next.is_lost {
                self.lose();
            } else {
                let (channel, product) = name.split_once(':').unwrap_or((&name, ""));
                self.publish(channel, &[(product, number(&next.message))], out);
            }
        }
    }
}

impl Venue for MockDeribit {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for channel in self.channels().into_iter().collect::<BTreeSet<_>>() {
            let Some(next) = names.row(&channel) else { continue };
            match (channel.starts_with("book."), next.is_lost) {
                (true, true) => self.lose_change(&channel),
                (true, false) => drop(self.change(&channel, out)),
                (false, true) => {}
                (false, false) => drop(self.publish(&channel, &next.message, out)),
            }
        }
    }
}

impl Venue for MockGraphql {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for document in self.documents() {
            if let Some(next) = names.row(&document).filter(|next| !next.is_lost) {
                self.publish(&document, &json!({"data": next.message}), out);
            }
        }
    }
}

impl Venue for MockHyperliquid {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        let mut subscriptions = self.subscriptions();
        subscriptions.sort_by_key(Value::to_string);
        subscriptions.dedup();
        for subscription in subscriptions {
            let next = names.row(&subscription.to_string());
            if let Some(next) = next.filter(|next| !next.is_lost) {
                self.publish(&subscription, number(&next.message), out);
            }
        }
    }
}

impl Venue for MockKraken {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for name in self.names().into_iter().collect::<BTreeSet<_>>() {
            let Some(next) = names.row(&name) else { continue };
            // Only channels of an account have numbers.
            if next.is_lost {
                self.lose(&name);
            } else {
                self.publish(&name, &next.message, out);
            }
        }
    }
}

impl Venue for MockJsonRpc {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        let kinds = self.subscriptions();
        let kinds: BTreeSet<_> = kinds.iter().filter_map(|params| params[0].as_str()).collect();
        for kind in kinds {
            if let Some(next) = names.row(kind).filter(|next| !next.is_lost) {
                self.publish(kind, &next.message, out);
            }
        }
    }
}

impl Venue for MockOkx {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        let mut args = self.args();
        args.sort_by_key(Value::to_string);
        args.dedup();
        for arg in args {
            let Some(next) = names.row(&arg.to_string()) else { continue };
            let is_book = arg["channel"].as_str().is_some_and(|name| name.starts_with("books"));
            match (is_book, next.is_lost) {
                (true, true) => self.lose_update(&arg),
                (true, false) => drop(self.update(&arg, out)),
                (false, true) => {}
                (false, false) => drop(self.publish(&arg, &next.message, out)),
            }
        }
    }
}

impl Venue for MockPhoenix {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for topic in self.topics().into_iter().collect::<BTreeSet<_>>() {
            if let Some(next) = names.row(&topic).filter(|next| !next.is_lost) {
                self.publish(&topic, "tick", &next.message, out);
            }
        }
    }
}

impl Venue for MockTradingView {
    fn round(&mut self, names: &mut Names, out: &mut Out) {
        for symbol in self.symbols() {
            let Some(next) = names.row(&symbol).filter(|next| !next.is_lost) else { continue };
            let row = next.message;
            let price: Option<f64> = row["px"].as_str().and_then(|price| price.parse().ok());
            let quote = json!({"lp": price, "lp_time": row["ts"], "volume": row["n"]});
            self.publish(&symbol, &quote, out);
        }
    }
}

/// The number of a row, where a mock makes its messages of one.
fn number(row: &Value) -> u32 {
    row["n"].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(u32::MAX)
}

fn millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(seed: u64, lose: Option<u64>) -> Names {
        Names { lines: HashMap::new(), lose, seed }
    }

    #[test]
    fn a_seed_decides_all_but_the_time() {
        let rows = |seed, name: &str| {
            let mut names = names(seed, None);
            let mut row = || {
                let mut row = names.row(name).unwrap().message;
                row["ts"] = Value::Null;
                row.to_string()
            };
            (0..100).map(|_| row()).collect::<Vec<_>>()
        };
        assert_eq!(rows(1, "a"), rows(1, "a"));
        assert_ne!(rows(1, "a"), rows(2, "a"));
        assert_ne!(rows(1, "a"), rows(1, "b"));
    }

    #[test]
    fn every_third_of_each_name_is_lost_and_counts_all_the_same() {
        let mut names = names(0, Some(3));
        for name in ["a", "b", "btcusdt@trade"] {
            let lost: Vec<_> = (0..9).map(|_| names.row(name).unwrap().is_lost).collect();
            let third = [false, false, true];
            assert_eq!(lost, [third, third, third].concat(), "{name}");
        }
        assert_eq!(names.row("a").unwrap().message["n"], 10);
    }

    #[test]
    fn more_names_than_can_be_kept_stay_silent() {
        let mut names = names(0, None);
        assert!((0..MOST).all(|n| names.row(&n.to_string()).is_some()));
        assert!(names.row("one more").is_none());
        assert!(names.row("0").is_some());
    }
}
