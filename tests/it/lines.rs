//! A protocol of lines, for tests: several names on a socket, and whatever a server may say.
//!
//! | client | |
//! |---|---|
//! | `+a1 a2` | join these, one line per call |
//! | `-a1 a2` | leave these |
//! | `hello` | with a greeting: before anything else |
//! | `tick` | its deadline has come |
//!
//! | server | |
//! |---|---|
//! | `ready` | answers `hello` |
//! | `=a1` | joined |
//! | `a1:text`, `*:text` | data for one, or for all |
//! | `~a1 7`, `~* ?` | a gap for one, or for all |
//! | `!a1 why` | rejected |
//! | `#a1` | ended |
//! | `@500` | a deadline in 500 ms |
//! | `%fatal why` | failed; also `%retry`, `%after`, `%token` |

use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;
use wsmux::protocol::{
    Cx, Dial, DialError, Lane, Limits, MessageRate, Protocol, Request, Session, To, Verdict,
};
use wsmux::test_util::memory::{MemoryServer, Peer};
use wsmux::transport::Frame;
use wsmux::{InvalidName, Message, StreamName};

use crate::{SECOND, settle};

/// A lane per first letter, and three names per socket unless `capacity` says otherwise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) batch: Option<usize>,
    pub(crate) capacity: Option<usize>,
    /// Whether the server has to be greeted, and to answer, before the first join.
    pub(crate) greeting: bool,
    /// Whether the URL joins what is wanted.
    pub(crate) joining: bool,
    pub(crate) rate: Option<MessageRate>,
}

impl Protocol for Lines {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new(name.as_str().chars().take(1).collect::<String>()))
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        let request = Request::new(&format!("ws://test/{}", dial.lane.as_str()))?;
        Ok(if self.joining { request.joining(dial.names.to_vec()) } else { request })
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Speaker { deadline: None, greeting: self.greeting })
    }

    fn limits(&self, _: &Lane) -> Limits {
        let mut limits = Limits::default().capacity(self.capacity.unwrap_or(3));
        (limits.batch, limits.messages) = (self.batch, self.rate);
        limits
    }
}

struct Speaker {
    deadline: Option<Instant>,
    greeting: bool,
}

impl Session for Speaker {
    fn open(&mut self, cx: &mut Cx<'_>) {
        if self.greeting {
            cx.push("hello");
        } else {
            cx.ready();
        }
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        cx.push(line('+', names));
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        cx.push(line('-', names));
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        let (verb, rest) = text.split_at(text.len().min(1));
        let (word, words) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "=" => cx.joined(word),
            "#" => cx.ended(word),
            "!" => cx.rejected(word, words),
            "~" => cx.gap(to(word), words.parse().ok()),
            "%" => cx.failed(verdict(word), words),
            "@" => self.deadline = Some(cx.now() + Duration::from_millis(word.parse().unwrap())),
            _ if text == "ready" => cx.ready(),
            _ => match text.split_once(':') {
                Some((name, payload)) => cx.data(to(name), payload.into()),
                None => cx.unroutable(message),
            },
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn tick(&mut self, cx: &mut Cx<'_>) {
        self.deadline = None;
        cx.push("tick");
    }
}

/// In alphabetical order, as the engine's own is arbitrary.
fn line(verb: char, names: &[StreamName]) -> String {
    let mut names: Vec<_> = names.iter().map(StreamName::as_str).collect();
    names.sort_unstable();
    format!("{verb}{}", names.join(" "))
}

fn to(name: &str) -> To<'_> {
    if name == "*" { To::All } else { To::Name(name) }
}

fn verdict(word: &str) -> Verdict {
    match word {
        "after" => Verdict::RetryAfter(7 * SECOND),
        "fatal" => Verdict::Fatal,
        "token" => Verdict::NewToken,
        _ => Verdict::Retry,
    }
}

/// What the client has said since the last call.
pub(crate) fn heard(peer: &mut Peer) -> Vec<String> {
    let frames = std::iter::from_fn(|| peer.recv().now_or_never().flatten());
    let text = |frame| match frame {
        Frame::Data(message) => message.as_text().expect("text").to_owned(),
        Frame::Close(_) => "(close)".to_owned(),
        Frame::Ping(_) => "(ping)".to_owned(),
        other => panic!("{other:?}"),
    };
    frames.map(text).collect()
}

/// The next line that the client says; `None` once it has closed the connection.
pub(crate) async fn next_line(peer: &mut Peer) -> Option<String> {
    loop {
        if let Frame::Data(message) = peer.recv().await? {
            return Some(message.as_text().expect("text").to_owned());
        }
    }
}

/// Confirms all that is asked for now, and returns what the client has said.
pub(crate) async fn confirm(peer: &mut Peer) -> Vec<String> {
    settle().await;
    let lines = heard(peer);
    let asked = lines.iter().filter_map(|line| line.strip_prefix('+'));
    peer.send_all(asked.flat_map(str::split_whitespace).map(|name| format!("={name}")));
    settle().await;
    lines
}

/// Accepts a socket, and confirms all that is asked for on it.
pub(crate) async fn accept(server: &mut MemoryServer) -> Peer {
    let mut peer = server.accept().await;
    confirm(&mut peer).await;
    peer
}
