//! Who is let in: the seam between serving and whatever knows users.

use std::net::SocketAddr;

use axum::response::Response;
use futures::future::BoxFuture;
use http::request::Parts;

use super::visitor::{Denied, Visitor};

/// Decides who comes in. Called before a connection is upgraded and before a stream of events begins,
/// so a refusal is an ordinary response: 401, 403, 429.
pub trait Doors: Send + Sync + 'static {
    /// Lets a request in as a visitor, or answers it.
    ///
    /// `peer` is the address of the other end of the TCP connection, where the server tells it
    /// (`into_make_service_with_connect_info`). Cancel safe: where the future is dropped, nothing is
    /// taken.
    ///
    /// # Errors
    ///
    /// The answer for who is not let in.
    fn admit<'a>(
        &'a self,
        parts: &'a Parts,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Result<Visitor, Response>>;

    /// Takes a fresh proof of who `visitor` is, on the open connection, and
    /// [renews](Visitor::renew) it. That of another user is refused.
    ///
    /// # Errors
    ///
    /// When the proof is not good. The visitor stays what it was.
    fn renew<'a>(
        &'a self,
        visitor: &'a Visitor,
        token: &'a str,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        let _ = (visitor, token);
        Box::pin(async { Err(Denied::Proof) })
    }
}

/// Everybody may come in and read everything, and nobody is known. For networks whose every user may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Doors for Open {
    fn admit<'a>(
        &'a self,
        _parts: &'a Parts,
        _peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Result<Visitor, Response>> {
        Box::pin(async { Ok(Visitor::new("anonymous", ())) })
    }
}
