//! Who a client is: by a token, an API key or a ticket.
//!
//! | what is shown | where | what it is for |
//! |---|---|---|
//! | a [JSON Web Token](Jwt) | `Authorization: Bearer`, or in-band | users who are known elsewhere |
//! | an [API key](ApiKeys) | the same | programs |
//! | a ticket | `?ticket=`, or in-band | pages, which cannot set headers |
//!
//! - Nothing else is looked at. A token in the query is refused by not being seen: the query is what
//!   proxies write into their logs. A ticket may be there, as it is used when it is logged.
//! - No error, log line or debugging print holds anything that was shown.
//! - All that is wrong is the same error to who shows it.

mod api_keys;
mod error;
mod identity;
mod jwt;
mod tickets;

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;

use self::tickets::Tickets;
use crate::config::Secret;
use crate::gateway::defect::{Defect, seeded};

pub use self::api_keys::ApiKeys;
pub use self::error::{AuthError, KeyError};
pub use self::identity::Identity;
pub use self::jwt::{Jwks, JwksError, Jwt, JwtAlgorithm};
#[cfg(feature = "gateway-http")]
#[cfg_attr(docsrs, doc(cfg(feature = "gateway-http")))]
pub use self::jwt::{JwksServer, JwksServerBuilder};

/// Which proofs are good. By default, none is.
#[derive(Debug, Default)]
#[must_use]
pub struct Auth {
    api_keys: ApiKeys,
    jwt: Option<Jwt>,
    tickets: Tickets,
}

impl Auth {
    /// No proof is good.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which API keys are good.
    pub fn api_keys(mut self, keys: ApiKeys) -> Self {
        self.api_keys = keys;
        self
    }

    /// Sets which tokens are good.
    pub fn jwt(mut self, jwt: Jwt) -> Self {
        self.jwt = Some(jwt);
        self
    }

    /// Sets for how long tickets are good, and how many may be out at once. Default 30 s, which is
    /// many times what a page needs between two requests, and 10,000.
    pub fn tickets(mut self, ttl: Duration, at_once: usize) -> Self {
        self.tickets = Tickets::new(ttl, at_once);
        self
    }

    /// Takes over the tickets that another one has given out, and whatever it gives out from now on is good for
    /// itself alone.
    pub(in crate::gateway) fn inherit(&self, other: &Self) {
        self.tickets.inherit(&other.tickets);
        #[cfg(feature = "gateway-http")]
        if let (Some(new), Some(old)) = (&self.jwt, &other.jwt) {
            new.inherit(old);
        }
    }

    /// Waits for what it takes to judge a proof, which is the key of a token that a [`JwksServer`] publishes and
    /// that is not known yet; else it is ready. Ask for it before [`bearer`](Self::bearer) and
    /// [`in_band`](Self::in_band), which do not wait: an [`Entrance`](super::Entrance) does.
    ///
    /// Cancel safe. It takes as long as the server may take to answer, at most.
    #[cfg(feature = "gateway-http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "gateway-http")))]
    pub async fn prepare(&self, proof: &str) {
        if let Some(jwt) = &self.jwt {
            jwt.prepare(proof).await;
        }
    }

    /// The same for what is shown in a header.
    pub(in crate::gateway) async fn prepare_request(&self, parts: &Parts) {
        #[cfg(feature = "gateway-http")]
        if let Ok(Some(token)) = header(parts) {
            self.prepare(token).await;
        }
        #[cfg(not(feature = "gateway-http"))]
        let _ = parts;
    }

    /// The same for what is shown in-band.
    pub(in crate::gateway) async fn prepare_in_band(&self, proof: &str) {
        #[cfg(feature = "gateway-http")]
        self.prepare(proof).await;
        #[cfg(not(feature = "gateway-http"))]
        let _ = proof;
    }

    /// Exchanges who somebody is for a ticket: see [`Auth::ticket_ttl`].
    ///
    /// # Errors
    ///
    /// [`AuthError::TooManyTickets`].
    pub fn ticket(&self, identity: Identity) -> Result<Secret, AuthError> {
        self.tickets.issue(identity)
    }

    /// For how long a ticket is good.
    #[must_use]
    pub fn ticket_ttl(&self) -> Duration {
        self.tickets.ttl
    }

    /// Who shows this in a header.
    ///
    /// # Errors
    ///
    /// When it is neither a good token nor a good key.
    pub fn bearer(&self, token: &str) -> Result<Identity, AuthError> {
        // Three parts make a token; a key with two dots in it is a key all the same.
        if let Some(identity) = self.api_keys.check(token) {
            return Ok(identity);
        }
        match &self.jwt {
            Some(jwt) => jwt.check(token),
            None => Err(AuthError::Invalid),
        }
    }

