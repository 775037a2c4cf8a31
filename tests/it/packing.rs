//! Names that come and go, and the sockets that they end on: the whole client, with paused time.

use std::collections::HashMap;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time;
use wsmux::protocol::BinanceCombined;
use wsmux::test_util::{Mock, MockBinance};
use wsmux::{Limiter, Subscription, WsManager};

use crate::{MINUTE, SECOND, config, settle};

/// Names per socket.
const EACH: usize = 16;

#[derive(Debug, Deserialize)]
struct Trade {
    t: u64,
}

/// A reader, and the number that it read last.
struct Reader {
    last: Option<u64>,
    stream: Subscription<Trade>,
}

impl Reader {
    /// Reads what is there: each number once, and no gap.
    fn read(&mut self) -> usize {
        let mut count = 0;
        while let Some(item) =
            tokio::task::unconstrained(self.stream.next()).now_or_never().flatten()
        {
            let trade = item.expect("no gap, and no end");
            assert!(
                self.last.is_none_or(|last| trade.t == last + 1),
                "{} after {:?}",
                trade.t,
                self.last
            );
            self.last = Some(trade.t);
            count += 1;
        }
        count
    }
}

/// A client whose sockets carry a few names each, and its readers.
struct Client {
    chance: u64,
    manager: WsManager,
    mock: Mock<MockBinance>,
    read: usize,
    readers: HashMap<String, Reader>,
}

impl Client {
    fn new() -> Self {
        let (mock, transport) = Mock::in_memory(MockBinance::spot());
        let builder = WsManager::builder(BinanceCombined::spot().capacity(EACH));
        let builder = builder.config(config()).transport(transport).seed(7).limiter(Limiter::new());
        let manager = builder.build().unwrap();
        Self { chance: 7, manager, mock, read: 0, readers: HashMap::new() }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.chance >> 33).unwrap() % below
    }

    /// Joins one that is not there, or leaves one that is.
    fn join_or_leave(&mut self, join: bool) {
        let name = format!("s{}@trade", self.draw(400));
        if join && !self.readers.contains_key(&name) {
            let stream = self.manager.subscribe(&name).unwrap();
            self.readers.insert(name, Reader { last: None, stream });
        } else if !join && !self.readers.is_empty() {
            let mut names: Vec<_> = self.readers.keys().cloned().collect();
            names.sort_unstable();
            let at = self.draw(names.len());
            self.readers.remove(&names[at]);
        }
    }

    /// A trade on each name, and time for all that follows from it.
    async fn trade(&mut self, time: Duration) {
        self.mock.tell(|binance, out| {
            self.readers.keys().for_each(|name| drop(binance.next(name, out)));
        });
        time::sleep(time).await;
        self.read += self.readers.values_mut().map(Reader::read).sum::<usize>();
    }

    /// Sockets that are open, and how many the names fill.
    fn sockets(&self) -> (usize, usize) {
        (self.mock.sockets().len(), self.readers.len().div_ceil(EACH))
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_joins_and_leaves_end_on_as_few_sockets_as_can_be_and_cost_no_message() {
    let mut client = Client::new();
    for step in 0..10_000 {
        // In waves, so that there are holes to be filled.
        let wanted = if step / 1000 % 2 == 0 { 300 } else { 30 };
        let join = client.readers.len() < wanted || client.draw(3) == 0;
        client.join_or_leave(join);
        if step % 20 == 0 {
            client.trade(SECOND).await;
        }
    }
    for _ in 0..120 {
        client.trade(SECOND).await;
    }
    let (sockets, filled) = client.sockets();
    println!(
        "{} names on {sockets} sockets, which fill {filled}; {} sockets in all, {} messages",
        client.readers.len(),
        client.mock.opened(),
        client.read,
    );
    assert!(sockets <= filled + 1, "{sockets} sockets, {filled} are filled");
    assert!(client.read > 50_000);
    assert_eq!(client.mock.faults(), []);
}

#[tokio::test(start_paused = true)]
async fn streams_on_which_nothing_comes_move_too_and_then_there_is_rest() {
    let mut client = Client::new();
    while client.readers.len() < 4 * EACH {
        client.join_or_leave(true);
    }
    settle().await;
    while client.readers.len() > EACH {
        client.join_or_leave(false);
    }
    settle().await;
    assert_eq!(client.sockets(), (4, 1));
    time::sleep(MINUTE).await;
    assert_eq!(client.sockets(), (2, 1));
    client.trade(SECOND).await;
    assert_eq!(client.read, EACH, "on each name one, and no gap");
    time::sleep(10 * MINUTE).await;
    assert_eq!((client.sockets(), client.mock.opened()), ((2, 1), 4));
    assert_eq!(client.mock.faults(), []);
}
