//! The configuration file of `wsmux serve`.
//!
//! TOML, and nothing that is not known: a field with a spelling mistake is refused, and not forgotten.
//! No secret stands in it: it says in which file or variable each is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use wsmux::Secret;
use wsmux::gateway::tiers::{Pattern, Tier};

use crate::exit::Failure;
use crate::values;

/// Longest configuration, in bytes.
const LONGEST: u64 = 4 << 20;

/// All of it. What the command line says goes before.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    /// Where operators are served. Default: nowhere.
    #[serde(deserialize_with = "address")]
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) auth: Auth,
    /// What clients may ask many of at once. Default: nothing.
    pub(crate) batch: Option<Batch>,
    /// Over how long clients are closed when the program ends. Default 5 s.
    pub(crate) drain: Option<Length>,
    pub(crate) limits: Limits,
    /// Where clients are served. Default 127.0.0.1:8080.
    #[serde(deserialize_with = "address")]
    pub(crate) listen: Option<SocketAddr>,
    /// Which names clients may read, by pattern. Default: all that their tier allows.
    pub(crate) names: Option<Vec<String>>,
    /// What operators show to change anything, and to see more than the health.
    pub(crate) operator: Option<SecretIn>,
    /// Pages of these origins may connect, beside those of the host that is asked; `*` is any.
    pub(crate) origins: Vec<String>,
    /// How the upstream speaks: see `--protocol`.
    pub(crate) protocol: Option<String>,
    /// Networks of proxies that say in `X-Forwarded-For` where a client is. Default: none.
    pub(crate) proxies: Vec<IpNet>,
    /// Where names are kept over a restart. Default: nowhere.
    pub(crate) state: Option<PathBuf>,
    pub(crate) tiers: Tiers,
    /// The base of the streams.
    pub(crate) upstream: Option<String>,
}

/// Who may come in. Without any of it, nobody.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    /// Whether whoever shows nothing comes in, of the lowest tier. Default no.
    pub(crate) anonymous: bool,
    pub(crate) api_keys: Vec<ApiKey>,
    /// Whether a WebSocket client may say in-band who it is. Default yes.
    pub(crate) in_band: Option<bool>,
    pub(crate) jwt: Option<Jwt>,
}

/// A key of a program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKey {
    /// Where the key is; or its hash is given.
    pub(crate) key: Option<SecretIn>,
    /// SHA-256 of the key, in hexadecimal.
    pub(crate) sha256: Option<String>,
    pub(crate) user: String,
}

/// Which tokens are good.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    /// Of which algorithms the keys of `jwks` and `jwks_file` are, such as `ES256`.
    #[serde(default)]
    pub(crate) algorithms: Vec<String>,
    /// What `aud` has to name.
    pub(crate) audience: String,
    /// What `iss` has to be. Default: anything.
    pub(crate) issuer: Option<String>,
    /// The server that publishes keys.
    pub(crate) jwks: Option<Server>,
    /// The file with published keys.
    pub(crate) jwks_file: Option<PathBuf>,
    /// How often `jwks` is asked. Default 10 min.
    pub(crate) jwks_refresh: Option<Length>,
    #[serde(default)]
    pub(crate) keys: Vec<JwtKey>,
    /// How far clocks may be apart. Default 30 s, five minutes at most.
    pub(crate) skew: Option<Length>,
}

/// A key by which tokens are signed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JwtKey {
    /// `HS256`, `HS384`, `HS512`, `RS256`, `RS512`, `ES256`, `ES384` or `EdDSA`.
    pub(crate) algorithm: String,
    /// The file with the public key, as PEM.
    pub(crate) public_key: Option<PathBuf>,
    /// Where the secret is, for `HS…`.
    pub(crate) secret: Option<SecretIn>,
}

