//! Who we are, to the server: a token for each dial, and what a refused one leads to.

use std::future::Future;

use crate::config::{Config, CredentialsError, NoToken, Secret};
use crate::engine::tokens::{Issued, Tokens};
use crate::protocol::{DisconnectReason, Request};
use crate::transport::TransportError;

/// What has come of a connection's tokens.
pub(super) struct Trust {
    /// Whether a fresh token was dialled with at once since a socket was last stable: a server that
    /// takes each token and soon refuses it is no reason for a hot loop.
    hurried: bool,
    /// The token of the last dial, or that its socket went on with.
    issued: Option<Issued>,
    /// Whether the server refused a token since a name was last joined.
    refused: bool,
    /// Where tokens come from, if there are credentials.
    tokens: Option<Tokens>,
}

/// When the attempt is made that follows on a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    /// After the next delay.
    Later,
    Now,
}

impl Trust {
    pub(super) fn new(tokens: Option<Tokens>) -> Self {
        Self { hurried: false, issued: None, refused: false, tokens }
    }

    /// Asks for a token to dial with, where there are any. A provider that fails is retried as a
    /// server is.
    pub(super) fn ask(
        &self,
    ) -> impl Future<Output = Result<Option<Issued>, TransportError>> + use<> {
        let tokens = self.tokens.clone();
        async move {
            match tokens {
                Some(tokens) => tokens.get().await.map(Some).map_err(no_token),
                None => Ok(None),
            }
        }
    }

    /// `issued` is dialled with.
    pub(super) fn dial_with(&mut self, issued: Option<Issued>) {
        self.issued = issued;
    }

    pub(super) fn token(&self) -> Option<&Secret> {
        self.issued.as_ref().map(Issued::secret)
    }

    /// The token that is dialled with, and where its successors come from.
    pub(super) fn in_use(&self) -> Option<(Tokens, Issued)> {
        self.tokens.clone().zip(self.issued.clone())
    }

    /// Adds the token to what is dialled, and sees to it that nobody on the way can read it.
    pub(super) fn authorize(
        &self,
        request: Request,
        config: &Config,
    ) -> Result<Request, CredentialsError> {
        let url = request.url();
        let is_private = url.is_secure() || url.is_loopback();
        let has_credentials = self.issued.is_some() || url.authorization().is_some();
        if has_credentials && !is_private && !config.plain_text_credentials {
            return Err(CredentialsError::PlainText);
        }
        match (&self.tokens, &self.issued) {
            (Some(tokens), Some(issued)) => request.authorized(tokens.place(), issued.secret()),
            _ => Ok(request),
        }
    }

    /// A socket has ended that last used `issued`.
    pub(super) fn used(&mut self, issued: Option<Issued>, was_joined: bool, was_stable: bool) {
        self.issued = issued;
        self.refused &= !was_joined;
        self.hurried &= !was_stable;
    }

    /// The server refused the token. A fresh one is tried once; `None` if it was, or if there is
    /// nobody to ask.
    pub(super) fn refused(&mut self) -> Option<Then> {
        if let (Some(tokens), Some(issued)) = (&self.tokens, &self.issued) {
            tokens.refuse(issued); // Whoever dials next, be it another connection.
        }
        let was_refused = std::mem::replace(&mut self.refused, true);
        if was_refused || self.tokens.is_none() {
            return None;
        }
        let was_hurried = std::mem::replace(&mut self.hurried, true);
        Some(if was_hurried { Then::Later } else { Then::Now })
    }
}

fn no_token(e: NoToken) -> TransportError {
    TransportError::new(DisconnectReason::Token).with_source(e)
}
