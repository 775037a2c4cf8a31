//! The notice that a server is about to go.

use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::Cx;
use crate::protocol::json::pick;

/// A socket that is told to go is replaced at once, unless it has just opened: a server that tells
/// each of its sockets so would be dialled without end.
const YOUNG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(super) struct Going {
    is_said: bool,
    opened: Option<Instant>,
}

impl Going {
    pub(super) fn open(&mut self, cx: &Cx<'_>) {
        self.opened = Some(cx.now());
    }

    /// The server is about to go; it does not say when ("as soon as possible").
    pub(super) fn say(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.is_said, true) {
            let is_young = self.opened.is_some_and(|at| cx.now() - at < YOUNG);
            cx.reconnect(if is_young { PATIENCE } else { Duration::ZERO });
        }
    }
}

/// Whether an event is that notice.
pub(super) fn is_shutdown(event: &str) -> bool {
    let kind = pick(event, ["e"]).ok().and_then(|[kind]| kind);
    kind.is_some_and(|kind| kind.as_str() == r#""serverShutdown""#)
}