/// What clients may ask by `POST /batch`, and of whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Batch {
    /// Batches of all clients at once. Default 64.
    pub(crate) at_once: Option<usize>,
    /// Most connections to the server. Default 10.
    pub(crate) connections: Option<usize>,
    /// How long one request may take. Default 30 s.
    pub(crate) deadline: Option<Length>,
    /// Whether these methods do no harm if they come twice, and are asked again after a lost connection.
    /// Default no.
    #[serde(default)]
    pub(crate) idempotent: bool,
    /// Most requests in flight on one connection. Default 10.
    pub(crate) in_flight: Option<usize>,
    /// What clients may ask: nothing else is sent.
    pub(crate) methods: Vec<String>,
    pub(crate) protocol: BatchSpeaks,
    /// Requests of one batch. Default 100.
    pub(crate) requests: Option<usize>,
    pub(crate) url: String,
}

/// How the server of batches speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BatchSpeaks {
    BinanceApi,
    JsonRpc,
    /// Histories: the only method.
    #[serde(rename = "tradingview")]
    TradingView,
}

/// What clients may take.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Connections of all clients. Default 100,000.
    pub(crate) connections: Option<usize>,
    /// The longest message of a client, in bytes. Default 64 KiB.
    pub(crate) max_message: Option<usize>,
    /// Names that are open upstream, of all clients. Default 512.
    pub(crate) names: Option<usize>,
    /// Names of one client. Default 1,000.
    pub(crate) names_per_client: Option<usize>,
    /// Connections of one address, or /64 of IPv6. Default 100.
    pub(crate) per_address: Option<usize>,
    /// What waits for a client that does not read, in bytes. Default 1 MiB.
    pub(crate) queue_bytes: Option<usize>,
    /// What becomes of such a client: `drop-oldest`, `conflate` or `disconnect`.
    pub(crate) slow: Slow,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Slow {
    Conflate,
    Disconnect,
    #[default]
    DropOldest,
}

/// What users get.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tiers {
    /// How many users `http` is asked for at once at most. Default 500.
    pub(crate) batch: Option<usize>,
    /// The server that tells who is of which tier; or `users` do.
    pub(crate) http: Option<Server>,
    /// The tier of whoever is unknown. Default: one without limits of its own.
    pub(crate) lowest: Option<String>,
    /// The tiers, by their names.
    pub(crate) tier: BTreeMap<String, OneTier>,
    /// For how long users stay of their tier while `http` fails. Default 1 h.
    pub(crate) stale_for: Option<Length>,
    /// How soon a change takes effect at the latest. Default 60 s.
    pub(crate) ttl: Option<Length>,
    /// Users and the names of their tiers. Where there is neither this nor `http`, a token's `tier` says it.
    pub(crate) users: BTreeMap<String, String>,
}

/// A server that is asked over HTTP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// The file with certificates that are trusted beside those of the system, as PEM.
    pub(crate) ca: Option<PathBuf>,
    /// The header that the secret stands in. Default `authorization`.
    pub(crate) header: Option<String>,
    /// Whether another machine may be asked by `http:`. Default no.
    #[serde(default)]
    pub(crate) plain: bool,
    /// The value of the header, such as `Bearer …`. Default: no header.
    pub(crate) secret: Option<SecretIn>,
    /// How long an answer may take. Default 5 s.
    pub(crate) timeout: Option<Length>,
    pub(crate) url: String,
}

/// One tier. Each field has the default of the library's `Tier`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OneTier {
    /// Connections of one user. Default 100.
    pub(crate) connections: Option<usize>,
    /// How much later than others its users are sent messages. Default zero.
    pub(crate) delay: Option<Length>,
    /// Messages that each connection may send per second. Default 20.
    pub(crate) messages_per_second: Option<u32>,
    /// Names that one connection may read.
    pub(crate) names: Option<usize>,
    /// Distinct names that one user may read on all connections.
    pub(crate) names_per_user: Option<usize>,
    /// Which names, by pattern: `*` is any text. Default: all.
    pub(crate) patterns: Option<Vec<String>>,
}

