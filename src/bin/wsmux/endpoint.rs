//! Where to and how, from the arguments to what the library takes.

use std::collections::HashSet;
use std::fs;

use http::{HeaderName, HeaderValue};
use wsmux::protocol::{
    self, BinanceCombined, Bybit, CoinbaseAdvanced, Deribit, Dial, DialError, Direct, GraphqlWs,
    Hyperliquid, JsonRpc, KrakenV2, Lane, Okx, Phoenix, Protocol, Request, Session, TradingView,
    UrlError, Verdict,
};
use wsmux::transport::{Proxy, Tls, Tungstenite};
use wsmux::{Config, FromMessage, InvalidName, Limits, StreamName, Subscription, WsManager};

use crate::args::{Speaks, Target};
use crate::exit::Failure;
use crate::values::{Retry, header};

/// A protocol with more headers.
struct WithHeaders {
    protocol: Box<dyn Protocol>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Protocol for WithHeaders {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.protocol.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let request = self.protocol.request(dial)?;
        Ok(self
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name.clone(), value.clone())))
    }

    fn session(&self, dial: &Dial<'_>) -> Box<dyn Session> {
        self.protocol.session(dial)
    }

    fn limits(&self, lane: &Lane) -> protocol::Limits {
        self.protocol.limits(lane)
    }

    fn classify(&self, failure: &protocol::Failure<'_>) -> Option<Verdict> {
        self.protocol.classify(failure)
    }

    fn bases(&self) -> usize {
        self.protocol.bases()
    }
}

/// Messages kept per stream while the output is slow.
const BUFFER: usize = 8192;

/// What subscribes to so many streams, each on a socket of its own.
pub(crate) fn manager(target: &Target, streams: usize, retry: Retry) -> Result<WsManager, Failure> {
    manager_by(target, Speaks::Direct, streams, retry)
}

/// What subscribes to so many streams, of a server that speaks so.
pub(crate) fn manager_by(
    target: &Target,
    speaks: Speaks,
    streams: usize,
    retry: Retry,
) -> Result<WsManager, Failure> {
    let protocol = protocol(&target.url, speaks).map_err(Failure::usage)?;
    let protocol = WithHeaders { protocol, headers: headers(target)? };
    let mut limits = Limits::default();
    limits.max_connections = limits.max_connections.max(streams);
    let config = Config::default().buffer(BUFFER).limits(limits).retry(retry.policy());
    WsManager::builder(protocol)
        .config(config)
        .transport(transport(target)?)
        .build()
        .map_err(Failure::usage)
}

fn protocol(url: &str, speaks: Speaks) -> Result<Box<dyn Protocol>, UrlError> {
    Ok(match speaks {
        Speaks::Binance => Box::new(BinanceCombined::spot().at(url)?),
        Speaks::Bybit => Box::new(Bybit::new(url)?),
        Speaks::Coinbase => Box::new(CoinbaseAdvanced::new(url)?),
        Speaks::Deribit => Box::new(Deribit::new(url)?),
        Speaks::Direct => Box::new(Direct::new(url)?),
        Speaks::Graphql => Box::new(GraphqlWs::new(url)?.documents()),
        Speaks::Hyperliquid => Box::new(Hyperliquid::new(url)?),
        Speaks::JsonRpc => Box::new(JsonRpc::new(url)?),
        Speaks::Kraken => Box::new(KrakenV2::new(url)?),
        Speaks::Okx => Box::new(Okx::new(url)?),
        Speaks::Phoenix => Box::new(Phoenix::new(url)?),
        Speaks::TradingView => Box::new(TradingView::new(url)?),
    })
}

/// The streams, each once: a name that is given twice is one stream.
pub(crate) fn once_each(names: &mut Vec<String>) {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
}

/// A subscription to a stream that is named by the arguments.
pub(crate) fn subscribed<T: FromMessage>(
    manager: &WsManager,
    name: &str,
) -> Result<Subscription<T>, Failure> {
    manager.subscribe(name).map_err(|e| match name {
        "" => Failure::usage(e),
        _ => Failure::usage(format!("the stream {name}: {e}")),
    })
}

/// The headers, those in files included.
pub(crate) fn headers(target: &Target) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let mut headers = Vec::new();
    for argument in &target.headers {
        match argument.strip_prefix('@') {
            None => headers.push(header(argument).map_err(wrong)?),
            Some(file) => {
                let text = fs::read_to_string(file)
                    // Without its name: it may be a header that begins with `@` by mistake.
                    .map_err(|e| Failure::usage("--header: cannot read the file").cause(&e))?;
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    headers.push(header(line).map_err(wrong)?);
                }
            }
        }
    }
    Ok(headers)
}

fn wrong(why: &'static str) -> Failure {
    Failure::usage(format!("--header: {why}"))
        .hint("such as `--header 'Authorization: Bearer TOKEN'`, or `--header @FILE`")
}

/// What opens sockets; messages are limited as by default.
pub(crate) fn transport(target: &Target) -> Result<Tungstenite, Failure> {
    let transport = match target.proxy.as_deref() {
        None => Tungstenite::new(),
        Some("none") => Tungstenite::new().no_proxy(),
        Some(url) => Tungstenite::new().proxy(
            // Without what was given: it may hold a password.
            Proxy::new(url).map_err(|e| Failure::usage("--proxy: no proxy").cause(&e))?,
        ),
    };
    let Some(file) = &target.ca else { return Ok(transport) };
    let shown = file.display();
    let pem = fs::read(file)
        .map_err(|e| Failure::usage(format!("--ca: cannot read {shown}")).cause(&e))?;
    let tls = Tls::new()
        .add_root_pem(&pem)
        .map_err(|e| Failure::usage(format!("--ca: {shown} is of no use")).cause(&e))?;
    Ok(transport.tls(tls))
}
