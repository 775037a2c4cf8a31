//! Supabase Realtime: Phoenix channels with broadcast, presence, and what changes in a database.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dialect::{Dialect, Refusal};
use super::session::Channels;
use super::split;
use super::want::Want;
use super::wire::Version;
use crate::config::Secret;
use crate::name::{InvalidName, StreamName};
use crate::protocol::json::{Raw, quote};
use crate::protocol::{
    Dial, DialError, DisconnectReason, Failure, Lane, Limits, Protocol, Request, Session, Url,
    UrlError, Verdict,
};

/// Channels per client (Supabase, Realtime, Quotas).
const CHANNELS: usize = 100;
/// `realtime-js`: `HEARTBEAT_INTERVAL` and `DEFAULT_TIMEOUT`.
const HEARTBEAT: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(10));

/// Channels of a [Supabase Realtime](https://supabase.com/docs/guides/realtime) server.
///
/// | name | what its readers get |
/// |---|---|
/// | `room#broadcast:cursor` | the payload of each `cursor` that a client broadcasts in `room` |
/// | `room#presence` | `presence_state` and `presence_diff`, as a whole: see [`ChannelEvent`](super::ChannelEvent) |
/// | `room#changes:todos` | what changes for the binding `todos` of the [channel](Self::channel): an object with `type`, `schema`, `table`, `record`, `old_record`, … |
/// | `room` or `room#*` | every event of the channel, as a whole |
///
/// A name of changes is joined when the server says that they flow, which is after it has accepted the
/// channel. All names of a channel share its fate, and its one join: a reader of `presence` who comes
/// to a channel that others have joined before gets what changes from then on, and no state at first.
///
/// The user's token comes from [`Credentials::in_band`](crate::Credentials::in_band): it is said in
/// each join, and a fresh one on the open socket. (A key that begins with `sb_` is none, and is not
/// said.) Give the manager a [`connect_timeout`](field@crate::Config::connect_timeout) and a
/// [`join_timeout`](field@crate::Config::join_timeout) of 10 s or more: the server waits for 2 s and
/// 5 s before it says no.
///
/// | server | what happens |
/// |---|---|
/// | HTTP 401 | a fresh token is asked for, once |
/// | HTTP 403 (tenant suspended), 404 | `Closed(Fatal)` |
/// | HTTP 429 | the whole host waits |
/// | a token that is expired or invalid, said about a channel | a fresh token is asked for |
/// | too many channels, joins or users | joined again after a delay |
/// | anything else about a channel | rejected |
///
/// Sources: the Realtime server (`user_socket.ex`, `realtime_channel.ex`), `realtime-js`, and
/// Supabase's "Realtime Protocol" and "Operational Error Codes".
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::{Changes, Supabase, SupabaseChannel};
///
/// let todos = Changes::of("public", "todos").event("INSERT").filter("id=gt.17");
/// let supabase = Supabase::new("https://project.supabase.co", "sb_publishable_…")?
///     .channel("room", SupabaseChannel::default().changes("todos", todos));
/// let manager = WsManager::new(supabase);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Supabase {
    base: Url,
    channels: Table,
    heartbeat: (Duration, Duration),
    key: Secret,
    version: Version,
}

#[derive(Clone, Debug, Default)]
struct Table(HashMap<String, SupabaseChannel>);

/// How a channel is joined. Without one, a channel has broadcast and presence.
#[derive(Clone, Debug, Default)]
pub struct SupabaseChannel {
    ack: bool,
    changes: Vec<(String, Changes)>,
    own: bool,
    presence_key: String,
    private: bool,
}

/// Which changes of a database are wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    event: String,
    filter: Option<String>,
    schema: String,
    table: String,
}

impl Changes {
    /// All changes of a table; `*` stands for all tables of the schema.
    #[must_use]
    pub fn of(schema: impl Into<String>, table: impl Into<String>) -> Self {
        let (schema, table) = (schema.into(), table.into());
        Self { event: "*".into(), filter: None, schema, table }
    }

