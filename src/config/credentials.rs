//! The credentials of a manager: a token, who hands it out, and where it goes.
//!
//! Values and a trait. When a token is asked for, kept and given up is the engine's business.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use futures::future::{BoxFuture, FutureExt as _};
use http::header::HeaderName;

use super::Secret;

/// What shows a server who we are, and until when.
///
/// Without an expiry a token is used for one attempt, and the provider is asked anew for the next:
/// right for signatures over the time of day. With one it is kept until
/// [`Config::token_refresh`](crate::Config) before it expires, unless the server refuses it.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use wsmux::Token;
///
/// let token = Token::new("eyJhbGciOi…").expires_at(SystemTime::now() + Duration::from_secs(900));
/// assert!(!format!("{token:?}").contains("eyJ"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    /// When the server will not take it any more, by the wall clock.
    pub expires_at: Option<SystemTime>,
    /// The token itself.
    pub secret: Secret,
}

impl Token {
    /// A token that is used for one attempt.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self { expires_at: None, secret: secret.into() }
    }

    /// Sets when it expires: it is used until shortly before that. A date that has passed says
    /// nothing: such a token is used for one attempt.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }
}

/// Why a provider is asked for a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum TokenReason {
    /// A socket is to be opened.
    Dial,
    /// The last token expires soon, and sockets are open that were opened with it.
    Expiring,
    /// The server refused the last token: a provider that keeps tokens must not hand out that one.
    Refused,
    /// The program asked for a fresh one:
    /// [`rotate_credentials`](crate::WsManager::rotate_credentials).
    Rotation,
}

/// Hands out [`Token`]s.
///
/// A closure is one: `|_| async { Ok::<_, io::Error>(Token::new(fetch().await?)) }`. So is a
/// [`Token`] that never changes.
///
/// It is called for each attempt to open a socket for which there is no token, and by one caller at
/// a time: connections that dial together share what comes of it. The future is polled on their
/// tasks, so it must not block. It is dropped when nobody waits for it any more, and at
/// [`Config::token_timeout`](crate::Config).
///
/// What fails is retried as a failed dial is. A panic is a failure like others. The text of an
/// error may hold what only the provider knows to be secret, so it is neither logged nor printed:
/// see [`NoToken`].
pub trait TokenProvider: Send + Sync + 'static {
    /// A token to be used now.
    ///
    /// # Errors
    ///
    /// When there is none for now.
    fn token(
        &self,
        reason: TokenReason,
    ) -> impl Future<Output = Result<Token, Box<dyn StdError + Send + Sync>>> + Send;
}

impl<F, Fut, E> TokenProvider for F
where
    F: Fn(TokenReason) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token, E>> + Send,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn token(&self, reason: TokenReason) -> Result<Token, Box<dyn StdError + Send + Sync>> {
        self(reason).await.map_err(Into::into)
    }
}

/// Always the same.
impl TokenProvider for Token {
    async fn token(&self, _: TokenReason) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        Ok(self.clone())
    }
}

/// The object-safe form of [`TokenProvider`].
pub(crate) trait DynTokenProvider: Send + Sync {
    fn token(
        &self,
        reason: TokenReason,
    ) -> BoxFuture<'_, Result<Token, Box<dyn StdError + Send + Sync>>>;
}

impl<P: TokenProvider> DynTokenProvider for P {
    fn token(
        &self,
        reason: TokenReason,
    ) -> BoxFuture<'_, Result<Token, Box<dyn StdError + Send + Sync>>> {
        TokenProvider::token(self, reason).boxed()
    }
}

/// How a manager shows a server who it is: a [`TokenProvider`], and where its tokens go.
///
/// Handed to [`WsManagerBuilder::credentials`](crate::WsManagerBuilder::credentials). The engine adds
/// the token to what the protocol dials, whatever protocol that is. A protocol sees it too, as
/// [`Dial::token`](crate::protocol::Dial) and [`Cx::token`](crate::protocol::Cx::token).
///
/// | where | server reads |
/// |---|---|
/// | [`new`](Self::new) | `Authorization: Bearer <token>` |
/// | [`in_header`](Self::in_header) | `<name>: <token>` |
/// | [`in_query`](Self::in_query) | `?<name>=<token>`, percent-encoded |
/// | [`in_subprotocol`](Self::in_subprotocol) | `Sec-WebSocket-Protocol: <prefix><token>` |
/// | [`in_band`](Self::in_band) | what the protocol sends |
///
/// Proxies and servers write URLs into their logs, so prefer a header where there is a choice.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use wsmux::protocol::Direct;
/// use wsmux::{Credentials, Token, TokenReason, WsManager};
///
/// # async fn fetch() -> Result<String, std::io::Error> { Ok(String::new()) }
/// let credentials = Credentials::new(async |_: TokenReason| {
///     let token = Token::new(fetch().await?);
///     Ok::<_, std::io::Error>(token.expires_at(SystemTime::now() + Duration::from_secs(900)))
/// });
/// let manager = WsManager::builder(Direct::new("wss://host/ws")?)
///     .credentials(credentials.in_query("token"))
///     .build()?;
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[derive(Clone)]
pub struct Credentials {
    pub(crate) place: Place,
    pub(crate) provider: Arc<dyn DynTokenProvider>,
}

/// Where a token goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Band,
    Bearer,
    Header(HeaderName),
    Query(String),
    /// After this prefix.
    Subprotocol(String),
}

impl Credentials {
    /// The tokens of `provider`, as `Authorization: Bearer` (RFC 6750 §2.1).
    pub fn new(provider: impl TokenProvider) -> Self {
        Self { place: Place::Bearer, provider: Arc::new(provider) }
    }

