//! The doors of a gateway that knows its users.
//!
//! Before a connection is upgraded, in this order, the cheapest first:
//!
//! | what is looked at | or else |
//! |---|---|
//! | descriptors that are left, connections of all clients | 503, `Retry-After` |
//! | the page that asks ([`Origins`]) | 403 |
//! | connections of the address ([`Addresses`]) | 429, `Retry-After` |
//! | who it is ([`Auth`]) | 401 |
//! | connections of the user, by its [tier](Tiers) | 429, `Retry-After` |
//!
//! - What was taken by then is in guards from the start: a request that is refused later, whose future is
//!   dropped, or whose upgrade fails gives all of it back.
//! - A WebSocket client that shows nothing may come in as nobody, and say who it is as its first word: it
//!   may read nothing until then, and has [`auth_deadline`](EntranceBuilder::auth_deadline).
//! - Where a page is asked why, it sees only 1006: browsers do not show refusals. Those who debug one see
//!   the response.

mod refusal;
mod seat;
#[cfg(test)]
mod tests;
mod ticket;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::response::Response;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::request::Parts;
use tokio::time::Instant;

use self::refusal::{Refusal, Refused};
use self::seat::Seat;
use super::auth::{Auth, AuthError, Identity};
use super::doors::Doors;
use super::limits::{Accounts, Addresses, Descriptors, Network, Origins, Owner, Place, Places};
use super::tiers::{Tier, Tiers};
use super::visitor::{Denied, Visitor};

/// Lets in who may come in. Cloning is cheap: all clones are the same.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::gateway::auth::{ApiKeys, Auth};
/// use wsmux::gateway::{Entrance, Gateway};
///
/// let mut keys = ApiKeys::new();
/// keys.add("ann", "a key of at least twenty bytes")?;
/// let entrance = Entrance::builder().auth(Auth::new().api_keys(keys)).build();
/// let manager = WsManager::connect("wss://stream.example.com/ws")?;
/// let gateway = Gateway::builder(manager).doors(entrance.clone()).build();
/// let router = gateway.router().merge(entrance.router()); // and `POST /ticket`
/// # let _ = router;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Entrance(Arc<Inner>);

struct Inner {
    accounts: Accounts,
    by_address: Places<Network>,
    by_user: Places<Arc<str>>,
    everybody: Places<()>,
    refused: Refused,
    settings: RwLock<Arc<EntranceBuilder>>,
}

/// Builds an [`Entrance`]; made by [`Entrance::builder`].
#[must_use]
pub struct EntranceBuilder {
    addresses: Addresses,
    anonymous: bool,
    auth: Auth,
    auth_deadline: Duration,
    connections: usize,
    descriptors: Descriptors,
    in_band: bool,
    origins: Origins,
    per_address: usize,
    retry_after: Duration,
    tiers: Tiers,
}

impl Entrance {
    /// Starts to build an entrance, by which nobody comes in who does not show who it is.
    pub fn builder() -> EntranceBuilder {
        EntranceBuilder {
            addresses: Addresses::new(),
            anonymous: false,
            auth: Auth::new(),
            auth_deadline: Duration::from_secs(10),
            connections: 100_000,
            descriptors: Descriptors::default(),
            in_band: true,
            origins: Origins::same_host(),
            per_address: 100,
            retry_after: Duration::from_secs(10),
            tiers: Tiers::one(Tier::new("default")),
        }
    }

