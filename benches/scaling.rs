//! CPU time per message of many names on one socket against few, at the same rate in all, each name
//! read by a task of its own.
//!
//! ```text
//! cargo bench --bench scaling
//! ```
//!
//! Messages come one at a time: in a flood, few names would have many messages per wake-up each.

mod common;

use futures::StreamExt as _;
use tokio::task::JoinSet;
use wsmux::protocol::{Cx, Dial, DialError, Lane, Protocol, Request, Session, To, Url};
use wsmux::{InvalidName, Message, StreamName, WsManager};

use self::common::clock::{Clock, Cost};
use self::common::cpus::pinned;
use self::common::rounds::compare;
use self::common::server::{Feed, Server, serve_if_asked, symbol};
use self::common::{run, runtime};

const COUNT: u64 = 20_000;
const HERTZ: u64 = 20_000;

fn main() {
    serve_if_asked();
    let server = &Server::start();
    let many = || measure(server, 5000);
    let few = || measure(server, 10);
    pinned(|| compare("scaling_5000_names", COUNT, many, few));
}

fn measure(server: &Server, names: u64) -> Cost {
    let feed = Feed::Paced { bytes: 170, count: COUNT, hertz: HERTZ, symbols: names };
    let protocol = Symbols(format!("{}/feed", server.base(feed)));
    let manager = WsManager::builder(protocol).build().unwrap();
    run(&runtime(None), async move {
        let mut subscriptions: Vec<_> =
            (0..names).map(|n| manager.subscribe::<Message>(format!("{n:06}")).unwrap()).collect();
        subscriptions[0].ready().await.unwrap();
        let clock = Clock::start();
        let each = COUNT / names;
        let tasks = subscriptions.into_iter().map(move |mut messages| async move {
            for _ in 0..each {
                messages.next().await.unwrap().unwrap();
            }
        });
        tasks.collect::<JoinSet<_>>().join_all().await;
        let cost = clock.stop();
        manager.shutdown().await;
        cost
    })
}

/// All names on one socket; each message says whose it is.
struct Symbols(String);

impl Protocol for Symbols {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("all"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::to(Url::parse(&self.0)?))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Routing)
    }
}

struct Routing;

impl Session for Routing {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.joined(name.as_str()));
    }

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        cx.data(To::Name(symbol(text)), message.clone());
    }
}
