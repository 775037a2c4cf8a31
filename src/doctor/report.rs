//! What was found: plain data.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::clock::ClockSkew;
use crate::name::StreamName;
use crate::protocol::Url;
use crate::transport::TransportError;
use crate::transport::certificate::CertificateFault;

/// What [`doctor`](fn@super::doctor) found.
///
/// Printed with `{}` it is a text for people, and serialised an object with one entry per step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The stream examined.
    pub name: StreamName,
    /// One for each [`StepKind`], in their order.
    pub steps: Vec<Step>,
    /// What was dialled. Prints neither query nor user-info.
    pub url: Url,
}

impl Diagnosis {
    /// [`Failed`](Outcome::Failed) if a step failed, else [`Warning`](Outcome::Warning) if there
    /// was one, else [`Passed`](Outcome::Passed).
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let any = |outcome| self.steps.iter().any(|step| step.outcome == outcome);
        [Outcome::Failed, Outcome::Warning]
            .into_iter()
            .find(|outcome| any(*outcome))
            .unwrap_or(Outcome::Passed)
    }

    /// The step that failed; at most one does.
    #[must_use]
    pub fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.outcome == Outcome::Failed)
    }

    /// The step of this kind.
    #[must_use]
    pub fn step(&self, kind: StepKind) -> Option<&Step> {
        self.steps.iter().find(|step| step.kind == kind)
    }
}

/// One step on the way to a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Step {
    /// What was seen.
    pub finding: Finding,
    /// Which step.
    pub kind: StepKind,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took; `None` where nothing was done.
    pub took: Option<Duration>,
}

/// The steps, in the order in which they are taken.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum StepKind {
    /// The host's name is resolved: that of the proxy, where there is one.
    Dns,
    /// One of its addresses is connected to.
    Tcp,
    /// The proxy lets us through to the server.
    Proxy,
    /// The connection is encrypted, and the server shows who it is.
    Tls,
    /// The server makes a WebSocket of it.
    Handshake,
    /// The server sends something.
    FirstMessage,
    /// The server answers a ping.
    Heartbeat,
    /// The server's clock is compared with ours.
    Clock,
    /// Both sides close.
    Teardown,
}

impl StepKind {
    /// All of them, in their order.
    pub const ALL: [Self; 9] = [
        Self::Dns,
        Self::Tcp,
        Self::Proxy,
        Self::Tls,
        Self::Handshake,
        Self::FirstMessage,
        Self::Heartbeat,
        Self::Clock,
        Self::Teardown,
    ];

    /// One word out of a closed set.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::FirstMessage => "first_message",
            Self::Heartbeat => "heartbeat",
            Self::Clock => "clock",
            Self::Teardown => "teardown",
        }
    }
}

/// How a step went.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// There is no stream beyond this step.
    Failed,
    /// There was nothing to do or to compare.
    NotApplicable,
    /// An earlier step failed.
    NotReached,
    /// As it should be.
    Passed,
    /// The stream works, and something about it is worth a look.
    Warning,
}

impl Outcome {
    /// One word out of a closed set.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::NotApplicable => "not_applicable",
            Self::NotReached => "not_reached",
            Self::Passed => "passed",
            Self::Warning => "warning",
        }
    }
}

/// What a step has seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// [`Clock`](StepKind::Clock): the difference.
    Clock(ClockSkew),
    /// [`Teardown`](StepKind::Teardown): the server answered our close frame.
    Closed {
        /// The code of its answer.
        code: Option<u16>,
        /// When the TCP connection ended, counted from our close frame; `None` if it did not in
        /// time.
        ended: Option<Duration>,
    },
    /// [`Tcp`](StepKind::Tcp): the host's addresses, the last of those tried being connected to.
    Connected {
        /// What became of each address, in the order of the dial.
        attempts: Vec<Attempt>,
    },
    /// The step failed.
    Failed {
        /// Of [`Tcp`](StepKind::Tcp): what became of each address. Else empty.
        attempts: Vec<Attempt>,
        /// What is wrong with the server's certificate, if that is it and it is one of the common
        /// faults.
        certificate: Option<CertificateFault>,
        /// How it failed.
        error: Arc<TransportError>,
    },
    /// [`FirstMessage`](StepKind::FirstMessage): there is one.
    Message {
        /// Whether it is a binary one.
        binary: bool,
        /// Its length in bytes.
        len: usize,
    },
    /// [`Clock`](StepKind::Clock): the server does not say what time it is.
    NoDate,
    /// [`Proxy`](StepKind::Proxy): there is none on the way.
    NoProxy,
    /// [`Heartbeat`](StepKind::Heartbeat): no answer to our ping.
    NoPong {
        /// Messages that came meanwhile.
        messages: u64,
        /// Pings of the server's that came meanwhile.
        pings: u64,
    },
    /// The step was not reached.
    NotReached,
    /// [`Tls`](StepKind::Tls): the URL asks for none.
    Plain,
    /// [`Heartbeat`](StepKind::Heartbeat): the server answered our ping.
    Pong {
        /// Messages that came since the handshake.
        messages: u64,
        /// Pings of the server's that came since the handshake.
        pings: u64,
    },
    /// [`FirstMessage`](StepKind::FirstMessage): none came.
    Quiet {
        /// Pings of the server's that came meanwhile.
        pings: u64,
    },
    /// [`Dns`](StepKind::Dns): the host's addresses, in the order of the dial.
    Resolved {
        /// The addresses.
        addresses: Vec<SocketAddr>,
    },
    /// [`Tls`](StepKind::Tls): a certificate that is trusted, and an encrypted connection.
    Secured {
        /// The suite of ciphers, by its registered name.
        cipher: Option<&'static str>,
        /// The names that the certificate is for.
        names: Vec<String>,
        /// Until when the certificate is valid.
        not_after: Option<SystemTime>,
        /// Time left until then; zero once it has passed.
        valid_for: Option<Duration>,
        /// `1.2` or `1.3`.
        version: Option<&'static str>,
    },
    /// [`Proxy`](StepKind::Proxy): it leads to the server.
    Tunnelled {
        /// Scheme, host and port, and the environment's variable that named it.
        proxy: String,
        /// Whether the proxy resolves the server's name; else this machine did.
        resolves: bool,
    },
    /// [`Teardown`](StepKind::Teardown): the server did not answer our close frame.
    Unanswered {
        /// How the connection ended; `None` if it did not in time.
        error: Option<Arc<TransportError>>,
    },
    /// [`Handshake`](StepKind::Handshake): a WebSocket.
    Upgraded {
        /// The `Server` header, cut to 100 letters, without control characters.
        server: Option<String>,
        /// Whether a subprotocol was agreed on. Some servers take a token in its place, so it is
        /// not shown.
        subprotocol: bool,
    },
}

/// One address of the host, as the dial went about it (RFC 8305): the next one is tried when the
/// one before has failed, or after 250 ms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The address.
    pub address: SocketAddr,
    /// What became of it.
    pub end: AttemptEnd,
}

/// What became of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AttemptEnd {
    /// It was on its way when another one was connected to, or the time was up.
    Abandoned {
        /// After how long.
        after: Duration,
    },
    /// It is the one that was connected to.
    Connected {
        /// After how long.
        after: Duration,
    },
    /// It failed.
    Failed {
        /// After how long.
        after: Duration,
        /// Why.
        kind: io::ErrorKind,
    },
    /// There was no need.
    NotTried,
}
