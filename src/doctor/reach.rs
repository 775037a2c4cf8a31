//! From a name to an open WebSocket, step by step.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{DATE, HeaderMap, SEC_WEBSOCKET_PROTOCOL, SERVER};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::advice::has_dead;
use super::clock::ClockSkew;
use super::options::DoctorOptions;
use super::report::{Attempt, AttemptEnd, Diagnosis, Finding, Outcome, Step, StepKind};
use crate::name::StreamName;
use crate::protocol::{DisconnectReason, Request, Response, printable};
use crate::transport::certificate::CertificateFault;
use crate::transport::dial::{connect, resolve};
use crate::transport::{Opening, Proxy, Stream, TransportError, TungsteniteSocket};

/// Longest text of a header that is shown, in letters.
const MAX_SHOWN: usize = 100;

/// What was found so far.
pub(super) struct Examination {
    pub(super) options: DoctorOptions,
    request: Request,
    steps: Vec<Step>,
}

impl Examination {
    pub(super) fn new(request: Request, options: DoctorOptions) -> Self {
        Self { options, request, steps: Vec::new() }
    }

    pub(super) async fn run(mut self, name: StreamName) -> Diagnosis {
        if let Some(socket) = self.reach().await {
            self.talk(socket).await;
        }
        let steps = StepKind::ALL.map(|kind| {
            let taken = self.steps.iter().position(|step| step.kind == kind);
            taken.map_or_else(|| not_reached(kind), |at| self.steps.swap_remove(at))
        });
        Diagnosis { name, steps: steps.into(), url: self.request.url().clone() }
    }

    async fn reach(&mut self) -> Option<TungsteniteSocket> {
        self.options.transport.prepare(self.request.url()).await;
        let proxy = match self.options.transport.proxy_for(self.request.url()) {
            Ok(proxy) => proxy.cloned(),
            Err(e) => return self.failed(StepKind::Proxy, Instant::now(), e),
        };
        let addresses = self.resolve(proxy.as_ref()).await?;
        let tcp = self.connect(addresses, proxy.as_ref()).await?;
        let stream = self.tunnel(tcp, proxy.as_ref()).await?;
        let stream = self.secure(stream).await?;
        self.upgrade(stream).await
    }

    async fn resolve(&mut self, proxy: Option<&Proxy>) -> Option<Vec<SocketAddr>> {
        let (started, url) = (Instant::now(), self.request.url());
        let (host, port) = match proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (url.host(), url.port()),
        };
        match self.in_time(by_way_of(proxy, resolve(host, port))).await {
            Ok(addresses) => {
                let finding = Finding::Resolved { addresses: addresses.clone() };
                self.passed(StepKind::Dns, started, finding);
                Some(addresses)
            }
            Err(e) => self.failed(StepKind::Dns, started, e),
        }
    }

    async fn connect(
        &mut self,
        addresses: Vec<SocketAddr>,
        proxy: Option<&Proxy>,
    ) -> Option<TcpStream> {
        let (started, race) = (Instant::now(), Race::new(&addresses));
        let dialled = connect(addresses, |address| race.run(address));
        let result = self.in_time(by_way_of(proxy, dialled)).await;
        let attempts = race.attempts();
        match result {
            Ok(tcp) => {
                let dead = has_dead(&attempts);
                let outcome = if dead { Outcome::Warning } else { Outcome::Passed };
                self.took(StepKind::Tcp, outcome, started, Finding::Connected { attempts });
                Some(tcp)
            }
            Err(e) => {
                let error = Arc::new(e);
                let finding = Finding::Failed { attempts, certificate: None, error };
                self.took(StepKind::Tcp, Outcome::Failed, started, finding);
                None
            }
        }
    }

    async fn tunnel(&mut self, tcp: TcpStream, proxy: Option<&Proxy>) -> Option<Stream> {
        let (kind, started) = (StepKind::Proxy, Instant::now());
        let Some(proxy) = proxy else {
            self.step(kind, Outcome::NotApplicable, None, Finding::NoProxy);
            return Some(Stream::Plain(tcp));
        };
        let tunnel = self.options.transport.tunnel(proxy, tcp, self.request.url());
        match self.in_time(tunnel).await {
            Ok(stream) => {
                let (proxy, resolves) = (proxy.to_string(), proxy.resolves());
                self.passed(kind, started, Finding::Tunnelled { proxy, resolves });
                Some(stream)
            }
            Err(e) => self.failed(kind, started, e),
        }
    }

    async fn secure(&mut self, tcp: Stream) -> Option<Stream> {
        let (started, url) = (Instant::now(), self.request.url());
        let secured = self.in_time(self.options.transport.secure(url, tcp)).await;
        match secured {
            Ok(stream) => {
                let (outcome, finding) = secured_by(&stream, (self.options.wall)());
                match outcome {
                    Outcome::NotApplicable => self.step(StepKind::Tls, outcome, None, finding),
                    outcome => self.took(StepKind::Tls, outcome, started, finding),
                }
                Some(stream)
            }
            Err(e) => self.failed(StepKind::Tls, started, e),
        }
    }

    async fn upgrade(&mut self, stream: Stream) -> Option<TungsteniteSocket> {
        let (started, before) = (Instant::now(), (self.options.wall)());
        let opening = match Opening::of(&self.request) {
            Ok(opening) => opening,
            Err(e) => return self.failed(StepKind::Handshake, started, e),
        };
        let upgraded = self.in_time(self.options.transport.upgrade(&opening, stream)).await;
        let after = (self.options.wall)();
        let answer = match &upgraded {
            Ok((_, response)) => Some(response),
            Err(e) => e.response(),
        };
        // A refusal has a date as well, and a wrong clock may be why.
        if let Some(headers) = answer.map(Response::headers) {
            let (outcome, finding) = clock(headers, before, after);
            self.step(StepKind::Clock, outcome, None, finding);
        }
        match upgraded {
            Ok((socket, response)) => {
                let finding = Finding::Upgraded {
                    server: response.headers().get(SERVER).map(shown),
                    subprotocol: response.headers().contains_key(SEC_WEBSOCKET_PROTOCOL),
                };
                self.passed(StepKind::Handshake, started, finding);
                Some(socket)
            }
            Err(e) => self.failed(StepKind::Handshake, started, e),
        }
    }

    /// What a step comes to, or that its time is up.
    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        let late = |_| Err(TransportError::new(DisconnectReason::ConnectTimeout));
        timeout(self.options.timeout, step).await.unwrap_or_else(late)
    }

    fn passed(&mut self, kind: StepKind, started: Instant, finding: Finding) {
        self.took(kind, Outcome::Passed, started, finding);
    }

    pub(super) fn failed<T>(
        &mut self,
        kind: StepKind,
        started: Instant,
        e: TransportError,
    ) -> Option<T> {
        let (attempts, certificate) = (Vec::new(), fault(&e));
        let finding = Finding::Failed { attempts, certificate, error: Arc::new(e) };
        self.took(kind, Outcome::Failed, started, finding);
        None
    }

    pub(super) fn took(
        &mut self,
        kind: StepKind,
        outcome: Outcome,
        started: Instant,
        finding: Finding,
    ) {
        self.step(kind, outcome, Some(started.elapsed()), finding);
    }

    pub(super) fn step(
        &mut self,
        kind: StepKind,
        outcome: Outcome,
        took: Option<Duration>,
        finding: Finding,
    ) {
        self.steps.push(Step { finding, kind, outcome, took });
    }
}

