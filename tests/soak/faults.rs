//! What goes wrong with the exchange, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use wsmux::WsManager;
use wsmux::test_util::{Answer, MockExchange, Peer};

use super::reader::Order;
use super::session::Place;

/// Streams that a fault of single streams befalls.
const AT_A_TIME: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Sockets are closed with this code.
    Close(u16),
    /// The server reads no more: neither pings nor the closing are answered.
    Deaf,
    /// Sockets end without a close frame.
    Fin,
    /// Readers do not read for a while.
    Lag,
    /// Sockets are reset, and the next dials get half an answer.
    LostDials,
    /// Sockets are reset, and so are the next dials.
    Refuse,
    /// Sockets are reset.
    Reset,
    /// All sockets end, and the port is closed for a moment.
    Restart,
    /// Other sockets take over from some.
    Rotate,
    /// Other sockets take over from all.
    RotateAll,
    /// Sockets fall silent, and the heartbeat has to find it.
    Silence,
    /// Sockets are reset, and the next dials are answered byte by byte.
    SlowDials,
    /// Each message comes late.
    SlowMessages,
    /// Sockets are reset, and the next dials answered with this status; one with 429, which is for
    /// the whole host.
    Status(u16),
}

/// All there are: those that befall all streams once, and most others twice.
pub(crate) static CYCLE: [Trouble; 30] = {
    use Trouble::*;
    [
        RotateAll,
        Reset,
        Close(1001),
        Silence,
        Refuse,
        Close(1012),
        SlowDials,
        Lag,
        Rotate,
        Status(429),
        Fin,
        SlowMessages,
        Deaf,
        Close(1013),
        LostDials,
        Restart,
        Reset,
        Status(503),
        Silence,
        Rotate,
        Lag,
        Close(1000),
        Refuse,
        Close(1001),
        SlowDials,
        Status(429),
        SlowMessages,
        Deaf,
        Rotate,
        Fin,
    ]
};

/// Those that are over within a second, each once.
pub(crate) static QUICK: [Trouble; 10] = {
    use Trouble::*;
    [
        Reset,
        Close(1001),
        Refuse,
        Rotate,
        SlowDials,
        Fin,
        SlowMessages,
        LostDials,
        RotateAll,
        Restart,
    ]
};

/// Deals faults in turn.
pub(crate) struct Dealer {
    cycle: &'static [Trouble],
    exchange: Arc<MockExchange>,
    handle: Handle,
    manager: WsManager,
    turn: usize,
}

impl Dealer {
    pub(crate) fn new(
        exchange: Arc<MockExchange>,
        handle: Handle,
        manager: WsManager,
        cycle: &'static [Trouble],
    ) -> Self {
        Self { cycle, exchange, handle, manager, turn: 0 }
    }

    /// Deals the next fault.
    pub(crate) async fn deal(&mut self, places: &[Place], rng: &mut StdRng) {
        let trouble = self.cycle[self.turn % self.cycle.len()];
        self.turn += 1;
        if let Trouble::Restart | Trouble::RotateAll = trouble {
            places.iter().for_each(|place| blame(place, trouble));
            match trouble {
                Trouble::Restart => self.restart().await,
                _ => self.manager.rotate_credentials(),
            }
            return;
        }
        let server = self.exchange.server();
        server.next_dials(dials(trouble));
        for _ in 0..AT_A_TIME {
            let place = &places[rng.random_range(0..places.len())];
            match trouble {
                Trouble::Lag => drop(place.orders.try_send(Order::Lag)),
                Trouble::Rotate => {
                    blame(place, trouble);
                    self.manager.reconnect(&place.name);
                }
                _ => {
                    for peer in server.peers_on(&MockExchange::path(&place.name)) {
                        if !matches!(trouble, Trouble::Deaf | Trouble::SlowMessages) {
                            blame(place, trouble);
                        }
                        befall(&peer, trouble).await;
                    }
                }
            }
        }
    }

    /// On the exchange's own threads: listening again starts a task.
    async fn restart(&self) {
        let exchange = Arc::clone(&self.exchange);
        let restarted = self.handle.spawn(async move {
            exchange.server().stop_listening().await;
            exchange.drop_sockets();
            exchange.server().resume().await.expect("its own port");
        });
        restarted.await.expect("no panic");
    }
}

/// A gap of this name has a cause from now on.
fn blame(place: &Place, trouble: Trouble) {
    place.causes.breaks.fetch_add(1, Ordering::Relaxed);
    if let Trouble::Rotate | Trouble::RotateAll = trouble {
        place.causes.rotations.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the next dials are answered.
fn dials(trouble: Trouble) -> Vec<Answer> {
    match trouble {
        Trouble::LostDials => vec![Answer::EndOfFile; AT_A_TIME],
        Trouble::Refuse => vec![Answer::Refuse; AT_A_TIME],
        Trouble::SlowDials => vec![Answer::Drip { every: Duration::from_millis(2) }; AT_A_TIME],
        Trouble::Status(status @ 429) => {
            vec![Answer::status(status).with_header("retry-after", "1")]
        }
        Trouble::Status(status) => vec![Answer::status(status); AT_A_TIME],
        _ => Vec::new(),
    }
}

/// What becomes of a socket.
async fn befall(peer: &Peer, trouble: Trouble) {
    match trouble {
        Trouble::Close(code) => drop(peer.close(code, "soaked").await),
        Trouble::Deaf => peer.stall(),
        Trouble::Fin => peer.fin(),
        Trouble::Silence => peer.half_open(),
        Trouble::SlowMessages => peer.delay(Duration::from_millis(100)),
        // The others are of dials, and without a break nobody dials.
        _ => peer.reset(),
    }
}