    /// Puts the token alone into the header `name`, in place of what the protocol has there.
    #[must_use]
    pub fn in_header(mut self, name: HeaderName) -> Self {
        self.place = Place::Header(name);
        self
    }

    /// Adds the token to the URL's query, as parameter `name`. Both are percent-encoded.
    #[must_use]
    pub fn in_query(mut self, name: impl Into<String>) -> Self {
        self.place = Place::Query(name.into());
        self
    }

    /// Asks for a subprotocol of `prefix` and the token, after those of the protocol: what browsers
    /// are made to do, which can set no header.
    #[must_use]
    pub fn in_subprotocol(mut self, prefix: impl Into<String>) -> Self {
        self.place = Place::Subprotocol(prefix.into());
        self
    }

    /// Adds the token to no handshake: the protocol sends it in a message.
    #[must_use]
    pub fn in_band(mut self) -> Self {
        self.place = Place::Band;
        self
    }
}

impl<P: TokenProvider> From<P> for Credentials {
    fn from(provider: P) -> Self {
        Self::new(provider)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Why credentials cannot be sent. No other attempt mends it, so it ends the streams, as
/// [`CloseReason::NoRequest`](crate::CloseReason::NoRequest).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The token is empty.
    Empty,
    /// The token has characters that no header can carry: a line break, say, or one beyond ASCII.
    Header,
    /// The URL is `ws://`, and its host another machine.
    PlainText,
    /// The token has characters that no subprotocol can have (RFC 6455 §4.1): `=` or `/`, say.
    Subprotocol,
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the token is empty: look at what the provider returns",
            Self::Header => {
                "the token has characters that a header cannot carry: look for a line break at its \
                 end, or send it as `in_query`"
            }
            Self::PlainText => {
                "`ws://` would show the credentials to everybody on the way: use `wss://`, or set \
                 `Config::plain_text_credentials`"
            }
            Self::Subprotocol => {
                "the token has characters that a subprotocol cannot have, such as `=` or `/`: encode \
                 it as base64url without padding, or send it elsewhere"
            }
        })
    }
}

impl StdError for CredentialsError {}

/// Why there was no token: what caused a [`DisconnectReason::Token`](crate::DisconnectReason), as its
/// [`get_ref`](crate::transport::TransportError::get_ref).
///
/// Of the provider's own error it shows no more than the kind of an [`io::Error`] in it, since its
/// words may hold a secret. [`provider`](Self::provider) has it all.
#[derive(Clone)]
pub struct NoToken(Arc<Cause>);

pub(crate) enum Cause {
    Failed(Box<dyn StdError + Send + Sync>),
    Panicked,
    TimedOut,
}

impl NoToken {
    pub(crate) fn new(cause: Cause) -> Self {
        Self(Arc::new(cause))
    }

    /// The provider's error, if it returned one.
    #[must_use]
    pub fn provider(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        match &*self.0 {
            Cause::Failed(e) => Some(&**e),
            Cause::Panicked | Cause::TimedOut => None,
        }
    }

    /// The kind of the first I/O error of the provider's.
    fn io_kind(&self) -> Option<io::ErrorKind> {
        let mut next = self.provider().map(|e| e as &(dyn StdError + 'static));
        while let Some(e) = next {
            if let Some(e) = e.downcast_ref::<io::Error>() {
                return Some(e.kind());
            }
            next = e.source();
        }
        None
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Cause::Failed(_) => {
                f.write_str("its provider failed")?;
                self.io_kind().map_or(Ok(()), |kind| write!(f, " ({kind})"))
            }
            Cause::Panicked => f.write_str("its provider panicked"),
            Cause::TimedOut => f.write_str("its provider took longer than `token_timeout`"),
        }
    }
}

impl fmt::Debug for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoToken({self})")
    }
}

/// Without a source: the words below may hold a secret.
impl StdError for NoToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_print_of_credentials_shows_a_secret() {
        let token = Token::new("canary").expires_at(SystemTime::UNIX_EPOCH);
        assert_eq!(format!("{:?} {:#?}", token.secret, token.secret), "*** ***");
        assert!(!format!("{token:?}").contains("canary"));
        let credentials = Credentials::from(token).in_subprotocol("bearer.");
        assert!(!format!("{credentials:?}").contains("canary"));
    }

    #[test]
    fn a_providers_error_shows_its_kind_and_none_of_its_words() {
        let e = io::Error::new(io::ErrorKind::ConnectionRefused, "canary");
        let no_token = NoToken::new(Cause::Failed(Box::new(e)));
        assert_eq!(no_token.to_string(), "its provider failed (connection refused)");
        assert_eq!(NoToken::new(Cause::Failed("canary".into())).to_string(), "its provider failed");
        assert!(!format!("{no_token:?}").contains("canary") && no_token.source().is_none());
        assert_eq!(no_token.provider().unwrap().to_string(), "canary");
    }

    #[tokio::test]
    async fn closures_and_tokens_are_providers() {
        let closure = |_| async { Ok::<_, io::Error>(Token::new("a")) };
        let asynchronous = async |_: TokenReason| Ok::<_, io::Error>(Token::new("b"));
        for (credentials, secret) in [
            (Credentials::from(closure), "a"),
            (Credentials::from(asynchronous), "b"),
            (Credentials::from(Token::new("c")), "c"),
        ] {
            let token = credentials.provider.token(TokenReason::Dial).await.unwrap();
            assert_eq!(token.secret.expose(), secret);
        }
    }
}
