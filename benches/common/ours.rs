//! The side with this crate.

use wsmux::protocol::Direct;
use wsmux::transport::{Tls, Tungstenite};
use wsmux::{Config, DialRate, FromMessage, Limiter, Limits, Subscription, WsManager};

use super::server::{Feed, Server};

/// A manager of streams of `feed` with the default settings, but for how many sockets there may be and
/// how often one may be dialled.
pub(crate) fn manager(server: &Server, feed: Feed) -> WsManager {
    manager_with(server, feed, Config::default())
}

pub(crate) fn manager_with(server: &Server, feed: Feed, config: Config) -> WsManager {
    let direct = Direct::new(&server.base(feed)).unwrap();
    dial_freely(server.address());
    WsManager::builder(direct).config(roomy(config)).build().unwrap()
}

/// The same over TLS.
pub(crate) fn manager_tls(server: &Server, feed: Feed, config: Config) -> WsManager {
    let direct = Direct::new(&server.tls_base(feed)).unwrap();
    let tls = Tls::empty().add_root_der(server.root()).unwrap();
    let transport = Tungstenite::new().tls(tls);
    dial_freely(server.tls_address());
    WsManager::builder(direct).config(roomy(config)).transport(transport).build().unwrap()
}

/// `count` open streams, each with one subscription.
pub(crate) async fn subscribe_many<T: FromMessage>(
    manager: &WsManager,
    count: usize,
) -> Vec<Subscription<T>> {
    let subscribe = |n| manager.subscribe(format!("stream{n}")).unwrap();
    let mut subscriptions: Vec<_> = (0..count).map(subscribe).collect();
    for subscription in &mut subscriptions {
        subscription.ready().await.unwrap();
    }
    subscriptions
}

fn dial_freely((host, port): (&str, u16)) {
    Limiter::process_wide().set_rate(&format!("{host}:{port}"), DialRate::UNLIMITED);
}

fn roomy(config: Config) -> Config {
    let limits = Limits { max_connections: 10_000, ..config.limits };
    Config { limits, ..config }
}