    /// How many connections are in, or are coming in.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.everybody.count(&())
    }

    /// How many connections users of each tier have, by its name. Those of whoever is anonymous, or has not said
    /// yet who it is, are under `unknown`.
    #[must_use]
    pub fn connections_by_tier(&self) -> BTreeMap<Arc<str>, usize> {
        let tiers = self.tiers();
        let mut by_tier = BTreeMap::new();
        for (user, tier) in tiers.members() {
            *by_tier.entry(tier).or_default() += self.0.by_user.count(&user);
        }
        by_tier.retain(|_, count| *count > 0);
        let known: usize = by_tier.values().sum();
        let unknown = self.connections().saturating_sub(known);
        if unknown > 0 {
            *by_tier.entry("unknown".into()).or_default() += unknown;
        }
        by_tier
    }

    /// How many requests were not let in, by a word for why.
    #[must_use]
    pub fn refused(&self) -> [(&'static str, u64); 8] {
        self.0.refused.all()
    }

    /// The tiers of those who are in.
    #[must_use]
    pub fn tiers(&self) -> Tiers {
        self.settings().tiers.clone()
    }

    /// Sets everything anew, for all clones. Who is in stays in, and counts. Tickets that are out stay good
    /// for as long as they were, whatever they were given for: as many as may be out now. Who is in is of its
    /// old tier for as long as the [tiers](EntranceBuilder::tiers) are others: give it the same, and
    /// [replace](Tiers::replace) what they are.
    pub fn replace(&self, settings: EntranceBuilder) {
        let mut current = self.0.settings.write().unwrap_or_else(PoisonError::into_inner);
        settings.auth.inherit(&current.auth);
        *current = Arc::new(settings);
    }

    fn settings(&self) -> Arc<EntranceBuilder> {
        Arc::clone(&self.0.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn let_in(&self, parts: &Parts, peer: Option<SocketAddr>) -> Result<Visitor, Refusal> {
        let settings = self.settings();
        let everybody = self.0.everybody.take(&(), settings.connections).ok_or(Refusal::Full)?;
        if !settings.descriptors.take() {
            return Err(Refusal::Full);
        }
        if !settings.origins.admit(parts) {
            return Err(Refusal::Origin);
        }
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let network = settings.addresses.of(peer, &parts.headers);
        let place = self.0.by_address.take(&network, settings.per_address);
        let seat = Seat::new(everybody, place.ok_or(Refusal::Address)?);
        settings.auth.prepare_request(parts).await;
        match settings.auth.request(parts) {
            Ok(identity) => {
                self.seat(&seat, &identity).await.map_err(|_| Refusal::User)?;
                let visitor = Visitor::new(Arc::clone(&identity.user), seat);
                visitor.renew(identity.expires_at);
                Ok(visitor)
            }
            Err(AuthError::Missing) if settings.anonymous => {
                let account = self.0.accounts.of(Owner::Address(network));
                seat.sit(settings.tiers.anonymous(), account, None);
                Ok(Visitor::new("anonymous", seat))
            }
            Err(AuthError::Missing) if settings.in_band && is_websocket(parts) => {
                let visitor = Visitor::new("unknown", seat);
                visitor.renew(Some(Instant::now() + settings.auth_deadline));
                Ok(visitor)
            }
            Err(e) => Err(Refusal::Auth(e)),
        }
    }

    /// Gives somebody a seat who is known, and a place among the user's connections.
    async fn seat(&self, seat: &Seat, identity: &Identity) -> Result<(), Denied> {
        let member = self.settings().tiers.member(identity).await;
        let most = member.tier().connections;
        let place: Option<Place<_>> = self.0.by_user.take(&identity.user, most);
        let place = place.ok_or(Denied::TooMany)?;
        let account = self.0.accounts.of(Owner::User(Arc::clone(&identity.user)));
        seat.sit(member, account, Some(place));
        Ok(())
    }

    async fn shown(&self, visitor: &Visitor, proof: &str) -> Result<(), Denied> {
        let seat = visitor.standing_as::<Seat>().ok_or(Denied::Proof)?;
        let settings = self.settings();
        settings.auth.prepare_in_band(proof).await;
        let identity = settings.auth.in_band(proof).map_err(|_| Denied::Proof)?;
        match seat.user() {
            None => {
                self.seat(seat, &identity).await?;
                visitor.identify(Arc::clone(&identity.user));
            }
            Some(user) if *user == identity.user => {
                // The tier that the proof names, if that is where tiers come from.
                self.settings().tiers.member(&identity).await;
            }
            Some(_) => return Err(Denied::Proof),
        }
        visitor.renew(identity.expires_at);
        Ok(())
    }
}

fn is_websocket(parts: &Parts) -> bool {
    parts.headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

impl Doors for Entrance {
    fn admit<'a>(
        &'a self,
        parts: &'a Parts,
        peer: Option<SocketAddr>,
    ) -> BoxFuture<'a, Result<Visitor, Response>> {
        Box::pin(async move {
            let visitor = self.let_in(parts, peer).await;
            visitor.map_err(|refusal| {
                self.0.refused.count(refusal);
                refusal.answer(self.settings().retry_after)
            })
        })
    }

    fn renew<'a>(
        &'a self,
        visitor: &'a Visitor,
        token: &'a str,
    ) -> BoxFuture<'a, Result<(), Denied>> {
        Box::pin(self.shown(visitor, token))
    }
}

impl EntranceBuilder {
    /// Sets who may say where a client is. Default: nobody, the other end of the socket is the client.
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Sets whether whoever shows nothing may come in, of the lowest tier. Default no.
    pub fn anonymous(mut self, anonymous: bool) -> Self {
        self.anonymous = anonymous;
        self
    }

    /// Sets which proofs are good. Default: none.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Sets how long a client may stay that is to say in-band who it is. Default 10 s, for a phone that
    /// has to fetch a token first.
    pub fn auth_deadline(mut self, deadline: Duration) -> Self {
        self.auth_deadline = deadline;
        self
    }

    /// Sets how many connections may be in at once, of all clients. Default 100,000.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how much of the process's descriptors clients may take. Default 90 %.
    pub fn descriptors(mut self, descriptors: Descriptors) -> Self {
        self.descriptors = descriptors;
        self
    }

    /// Sets whether a WebSocket client may say in-band who it is. Default yes.
    pub fn in_band(mut self, in_band: bool) -> Self {
        self.in_band = in_band;
        self
    }

    /// Sets which pages may connect. Default: those of the host that is asked.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets how many connections one address may have. Default 100: an office behind one address has
    /// dozens of people.
    pub fn per_address(mut self, connections: usize) -> Self {
        self.per_address = connections;
        self
    }

    /// Sets what is said in `Retry-After` to whom there is no place for. Default 10 s.
    pub fn retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Sets what users get. Default: everything, within the gateway's limits.
    pub fn tiers(mut self, tiers: Tiers) -> Self {
        self.tiers = tiers;
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(self) -> Entrance {
        Entrance(Arc::new(Inner {
            accounts: Accounts::default(),
            by_address: Places::default(),
            by_user: Places::default(),
            everybody: Places::default(),
            refused: Refused::default(),
            settings: RwLock::new(Arc::new(self)),
        }))
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

impl fmt::Debug for EntranceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntranceBuilder")
            .field("anonymous", &self.anonymous)
            .field("auth", &self.auth)
            .field("connections", &self.connections)
            .field("in_band", &self.in_band)
            .field("origins", &self.origins)
            .field("per_address", &self.per_address)
            .field("tiers", &self.tiers)
            .finish_non_exhaustive()
    }
}