/// `step`, whose failure is that of the proxy, where there is one.
async fn by_way_of<T>(
    proxy: Option<&Proxy>,
    step: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    step.await.map_err(|e| match proxy {
        Some(proxy) => proxy.unreachable(e),
        None => e,
    })
}

fn not_reached(kind: StepKind) -> Step {
    Step { finding: Finding::NotReached, kind, outcome: Outcome::NotReached, took: None }
}

/// What became of each address, written down while they race.
struct Race(Mutex<Vec<Running>>);

struct Running {
    address: SocketAddr,
    end: Option<AttemptEnd>,
    started: Option<Instant>,
}

impl Race {
    fn new(addresses: &[SocketAddr]) -> Self {
        let waiting = |address: &_| Running { address: *address, end: None, started: None };
        Self(Mutex::new(addresses.iter().map(waiting).collect()))
    }

    async fn run(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let started = Instant::now();
        self.note(address, |running| running.started = Some(started));
        let result = TcpStream::connect(address).await;
        let after = started.elapsed();
        let end = match &result {
            Ok(_) => AttemptEnd::Connected { after },
            Err(e) => AttemptEnd::Failed { after, kind: e.kind() },
        };
        self.note(address, |running| running.end = Some(end));
        result
    }

    fn note(&self, address: SocketAddr, note: impl FnOnce(&mut Running)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The same address may be there twice.
        if let Some(running) = all.iter_mut().find(|r| r.address == address && r.end.is_none()) {
            note(running);
        }
    }

    fn attempts(self) -> Vec<Attempt> {
        let all = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let attempt = |running: Running| {
            let abandoned = |at: Instant| AttemptEnd::Abandoned { after: at.elapsed() };
            let unfinished = || running.started.map_or(AttemptEnd::NotTried, abandoned);
            Attempt { address: running.address, end: running.end.unwrap_or_else(unfinished) }
        };
        all.into_iter().map(attempt).collect()
    }
}

/// What a header says, as far as it can be shown.
fn shown(value: &HeaderValue) -> String {
    printable(&String::from_utf8_lossy(value.as_bytes())).chars().take(MAX_SHOWN).collect()
}

fn clock(headers: &HeaderMap, before: SystemTime, after: SystemTime) -> (Outcome, Finding) {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    match date.and_then(|date| httpdate::parse_http_date(date).ok()) {
        Some(date) => {
            let skew = ClockSkew::new(date, before, after);
            let outcome = if skew.is_certain() { Outcome::Warning } else { Outcome::Passed };
            (outcome, Finding::Clock(skew))
        }
        None => (Outcome::NotApplicable, Finding::NoDate),
    }
}

#[cfg(feature = "rustls")]
fn fault(e: &TransportError) -> Option<CertificateFault> {
    crate::transport::certificate::fault(e)
}

#[cfg(not(feature = "rustls"))]
fn fault(_: &TransportError) -> Option<CertificateFault> {
    None
}

#[cfg(feature = "rustls")]
fn secured_by(stream: &Stream, now: SystemTime) -> (Outcome, Finding) {
    use super::advice::is_soon;
    use crate::transport::certificate::{names, not_after};

    let Some(tls) = stream.tls() else { return (Outcome::NotApplicable, Finding::Plain) };
    let certificate = tls.peer_certificates().and_then(<[_]>::first);
    let not_after = certificate.and_then(not_after);
    let valid_for = not_after.map(|end| end.duration_since(now).unwrap_or_default());
    let outcome = if valid_for.is_some_and(is_soon) { Outcome::Warning } else { Outcome::Passed };
    let finding = Finding::Secured {
        cipher: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
        names: certificate.map(names).unwrap_or_default(),
        not_after,
        valid_for,
        version: tls.protocol_version().and_then(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => None,
        }),
    };
    (outcome, finding)
}

/// A stream without TLS has no other way to be.
#[cfg(not(feature = "rustls"))]
fn secured_by(_: &Stream, _: SystemTime) -> (Outcome, Finding) {
    (Outcome::NotApplicable, Finding::Plain)
}
