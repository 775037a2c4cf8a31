//! From the configuration to who comes in, now and whenever it is read again.

use std::fs;
use std::sync::{Arc, PoisonError, RwLock};

use wsmux::gateway::auth::{ApiKeys, Auth, Jwks, JwksServer, Jwt, JwtAlgorithm};
use wsmux::gateway::limits::{Addresses, Origins};
use wsmux::gateway::tiers::{HttpTiers, MemoryTiers, Pattern, Tier, Tiers, TiersBuilder};
use wsmux::gateway::{Entrance, EntranceBuilder};
use wsmux::{StreamName, WsManager};

use super::config::{self, File, wrong};
use super::fetch;
use crate::exit::Failure;

/// What can be changed while it serves.
pub(super) struct Doors {
    pub(super) entrance: Entrance,
    names: Arc<RwLock<Names>>,
    source: Source,
    tiers: Tiers,
}

/// Which names clients may read.
struct Names {
    most: usize,
    patterns: Option<Vec<Pattern>>,
}

impl Names {
    fn of(file: &File) -> Self {
        let patterns = file.names.as_ref();
        Self {
            most: file.limits.names.unwrap_or(512),
            patterns: patterns.map(|all| all.iter().map(|text| Pattern::new(text)).collect()),
        }
    }

    /// A name that is open already costs nothing more.
    fn allows(&self, name: &StreamName, manager: &WsManager) -> bool {
        let fits = |all: &Vec<Pattern>| all.iter().any(|pattern| pattern.matches(name.as_str()));
        self.patterns.as_ref().is_none_or(fits)
            && (manager.stream_count() < self.most
                || manager.stream_status(name.as_str()).is_some())
    }
}

impl Doors {
    pub(super) fn new(file: &File, anonymous: bool) -> Result<Self, Failure> {
        let source = Source::of(file)?;
        let (lowest, others) = tiers(file)?;
        let mut tiers = source.tell(Tiers::builder(lowest));
        for tier in others {
            tiers = tiers.tier(tier);
        }
        if let Some(batch) = file.tiers.batch {
            tiers = tiers.batch(batch);
        }
        if let Some(stale_for) = file.tiers.stale_for {
            tiers = tiers.stale_for(stale_for.0);
        }
        if let Some(ttl) = file.tiers.ttl {
            tiers = tiers.ttl(ttl.0);
        }
        if let Some(timeout) = file.tiers.http.as_ref().and_then(|http| http.timeout) {
            tiers = tiers.timeout(timeout.0);
        }
        let tiers = tiers.build();
        let entrance = entrance(file, anonymous)?.tiers(tiers.clone()).build();
        Ok(Self { entrance, names: Arc::new(RwLock::new(Names::of(file))), source, tiers })
    }

    /// Takes what is in `file` from now on. Nothing is changed where any of it makes no sense.
    pub(super) fn reload(&self, file: &File, anonymous: bool) -> Result<(), Failure> {
        let (lowest, others) = tiers(file)?;
        let entrance = entrance(file, anonymous)?;
        self.source.replace(file)?;
        self.tiers.replace(lowest, others);
        self.entrance.replace(entrance.tiers(self.tiers.clone()));
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Names::of(file);
        Ok(())
    }

    /// What a client's name stands for: itself, if it may be read.
    pub(super) fn names(
        &self,
        manager: WsManager,
    ) -> impl Fn(&StreamName) -> Option<StreamName> + Send + Sync + 'static {
        let names = Arc::clone(&self.names);
        move |name| {
            let names = names.read().unwrap_or_else(PoisonError::into_inner);
            names.allows(name, &manager).then(|| name.clone())
        }
    }
}

/// Who says of which tier somebody is. Which of these it is, is that of the start.
enum Source {
    File(MemoryTiers),
    Http(HttpTiers),
    /// Who has issued the token.
    Proof,
}

impl Source {
    fn of(file: &File) -> Result<Self, Failure> {
        Ok(match &file.tiers.http {
            Some(server) if file.tiers.users.is_empty() => {
                Self::Http(HttpTiers::new(fetch::server(server, "[tiers.http]")?))
            }
            Some(_) => return Err(wrong("tiers are told by [tiers.http] or by [tiers.users]")),
            None if file.tiers.users.is_empty() => Self::Proof,
            None => Self::File(MemoryTiers::new(known(file))),
        })
    }

    fn tell(&self, tiers: TiersBuilder) -> TiersBuilder {
        match self {
            Self::File(users) => tiers.source(users.clone()),
            Self::Http(server) => tiers.source(server.clone()),
            Self::Proof => tiers,
        }
    }

    /// Nothing is changed where it fails.
    fn replace(&self, file: &File) -> Result<(), Failure> {
        match (self, &file.tiers.http) {
            (Self::Http(source), Some(server)) if file.tiers.users.is_empty() => {
                source.replace(fetch::server(server, "[tiers.http]")?);
            }
            (Self::File(users), None) => users.replace(known(file)),
            (Self::Proof, None) => {}
            _ => return Err(wrong("whether there is a [tiers.http] is that of the start")),
        }
        Ok(())
    }
}

fn known(file: &File) -> impl Iterator<Item = (String, String)> {
    file.tiers.users.clone().into_iter()
}

