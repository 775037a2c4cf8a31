//! Channels over one socket, as Phoenix has them.

mod dialect;
mod event;
mod session;
mod supabase;
#[cfg(test)]
mod tests;
mod want;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;

use self::dialect::Dialect;
use self::session::Channels;
use self::want::Want;
use self::wire::Version;
use super::json::{InvalidJson, object, quote, with_field};
use super::{Dial, DialError, Lane, Limits, Protocol, Request, Session, Url, UrlError};
use crate::config::Secret;
use crate::name::{InvalidName, StreamName};

pub use event::ChannelEvent;
pub use supabase::{Changes, Supabase, SupabaseChannel};

/// Channels that a socket carries unless told otherwise: the `max_channels_per_transport` of
/// `Phoenix.Socket`.
const CHANNELS: usize = 100;

/// Channels of a [Phoenix](https://hexdocs.pm/phoenix/channels.html) server, all on one socket.
///
/// | name | what its readers get |
/// |---|---|
/// | `room:1#new_msg` | the payload of each `new_msg` on the topic `room:1` |
/// | `room:1` or `room:1#*` | every event on `room:1`, as a whole: see [`ChannelEvent`] |
///
/// A topic is joined once for all its names, and left with the last of them. A name of a topic that
/// holds a `#` needs its event: `a#b#*`. Names of one topic share its fate: what the server refuses is
/// rejected for all of them, and a channel that crashes or is closed is joined again after a delay.
/// Another channel is never disturbed.
///
/// [`send`](crate::WsManager::send) on `room:1#new_msg` pushes that event with the message as its
/// payload, which must be JSON or, in version 2, binary; on `room:1` the message is
/// `{"event":…,"payload":…}`. Replies to pushes are events of the name `phx_reply`.
///
/// The heartbeat is Phoenix's own: each 30 s, to be answered within 10 s, as `phoenix.js` has it. The
/// server ends a socket on which nothing came for 60 s (`Phoenix.Endpoint.socket/3`, `:timeout`).
///
/// A token is [added to the URL](crate::Credentials::in_query), put into the
/// [join](Self::token_in_join), or into the [subprotocol](Self::token_in_subprotocol). A fresh one
/// takes a new socket, make before break.
///
/// Sources: `Phoenix.Socket.V1.JSONSerializer`, `Phoenix.Socket.V2.JSONSerializer`, `Phoenix.Socket`,
/// and `phoenix.js`, of Phoenix 1.8.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Phoenix;
///
/// let phoenix = Phoenix::new("wss://example.com/socket/websocket")?
///     .params("room:1", r#"{"since": 17}"#)?;
/// let manager = WsManager::new(phoenix);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Phoenix {
    base: Url,
    capacity: usize,
    heartbeat: (Duration, Duration),
    joins: Joins,
    token_in_subprotocol: bool,
    version: Version,
}

/// What is said in a join.
#[derive(Clone, Default)]
struct Joins {
    params: HashMap<String, String>,
    token: Option<String>,
}

impl Phoenix {
    /// The server's socket at `base`, which ends in `/websocket`, over version 2 of the serializer.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self {
            base: Url::parse(base)?,
            capacity: CHANNELS,
            heartbeat: (Duration::from_secs(30), Duration::from_secs(10)),
            joins: Joins::default(),
            token_in_subprotocol: false,
            version: Version::V2,
        })
    }

    /// Speaks version 1 of the serializer: for servers before Phoenix 1.4.
    #[must_use]
    pub fn v1(mut self) -> Self {
        self.version = Version::V1;
        self
    }

    /// Names per socket; more get further sockets. 100 by default, the server's own
    /// `max_channels_per_transport`. Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names.max(1);
        self
    }

    /// A heartbeat each `interval`, to be answered within `timeout`. 30 s and 10 s by default; at least
    /// 1 ms.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        let least = Duration::from_millis(1);
        self.heartbeat = (interval.max(least), timeout.max(least));
        self
    }

    /// What is said when `topic` is joined: a JSON object, `{}` by default.
    ///
    /// # Errors
    ///
    /// When `json` is not an object.
    pub fn params(
        mut self,
        topic: impl Into<String>,
        json: impl Into<String>,
    ) -> Result<Self, InvalidJson> {
        self.joins.params.insert(topic.into(), object(json.into())?);
        Ok(self)
    }

    /// Says the token in each join, as the field `key`, with [`Credentials::in_band`].
    ///
    /// [`Credentials::in_band`]: crate::Credentials::in_band
    #[must_use]
    pub fn token_in_join(mut self, key: impl Into<String>) -> Self {
        self.joins.token = Some(key.into());
        self
    }

    /// Says the token as a subprotocol, as `phoenix.js` does with its `authToken`. With
    /// [`Credentials::in_band`], which adds it nowhere else.
    ///
    /// [`Credentials::in_band`]: crate::Credentials::in_band
    #[must_use]
    pub fn token_in_subprotocol(mut self) -> Self {
        self.token_in_subprotocol = true;
        self
    }
}

/// The topic and event of a name.
fn split(name: &str) -> Result<(&str, Option<&str>), InvalidName> {
    let (topic, event) = match name.rsplit_once('#') {
        Some((topic, "*")) => (topic, None),
        Some((topic, event)) => (topic, Some(event)),
        None => (name, None),
    };
    match (topic, event) {
        ("" | "phoenix", _) => {
            Err(InvalidName::Unsupported { why: "a name needs a topic, which is not `phoenix`" })
        }
        (_, Some("")) => Err(InvalidName::Unsupported {
            why: "there is no event after the `#`: give one, or `*`",
        }),
        place => Ok(place),
    }
}

impl Dialect for Joins {
    fn place(&self, name: &str) -> Result<(String, Want), InvalidName> {
        let (topic, event) = split(name)?;
        Ok((topic.to_owned(), event.map_or(Want::Whole, |event| Want::Event(event.into()))))
    }

    fn join(&self, topic: &str, token: Option<&Secret>) -> String {
        let params = self.params.get(topic).map_or("{}", String::as_str);
        match (&self.token, token) {
            (Some(key), Some(token)) => with_field(params, key, &quote(token.expose())),
            _ => params.to_owned(),
        }
    }
}

impl Protocol for Phoenix {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        split(name.as_str())?;
        Ok(Lane::new("channels"))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let url = self.base.with_parameter("vsn", self.version.parameter());
        let request = Request::to(url).made_from(&self.base);
        Ok(match dial.token.filter(|_| self.token_in_subprotocol) {
            None => request,
            Some(token) => {
                let token = BASE64URL_NOPAD.encode(token.expose().as_bytes());
                request.subprotocol("phoenix").subprotocol(format!("base64url.bearer.phx.{token}"))
            }
        })
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        let dialect = Arc::new(self.joins.clone());
        Box::new(Channels::new(dialect, self.version, self.heartbeat))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(self.capacity)
    }
}

impl fmt::Debug for Phoenix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phoenix")
            .field("base", &self.base)
            .field("version", &self.version)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
