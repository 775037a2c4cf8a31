//! JSON-RPC 2.0 with subscriptions: by ids, as Ethereum's nodes give them, and by channels, as Deribit
//! has them.

mod calls;
mod channels;
mod deribit;
mod pubsub;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::sync::Arc;

use serde::de::IgnoredAny;

use self::pubsub::{PubSub, split};
use self::session::Rpc;
use super::json::{InvalidJson, compact};
use super::{Dial, DialError, Lane, Limits, Protocol, Request, Session, Url, UrlError};
use crate::name::{InvalidName, StreamName};

pub use deribit::Deribit;

/// Names that a socket carries unless told otherwise. Nodes state no bound of their own.
const CAPACITY: usize = 1000;

/// Subscriptions of an Ethereum node, and calls to it, all on one socket: JSON-RPC 2.0 with
/// `eth_subscribe`.
///
/// | name | what its readers get |
/// |---|---|
/// | `newHeads` ([`NEW_HEADS`](Self::NEW_HEADS)) | the header of each new block |
/// | `newPendingTransactions` ([`NEW_PENDING_TRANSACTIONS`](Self::NEW_PENDING_TRANSACTIONS)) | the hash of each |
/// | `logs {"address":…,"topics":…}` ([`logs`](Self::logs)) | the logs that match |
/// | `syncing` | what changes in it |
/// | any kind of the node's, followed by a space and its further parameters as JSON, with commas | its `result`, as it is |
///
/// A reader gets `params.result` of each notice, as a slice of the frame it came in. Names that are spelled
/// differently are different subscriptions. What comes before the node's answer is held (256
/// messages, 4 MiB; beyond that the name begins with a [`Gap`](crate::Gap)), what comes under an id
/// that nobody has is counted as unroutable. Where the socket is lost, each name has one gap: nodes
/// replay nothing.
///
/// A name that the node refuses is [rejected](crate::CloseReason::Rejected) alone, with the node's words
/// and code. After an internal error, "resource unavailable" or "limit exceeded" (−32603, −32002,
/// −32005; EIP-1474) it is asked for again after a delay.
///
/// [`request`](crate::WsManager::request) takes `{"method":…,"params":…}` on any name, gives it a number of
/// its own, and resolves with the `result`; an error object is [`Failed`](crate::RequestError::Failed).
/// [`send`](crate::WsManager::send) takes the same and wants no answer. Answers may come in any order and
/// in batches. Calls go out one per frame, as not all servers take batches.
///
/// Sources: JSON-RPC 2.0 Specification; go-ethereum, "Real-time events"; EIP-1474.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::JsonRpc;
///
/// let manager = WsManager::new(JsonRpc::new("ws://127.0.0.1:8545")?);
/// let usdc = JsonRpc::logs(r#"{"address": "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"}"#)?;
/// assert!(usdc.starts_with("logs {"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JsonRpc {
    base: Url,
    capacity: usize,
    namespace: Arc<str>,
}

impl JsonRpc {
    /// The name of new blocks' headers.
    pub const NEW_HEADS: &'static str = "newHeads";
    /// The name of the hashes of transactions that wait for a block.
    pub const NEW_PENDING_TRANSACTIONS: &'static str = "newPendingTransactions";

    /// The node at `base`.
    ///
    /// # Errors
    ///
    /// When `base` is not a `ws://` or `wss://` URL.
    pub fn new(base: &str) -> Result<Self, UrlError> {
        Ok(Self { base: Url::parse(base)?, capacity: CAPACITY, namespace: "eth".into() })
    }

    /// The name of the logs that match `filter`, a JSON object with `address`, `topics` or both. The
    /// same filter has the same name, whatever its white space.
    ///
    /// # Errors
    ///
    /// When `filter` is not a JSON object.
    pub fn logs(filter: &str) -> Result<String, InvalidJson> {
        Ok(format!("logs {}", compact(filter)?))
    }

    /// Calls `<namespace>_subscribe` and `<namespace>_unsubscribe`. `eth` by default.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Names per socket; more get further sockets. 1,000 by default. Zero counts as one.
    #[must_use]
    pub fn capacity(mut self, names: usize) -> Self {
        self.capacity = names.max(1);
        self
    }
}

impl Protocol for JsonRpc {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        let (kind, rest) = split(name.as_str());
        let is_json = serde_json::from_str::<Vec<IgnoredAny>>(&format!("[{rest}]")).is_ok();
        match !kind.is_empty() && is_json {
            true => Ok(Lane::new("json-rpc")),
            false => Err(InvalidName::Unsupported {
                why: "a name is a kind of subscription, and after a space its parameters as JSON",
            }),
        }
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::to(self.base.clone()))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Rpc::new(PubSub::new(Arc::clone(&self.namespace))))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(self.capacity)
    }
}

impl fmt::Debug for JsonRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonRpc")
            .field("base", &self.base)
            .field("capacity", &self.capacity)
            .field("namespace", &self.namespace)
            .finish()
    }
}
