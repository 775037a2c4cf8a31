//! What the tests of venues share: a mock in memory, a client of it, and what every one of them has to
//! stand.

use serde_json::Value;
use wsmux::protocol::Protocol;
use wsmux::test_util::{Mock, Service};
use wsmux::{Limiter, Message, Subscription, WsManager, WsManagerBuilder};

use crate::{config, message};

/// A mock, and a client that is to be built yet.
pub(crate) fn builder<S: Service + Default>(
    protocol: impl Protocol,
) -> (Mock<S>, WsManagerBuilder) {
    let (mock, transport) = Mock::in_memory(S::default());
    let builder = WsManager::builder(protocol).config(config()).transport(transport).seed(7);
    (mock, builder.limiter(Limiter::new()))
}

/// A mock, and its client.
pub(crate) fn built<S: Service + Default>(protocol: impl Protocol) -> (Mock<S>, WsManager) {
    let (mock, builder) = builder(protocol);
    (mock, builder.build().unwrap())
}

pub(crate) async fn joined<const N: usize>(
    manager: &WsManager,
    names: [&str; N],
) -> [Subscription<Message>; N] {
    let mut streams = names.map(|name| manager.subscribe(name).unwrap());
    for stream in &mut streams {
        stream.ready().await.unwrap();
    }
    streams
}

/// The next message of a stream.
pub(crate) async fn json(stream: &mut Subscription<Message>) -> Value {
    serde_json::from_str(&message(stream).await).unwrap()
}

pub(crate) fn no_faults<S: Service>(mock: &Mock<S>) {
    assert_eq!(mock.faults(), []);
}

/// JSON of a size and depth that costs whoever recurses.
pub(crate) fn deep() -> String {
    format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000))
}