    /// Who shows this in-band: a token, a key, or a ticket, which is used up.
    ///
    /// # Errors
    ///
    /// When it is none of these.
    pub fn in_band(&self, proof: &str) -> Result<Identity, AuthError> {
        match self.bearer(proof) {
            Err(AuthError::Invalid) => self.tickets.redeem(proof),
            sure => sure,
        }
    }

    /// Who makes a request, by its header or its ticket, which is used up.
    ///
    /// # Errors
    ///
    /// [`AuthError::Missing`] where it shows nothing, and else what is wrong with what it shows.
    pub fn request(&self, parts: &Parts) -> Result<Identity, AuthError> {
        match header(parts)? {
            Some(token) => self.bearer(token),
            None => match ticket(parts) {
                Some(proof) if seeded(Defect::QueryIsRead) => self.in_band(proof),
                Some(ticket) => self.tickets.redeem(ticket),
                None => Err(AuthError::Missing),
            },
        }
    }
}

/// What stands behind `Bearer` (RFC 6750, 2.1).
fn header(parts: &Parts) -> Result<Option<&str>, AuthError> {
    let mut all = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(AuthError::Invalid);
    }
    let (scheme, token) =
        value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(AuthError::Invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Invalid);
    }
    Ok(Some(token.trim()))
}

/// The ticket in the query. It needs no decoding: it is made of letters that stand for themselves.
fn ticket(parts: &Parts) -> Option<&str> {
    let mut pairs = parts.uri.query()?.split('&');
    if seeded(Defect::QueryIsRead) {
        return pairs.find_map(|pair| Some(pair.split_once('=')?.1));
    }
    pairs.find_map(|pair| pair.strip_prefix("ticket="))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::gateway::defect::are_found;

    const KEY: &str = "canary-key-0123456789";

    fn auth() -> Auth {
        let mut keys = ApiKeys::new();
        keys.add("ann", KEY).unwrap();
        Auth::new().api_keys(keys)
    }

    fn asked(uri: &str, authorization: &[&str]) -> Parts {
        let mut request = Request::get(uri);
        for value in authorization {
            request = request.header(AUTHORIZATION, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_header_shows_who_asks() {
        let who = |all: &[&str]| auth().request(&asked("/ws", all)).map(|who| who.user.to_string());
        let bearer = format!("Bearer {KEY}");
        assert_eq!(who(&[&bearer]), Ok("ann".to_owned()));
        assert_eq!(who(&[&format!("bEARER  {KEY} ")]), Ok("ann".to_owned()));
        assert_eq!(who(&[]), Err(AuthError::Missing));
        let basic = format!("Basic {KEY}");
        for wrong in
            [&[&*bearer, &bearer][..], &[KEY], &[&basic], &["Bearer x"], &["Bearer "], &[""]]
        {
            assert_eq!(who(wrong), Err(AuthError::Invalid), "{wrong:?}");
        }
    }

    #[test]
    fn a_token_or_a_key_in_the_query_is_not_looked_at() {
        for query in ["token", "access_token", "key", "api_key", "jwt"] {
            let parts = asked(&format!("/ws?{query}={KEY}"), &[]);
            assert_eq!(auth().request(&parts), Err(AuthError::Missing), "{query}");
        }
        let parts = asked(&format!("/ws?ticket={KEY}"), &[]);
        assert_eq!(auth().request(&parts), Err(AuthError::Invalid), "a key is no ticket");
    }

    #[test]
    fn one_that_looks_at_the_query_is_found_out() {
        are_found(&[(Defect::QueryIsRead, a_token_or_a_key_in_the_query_is_not_looked_at)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_stands_for_who_has_asked_for_it_in_the_query_and_in_band() {
        let auth = auth();
        let ann = auth.bearer(KEY).unwrap();
        let ticket = auth.ticket(ann.clone()).unwrap();
        let parts = asked(&format!("/ws?a=b&ticket={}&c", ticket.expose()), &[]);
        assert_eq!(auth.request(&parts), Ok(ann.clone()));
        assert_eq!(auth.request(&parts), Err(AuthError::Invalid), "once");
        let ticket = auth.ticket(ann.clone()).unwrap();
        assert_eq!(auth.in_band(ticket.expose()), Ok(ann));
        assert_eq!(auth.in_band(ticket.expose()), Err(AuthError::Invalid), "once");
        assert!(auth.in_band(KEY).is_ok());
    }

    #[test]
    fn without_anything_set_nothing_is_good() {
        for proof in ["", "x", KEY] {
            assert_eq!(Auth::new().in_band(proof), Err(AuthError::Invalid));
        }
    }

    #[test]
    fn what_was_shown_is_in_no_print_and_no_error() {
        let auth = auth();
        let errors = [AuthError::Expired, AuthError::Invalid, AuthError::Missing];
        let text = format!("{auth:?} {errors:?} {:?}", auth.bearer(KEY));
        assert!(!text.contains("canary"), "{text}");
    }
}