    /// Only `INSERT`, `UPDATE` or `DELETE`.
    #[must_use]
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = event.into();
        self
    }

    /// Only rows for which this holds, such as `id=eq.1`.
    #[must_use]
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }

    fn json(&self) -> String {
        let (event, schema) = (quote(&self.event), quote(&self.schema));
        let table = match &*self.table {
            "*" => String::new(),
            table => format!(r#","table":{}"#, quote(table)),
        };
        let filter = self.filter.as_ref().map(|filter| format!(r#","filter":{}"#, quote(filter)));
        format!(r#"{{"event":{event},"schema":{schema}{table}{}}}"#, filter.unwrap_or_default())
    }
}

impl SupabaseChannel {
    /// Has the server confirm each broadcast of ours.
    #[must_use]
    pub fn ack(mut self) -> Self {
        self.ack = true;
        self
    }

    /// Adds a binding, which names call by `label`.
    #[must_use]
    pub fn changes(mut self, label: impl Into<String>, changes: Changes) -> Self {
        self.changes.push((label.into(), changes));
        self
    }

    /// Shows us our own broadcasts.
    #[must_use]
    pub fn own(mut self) -> Self {
        self.own = true;
        self
    }

    /// By which key we are present.
    #[must_use]
    pub fn presence_key(mut self, key: impl Into<String>) -> Self {
        self.presence_key = key.into();
        self
    }

    /// A channel that the policies of the database guard.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    fn json(&self) -> String {
        let Self { ack, changes, own, presence_key, private } = self;
        let changes: Vec<_> = changes.iter().map(|(_, changes)| changes.json()).collect();
        format!(
            r#"{{"broadcast":{{"ack":{ack},"self":{own}}},"presence":{{"key":{},"enabled":true}},"postgres_changes":[{}],"private":{private}}}"#,
            quote(presence_key),
            changes.join(","),
        )
    }
}

impl Supabase {
    /// The Realtime server of a project. `project` is its URL (`https://….supabase.co`), or that of a
    /// socket (`wss://…/realtime/v1/websocket`, `ws://…/socket/websocket`), and `key` one that is
    /// meant to be public.
    ///
    /// # Errors
    ///
    /// When `project` is no such URL.
    pub fn new(project: &str, key: impl Into<Secret>) -> Result<Self, UrlError> {
        let project = match project.split_once("://") {
            Some(("https", host)) => format!("wss://{host}"),
            Some(("http", host)) => format!("ws://{host}"),
            _ => project.to_owned(),
        };
        let base = Url::parse(&project)?;
        let base = match base.path() {
            "/" => base.with_target("/realtime/v1/websocket".to_owned(), None),
            _ => base,
        };
        let channels = Table::default();
        Ok(Self { base, channels, heartbeat: HEARTBEAT, key: key.into(), version: Version::V2 })
    }

    /// Says how the channel `name` is joined.
    #[must_use]
    pub fn channel(mut self, name: impl Into<String>, channel: SupabaseChannel) -> Self {
        self.channels.0.insert(name.into(), channel);
        self
    }

    /// A heartbeat each `interval`, to be answered within `timeout`. 25 s and 10 s by default; at least
    /// 1 ms.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        let least = Duration::from_millis(1);
        self.heartbeat = (interval.max(least), timeout.max(least));
        self
    }

    /// Speaks version 1 of Phoenix's serializer.
    #[must_use]
    pub fn v1(mut self) -> Self {
        self.version = Version::V1;
        self
    }
}

impl Dialect for Table {
    fn place(&self, name: &str) -> Result<(String, Want), InvalidName> {
        const WHAT: InvalidName = InvalidName::Unsupported {
            why: "after the `#` comes `broadcast:EVENT`, `presence`, `changes:LABEL` or `*`",
        };
        let (channel, what) = split(name)?;
        let want = match what.map(|what| what.split_once(':').unwrap_or((what, ""))) {
            None => Want::Whole,
            Some(("presence", "")) => Want::Presence,
            Some(("broadcast", event)) if !event.is_empty() => Want::Broadcast(event.into()),
            Some(("changes", label)) if !label.is_empty() => {
                let mut labels = self.0.get(channel).into_iter().flat_map(|c| &c.changes);
                let place = labels.position(|(known, _)| known == label);
                Want::Changes(place.ok_or(InvalidName::Unsupported {
                    why: "the channel has no changes of that label: define it with its channel",
                })?)
            }
            Some(_) => return Err(WHAT),
        };
        Ok((format!("realtime:{channel}"), want))
    }

    fn join(&self, topic: &str, token: Option<&Secret>) -> String {
        let name = topic.strip_prefix("realtime:").unwrap_or(topic);
        let config =
            self.0.get(name).map_or_else(|| SupabaseChannel::default().json(), |c| c.json());
        match self.fresh_token(token) {
            None => format!(r#"{{"config":{config}}}"#),
            Some(_) => {
                let token = quote(token.map_or("", Secret::expose));
                format!(r#"{{"config":{config},"access_token":{token}}}"#)
            }
        }
    }

    fn bindings(&self, topic: &str, response: Option<Raw<'_>>) -> Option<Vec<u64>> {
        let name = topic.strip_prefix("realtime:").unwrap_or(topic);
        let wanted = self.0.get(name).map_or(0, |channel| channel.changes.len());
        if wanted == 0 {
            return Some(Vec::new());
        }
        let bindings = response?.field("postgres_changes")?.elements().ok()?;
        let ids = bindings.take(wanted).map(|binding| binding.ok()?.field("id")?.u64());
        ids.collect::<Option<Vec<_>>>().filter(|ids| ids.len() == wanted)
    }

    fn fresh_token(&self, token: Option<&Secret>) -> Option<(&'static str, String)> {
        let token = token.map(Secret::expose).filter(|token| !token.starts_with("sb_"))?;
        Some(("access_token", format!(r#"{{"access_token":{}}}"#, quote(token))))
    }

    fn refusal(&self, reason: &str) -> Refusal {
        let is_any = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        if is_any(&["InvalidJWT", "Token has expired", "JwtSignatureError", "MalformedJWT"]) {
            Refusal::NewToken
        } else if is_any(&["LimitReached", "Too many", "InitializingProjectConnection", "timeout"])
        {
            Refusal::Again
        } else {
            Refusal::ForGood
        }
    }

    fn says_system(&self) -> bool {
        true
    }
}

impl Protocol for Supabase {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.channels.place(name.as_str())?;
        Ok(Lane::new("realtime"))
    }

    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        let url = self.base.with_parameter("apikey", self.key.expose());
        let url = url.with_parameter("vsn", self.version.parameter());
        Ok(Request::to(url).made_from(&self.base))
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        let dialect = Arc::new(self.channels.clone());
        Box::new(Channels::new(dialect, self.version, self.heartbeat))
    }

    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(CHANNELS)
    }

    fn classify(&self, failure: &Failure<'_>) -> Option<Verdict> {
        match failure.reason {
            DisconnectReason::Http { status: 401 } => Some(Verdict::NewToken),
            DisconnectReason::Http { status: 403 } => Some(Verdict::Fatal),
            _ => None,
        }
    }
}

impl fmt::Debug for Supabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supabase")
            .field("base", &self.base)
            .field("channels", &self.channels.0.keys())
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