/// The lowest tier, and the others.
fn tiers(file: &File) -> Result<(Tier, Vec<Tier>), Failure> {
    let tiers = &file.tiers;
    let all = tiers.tier.iter().map(|(name, tier)| tier.named(name));
    let Some(lowest) = &tiers.lowest else {
        return Ok((Tier::new("default"), all.collect()));
    };
    if let Some((user, tier)) = tiers.users.iter().find(|(_, tier)| !tiers.tier.contains_key(*tier))
    {
        return Err(wrong(format!("{user} is of the tier {tier}, which is not there")));
    }
    match tiers.tier.get(lowest) {
        Some(tier) => Ok((tier.named(lowest), all.filter(|tier| *tier.name != **lowest).collect())),
        None => Err(wrong(format!("the lowest tier is {lowest}, which is not there"))),
    }
}

fn entrance(file: &File, anonymous: bool) -> Result<EntranceBuilder, Failure> {
    let anonymous = anonymous || file.auth.anonymous;
    if !anonymous && file.auth.api_keys.is_empty() && file.auth.jwt.is_none() {
        return Err(Failure::usage("nobody could come in")
            .hint("set [auth] in the configuration, or let everybody in by --anonymous"));
    }
    let mut origins = Origins::same_host();
    for origin in &file.origins {
        origins = match origin.as_str() {
            "*" => Origins::any(),
            origin => origins.allow(origin).map_err(wrong)?,
        };
    }
    let proxies = file.proxies.iter().copied();
    let mut entrance = Entrance::builder()
        .addresses(Addresses::new().proxies(proxies))
        .anonymous(anonymous)
        .auth(auth(&file.auth)?)
        .in_band(file.auth.in_band.unwrap_or(true))
        .origins(origins);
    if let Some(connections) = file.limits.connections {
        entrance = entrance.connections(connections);
    }
    if let Some(connections) = file.limits.per_address {
        entrance = entrance.per_address(connections);
    }
    Ok(entrance)
}

fn auth(config: &config::Auth) -> Result<Auth, Failure> {
    let mut keys = ApiKeys::new();
    for key in &config.api_keys {
        let user = &key.user;
        match (&key.key, &key.sha256) {
            (Some(at), None) => keys.add(user, at.read()?.expose()),
            (None, Some(hash)) => keys.add_hashed(user, hash),
            _ => return Err(wrong(format!("the key of {user}: give either `key` or `sha256`"))),
        }
        .map_err(|e| wrong(format!("the key of {user}: {e}")))?;
    }
    let auth = Auth::new().api_keys(keys);
    Ok(match &config.jwt {
        Some(jwt) => auth.jwt(tokens(jwt)?),
        None => auth,
    })
}

fn tokens(config: &config::Jwt) -> Result<Jwt, Failure> {
    let mut jwt = Jwt::new(&*config.audience);
    if let Some(issuer) = &config.issuer {
        jwt = jwt.issuer(&**issuer);
    }
    if let Some(skew) = config.skew {
        jwt = jwt.skew(skew.0);
    }
    jwt = published(jwt, config)?;
    if config.keys.is_empty() && config.jwks.is_none() && config.jwks_file.is_none() {
        return Err(wrong("[auth.jwt] has no keys"));
    }
    for key in &config.keys {
        let name = &key.algorithm;
        let algorithm = algorithm(name)?;
        match (&key.secret, &key.public_key) {
            (Some(at), None) => jwt.add_secret(algorithm, at.read()?.expose().as_bytes()),
            (None, Some(path)) => {
                let shown = path.display();
                let pem =
                    fs::read(path).map_err(|e| wrong(format!("cannot read {shown}")).cause(&e))?;
                jwt.add_public_key(algorithm, &pem)
            }
            _ => return Err(wrong(format!("{name}: give either `secret` or `public_key`"))),
        }
        .map_err(|e| wrong(format!("the key for {name}: {e}")))?;
    }
    Ok(jwt)
}

fn algorithm(name: &str) -> Result<JwtAlgorithm, Failure> {
    JwtAlgorithm::from_name(name)
        .ok_or_else(|| wrong(format!("{name} is none of the algorithms for tokens")))
}

/// With the keys that others publish.
fn published(mut jwt: Jwt, config: &config::Jwt) -> Result<Jwt, Failure> {
    let algorithms: Result<Vec<_>, _> =
        config.algorithms.iter().map(|name| algorithm(name)).collect();
    let algorithms = algorithms?;
    if let Some(path) = &config.jwks_file {
        let shown = path.display();
        let keys = Jwks::from_json(config::read(path)?.as_bytes(), &algorithms);
        jwt = jwt.jwks(keys.map_err(|e| wrong(shown).cause(&e))?);
    }
    if let Some(server) = &config.jwks {
        let place = "[auth.jwt.jwks]";
        let server = JwksServer::builder(fetch::server(server, place)?, algorithms);
        let mut server = server.map_err(|e| wrong(place).cause(&e))?;
        if let Some(refresh) = config.jwks_refresh {
            server = server.refresh(refresh.0);
        }
        jwt = jwt.jwks_server(server.build());
    }
    Ok(jwt)
}