impl OneTier {
    pub(crate) fn named(&self, name: &str) -> Tier {
        let mut tier = Tier::new(name);
        tier.connections = self.connections.unwrap_or(tier.connections);
        tier.delay = self.delay.map_or(tier.delay, |delay| delay.0);
        tier.messages_per_second = self.messages_per_second.unwrap_or(tier.messages_per_second);
        tier.names = self.names.unwrap_or(tier.names);
        tier.names_per_user = self.names_per_user.unwrap_or(tier.names_per_user);
        if let Some(patterns) = &self.patterns {
            tier.patterns = patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
        }
        tier
    }
}

/// A length of time, such as `"10s"`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length(pub(crate) Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        values::duration(&text).map(Self).map_err(de::Error::custom)
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    values::address(&text).map(Some).map_err(de::Error::custom)
}

/// Where a secret is: `{ file = "/run/secrets/token" }` or `{ env = "TOKEN" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SecretIn {
    Env(String),
    File(PathBuf),
}

impl SecretIn {
    /// The secret, without the line end that editors put behind it.
    pub(crate) fn read(&self) -> Result<Secret, Failure> {
        let text = match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| wrong(format!("the variable {name} is not set, or is no text")))?,
            Self::File(path) => read(path)?,
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(wrong(format!("there is no secret in {self}")));
        }
        Ok(Secret::new(text))
    }
}

impl fmt::Display for SecretIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the variable {name}"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// The configuration makes no sense.
pub(crate) fn wrong(what: impl fmt::Display) -> Failure {
    Failure::usage(format!("the configuration: {what}"))
        .hint("each field is described in docs/operations.md")
}

pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let size =
        std::fs::metadata(path).map_err(|e| wrong(format!("cannot read {shown}")).cause(&e))?.len();
    if size > LONGEST {
        return Err(wrong(format!("{shown} is too long")));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot read {shown}")).cause(&e))
}

impl File {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(&read(path)?).map_err(|why| wrong(format!("{}: {why}", path.display())))
    }

    /// Without the line of the file that errors of TOML quote: somebody may have put a secret there.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {}", without_value(e.message()))
        })
    }
}

