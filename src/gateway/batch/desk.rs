//! What clients may ask, by the owner's word.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::gateway::limits::Places;
use crate::gateway::visitor::Visitor;
use crate::name::StreamName;
use crate::requests::{Call, RequestPool};

/// What a request of a client is sent as; `None` where it may not be made.
pub(in crate::gateway) type Map = dyn Fn(&BatchRequest<'_>) -> Option<Call> + Send + Sync;

/// Where batches are asked, and which.
pub(in crate::gateway) struct Desk {
    pub(super) map: Box<Map>,
    /// Batches that are running, or whose results are not read to the end.
    pub(super) places: Places<()>,
    pub(super) pool: RequestPool,
}

impl Desk {
    pub(in crate::gateway) fn new(pool: RequestPool, map: Box<Map>) -> Self {
        Self { map, places: Places::default(), pool }
    }

    /// Where they are asked.
    pub(in crate::gateway) fn pool(&self) -> &RequestPool {
        &self.pool
    }

    /// How many batches there are now.
    pub(in crate::gateway) fn running(&self) -> usize {
        self.places.count(&())
    }
}

/// One request of a batch, as its client asks it: for
/// [`GatewayBuilder::batch`](crate::gateway::GatewayBuilder::batch).
pub struct BatchRequest<'a> {
    pub(super) name: &'a StreamName,
    pub(super) params: Option<&'a Value>,
    pub(super) visitor: &'a Visitor,
}

impl BatchRequest<'_> {
    /// What it asks for. The visitor [may read](crate::gateway::Standing::may_read) it.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        self.name
    }

    /// What the client says beside it, if that is a `T`. It is the client's word: it has at most the bytes
    /// of a [message](field@crate::gateway::GatewayConfig::max_message), and is else what it is.
    #[must_use]
    pub fn params<T: DeserializeOwned>(&self) -> Option<T> {
        T::deserialize(self.params?).ok()
    }

    /// Whether the client says anything beside the name.
    #[must_use]
    pub fn has_params(&self) -> bool {
        self.params.is_some()
    }

    /// Who asks.
    #[must_use]
    pub fn visitor(&self) -> &Visitor {
        self.visitor
    }
}

impl fmt::Debug for BatchRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchRequest")
            .field("name", &self.name)
            .field("visitor", &self.visitor)
            .finish_non_exhaustive()
    }
}
