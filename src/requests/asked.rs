//! How a request ended, and what can be learned of it.

use std::time::Duration;

use crate::error::RequestError;
use crate::manager::Reply;

#[derive(Clone)]
pub(super) struct Asked {
    pub(super) outcome: Result<Reply, RequestError>,
    /// From an open connection to the end, if it had one when it began.
    pub(super) took: Option<Duration>,
}

impl Asked {
    /// It tells nothing of how long the server takes.
    pub(super) fn unmeasured(outcome: Result<Reply, RequestError>) -> Self {
        Self { outcome, took: None }
    }
}