/// What serde says, without the value that it quotes: it may be a secret that was written here instead
/// of where it is.
fn without_value(message: &str) -> String {
    for (before, after) in [("string \"", "\", expected"), ("unknown variant `", "`, expected")] {
        let begin = message.find(before).map(|at| (at, at + before.len()));
        if let (Some((begin, value)), Some(end)) = (begin, message.rfind(after)) {
            if value <= end {
                let (kind, rest) = (&before[..before.len() - 2], &message[end + 1..]);
                return format!("{}{kind}{rest}", &message[..begin]);
            }
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = r#"
        admin = "127.0.0.1:9090"
        drain = "2s"
        listen = "0.0.0.0:8080"
        names = ["*@trade"]
        operator = { env = "OPERATOR" }
        origins = ["https://app.example.com"]
        protocol = "direct"
        proxies = ["10.0.0.0/8"]
        state = "/var/lib/wsmux/state.json"
        upstream = "wss://stream.example.com/ws"
        [auth]
        anonymous = true
        in_band = false
        [[auth.api_keys]]
        user = "ann"
        key = { file = "/run/secrets/ann" }
        [auth.jwt.jwks]
        ca = "ca.pem"
        secret = { env = "KEYS" }
        header = "x-api-key"
        timeout = "2s"
        url = "https://id.example.com/keys"
        [auth.jwt]
        audience = "gateway"
        issuer = "id"
        skew = "10s"
        algorithms = ["ES256"]
        jwks_file = "keys.json"
        jwks_refresh = "1m"
        keys = [{ algorithm = "ES256", public_key = "key.pem" }]
        [batch]
        at_once = 3
        connections = 2
        deadline = "5s"
        idempotent = true
        in_flight = 4
        methods = ["klines"]
        protocol = "binance-api"
        requests = 20
        url = "wss://ws-api.example.com/ws-api/v3"
        [limits]
        connections = 10
        max_message = 1000
        names = 7
        names_per_client = 5
        per_address = 3
        queue_bytes = 65536
        slow = "conflate"
        [tiers]
        batch = 100
        lowest = "free"
        stale_for = "10m"
        ttl = "30s"
        [tiers.http]
        ca = "ca.pem"
        header = "x-api-key"
        plain = true
        secret = { env = "USERS" }
        timeout = "2s"
        url = "http://users:8080/tiers"
        [tiers.tier.free]
        connections = 2
        delay = "15s"
        messages_per_second = 1
        names = 3
        names_per_user = 4
        patterns = ["*@trade"]
        [tiers.users]
        ann = "free"
    "#;

    #[test]
    fn an_address_that_is_none_is_told_with_how_one_is_written() {
        let why = File::parse("drain = \"1s\"\nadmin = \"localhost:9090\"").unwrap_err();
        assert!(why.starts_with("line 2: ") && why.contains("`127.0.0.1:8080`"), "{why}");
    }

    #[test]
    fn every_field_is_read() {
        let file = File::parse(ALL).unwrap();
        // Of a key and its hash there is one, and of a secret and a public key.
        let missing = format!("{file:?}").matches("None").count();
        assert_eq!(missing, 2, "something is not in the test: {file:#?}");
        let free = file.tiers.tier["free"].named("free");
        assert_eq!((free.connections, free.delay), (2, Duration::from_secs(15)));
        assert!(!free.allows("btcusdt@depth"));
    }

    /// What makes no sense, and in which line.
    const SENSELESS: [(&str, usize); 8] = [
        ("liste = \"canary\"", 1),
        ("\n[auth]\nanonymus = \"canary\"", 3),
        ("[limits]\nper_address = \"canary\"", 2),
        ("[[auth.api_keys]]\nuser = \"a\"\nkey = \"canary\"", 3),
        ("drain = \"canary\"", 1),
        ("[tiers.tier.free]\nspeed = \"canary\"", 2),
        ("operator = \"canary\"", 1),
        ("[limits]\nslow = \"canary\"", 2),
    ];

    /// Of which of these `told` tells something else than the line, or more.
    fn mistold(told: impl Fn(&str) -> String) -> Vec<String> {
        let told = SENSELESS.iter().map(|(text, line)| (told(text), format!("line {line}: ")));
        told.filter(|(why, line)| !why.starts_with(line) || why.contains("canary"))
            .map(|(why, _)| why)
            .collect()
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_line_and_without_its_text() {
        assert_eq!(mistold(|text| File::parse(text).unwrap_err()), [""; 0]);
    }

    /// What this takes: neither what the reader of TOML prints nor what it only says will do.
    #[test]
    fn an_error_as_it_comes_from_the_parser_tells_too_much() {
        let raw = |text: &str| toml::from_str::<File>(text).unwrap_err();
        assert_eq!(mistold(|text| raw(text).to_string()).len(), SENSELESS.len());
        let with_line = |text: &str| {
            let line = SENSELESS.iter().find(|(other, _)| *other == text).map(|(_, line)| line);
            format!("line {}: {}", line.unwrap(), raw(text).message())
        };
        let told = mistold(with_line);
        assert!(!told.is_empty() && told.iter().all(|why| why.contains("canary")), "{told:?}");
    }

    #[test]
    fn the_configuration_on_the_page_has_every_field() {
        let page = include_str!("../../../../docs/operations.md");
        let blocks = page.split("```toml\n").skip(1);
        let blocks: Vec<_> = blocks.map(|rest| rest.split_once("\n```").unwrap().0).collect();
        for block in &blocks {
            File::parse(block).unwrap();
        }
        let fields =
            ALL.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim());
        for field in fields.filter(|name| !["key", "ann"].contains(name)) {
            let is_there = |line: &str| line.starts_with(&format!("{field} = "));
            assert!(
                blocks.iter().flat_map(|block| block.lines()).any(is_there),
                "{field} is not on the page"
            );
        }
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert!(File::parse("").unwrap().listen.is_none());
    }
}
