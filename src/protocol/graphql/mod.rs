//! GraphQL over one socket: operations by name, as graphql-transport-ws has them.

mod operation;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use self::operation::Defined;
use self::session::Operations;
use super::json::{InvalidJson, object, quote, with_field};
use super::{
    Dial, DialError, DisconnectReason, Failure, Lane, Limits, Protocol, Request, Session, Url,
    UrlError, Verdict,
};
use crate::config::Secret;
use crate::name::{InvalidName, StreamName};

pub use operation::Operation;

/// The subprotocol. The older one, called `graphql-ws`, is another language.
const SUBPROTOCOL: &str = "graphql-transport-ws";
/// Operations that a socket carries unless told otherwise. The protocol states no bound.
const CAPACITY: usize = 1000;

/// Subscriptions of a GraphQL server, and queries and mutations on the same socket: the subprotocol
/// `graphql-transport-ws`.
///
/// A name is what an operation is [defined](Self::define) as, or with [`documents`](Self::documents) the
/// document itself; others are refused by `subscribe`. A reader gets the `payload` of each `next`, `{"data":…,"errors":…}`, as a slice of the frame it came in.
///
/// - The protocol confirms no subscription: a name counts as joined as soon as it is asked for. An
///   `error` before any `next` is a refusal ([`Rejected`](crate::CloseReason::Rejected), with the
///   server's first words); after one, and with `complete`, the name has ended, and is asked for again
///   after a delay. Its neighbours are not concerned.
/// - `connection_init` carries [`init`](Self::init), and with
///   [`Credentials::in_band`](crate::Credentials::in_band) the token, [where](Self::token_as) the server
///   wants it. Its `connection_ack` is waited for during
///   [`join_timeout`](field@crate::Config::join_timeout). The protocol has no word for a fresh token: it
///   takes a new socket, make before break.
/// - Pings of the server's are answered, up to 100 in 10 s; [`keep_alive`](Self::keep_alive) has the
///   client send its own.
/// - [`request`](crate::WsManager::request) takes `{"query":…,"variables":…,"operationName":…}` on any name:
///   a query or mutation, whose reply is the payload of its `next`. Where several come (`@defer`, or a
///   subscription), they are [parts](crate::WsManager::request_parts). An `error` is
///   [`Failed`](crate::RequestError::Failed); dropping the request completes it.
///
/// | close code | what it means here |
/// |---|---|
/// | 4400, 4406, 4409, 4429, 4500 (invalid message, subprotocol, id in use, second init, internal error) | [`Fatal`](Verdict::Fatal), as for the reference client |
/// | 4401, 4403 (unauthorized, forbidden) | [`NewToken`](Verdict::NewToken) |
/// | 4408 (init too late), 4504, others | as in the table of [`Verdict`] |
///
/// Sources: "GraphQL over WebSocket Protocol" (`PROTOCOL.md` of graphql-ws 6) and its `client.ts`.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::{GraphqlWs, Operation};
///
/// let prices = Operation::new("subscription ($s: String!) { price(symbol: $s) }")
///     .variables(r#"{"s": "BTC"}"#)?;
/// let manager = WsManager::new(GraphqlWs::new("wss://example.com/graphql")?.define("btc", prices));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct GraphqlWs {
    base: Url,
    capacity: usize,
    init: Option<String>,
    keep_alive: Option<(Duration, Duration)>,
    operations: Arc<Defined>,
    token_as: (String, String),
}

impl GraphqlWs {
    /// The server at `base`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self {
            base: Url::parse(base)?,
            capacity: CAPACITY,
            init: None,
            keep_alive: None,
            operations: Arc::default(),
            token_as: ("Authorization".to_owned(), "Bearer ".to_owned()),
        })
    }

    /// Calls `operation` by `name`. The last definition of a name holds.
    #[must_use]
    pub fn define(mut self, name: impl Into<String>, operation: Operation) -> Self {
        Arc::make_mut(&mut self.operations).by_name.insert(name.into(), operation.payload());
        self
    }

    /// Has a name that is not [defined](Self::define) be the document of a subscription, such as
    /// `subscription { price(symbol: "BTC") }`. Off by default: then such a name is refused. What does not
    /// begin with `subscription` is refused in any case, so that a name is never a query or a mutation.
    #[must_use]
    pub fn documents(mut self) -> Self {
        Arc::make_mut(&mut self.operations).documents = true;
        self
    }

    /// The payload of `connection_init`: a JSON object. None by default.
    ///
    /// # Errors
    ///
    /// When `json` is not an object.
    pub fn init(mut self, json: impl Into<String>) -> Result<Self, InvalidJson> {
        self.init = Some(object(json.into())?);
        Ok(self)
    }

    /// Says the token in the payload of `connection_init` as field `key`, after `prefix`. By default
    /// as `Authorization`, after `Bearer `. With
    /// [`Credentials::in_band`](crate::Credentials::in_band) only.
    #[must_use]
    pub fn token_as(mut self, key: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.token_as = (key.into(), prefix.into());
        self
    }

    /// A `ping` each `interval`, to be answered within `timeout`: for servers behind something that
    /// answers the WebSocket's own pings by itself. None by default; at least 1 ms.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        let least = Duration::from_millis(1);
        self.keep_alive = Some((interval.max(least), timeout.max(least)));
        self
    }

    /// Names per socket; more get further sockets. 1,000 by default. Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names.max(1);
        self
    }

    /// The payload of `connection_init`, with the token.
    fn init_payload(&self, token: Option<&Secret>) -> Option<String> {
        let Some(token) = token else { return self.init.clone() };
        let (key, prefix) = &self.token_as;
        let value = quote(&format!("{prefix}{}", token.expose()));
        Some(with_field(self.init.as_deref().unwrap_or("{}"), key, &value))
    }
}

impl Protocol for GraphqlWs {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        match self.operations.payload(name.as_str()).is_some() {
            true => Ok(Lane::new("graphql")),
            false => Err(InvalidName::Unsupported {
                why: "no operation is defined by this name: see `GraphqlWs::define`",
            }),
        }
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::to(self.base.clone()).subprotocol(SUBPROTOCOL))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        let init = self.init_payload(dial.token);
        Box::new(Operations::new(Arc::clone(&self.operations), init, self.keep_alive))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(self.capacity)
    }

    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        match failure.reason {
            DisconnectReason::Closed { code: Some(4400 | 4406 | 4409 | 4429 | 4500), .. } => {
                Some(Verdict::Fatal)
            }
            DisconnectReason::Closed { code: Some(4504), .. } => Some(Verdict::Retry),
            _ => None,
        }
    }
}

impl fmt::Debug for GraphqlWs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphqlWs")
            .field("base", &self.base)
            .field("capacity", &self.capacity)
            .field("operations", &self.operations.by_name.len())
            .finish_non_exhaustive()
    }
}
