//! A protocol with requests, as lines of text, and a server that answers as a test says.

use wsmux::protocol::{
    Cx, Dial, DialError, Direct, Lane, Protocol, Request, RequestId, Session, To, Unsupported,
};
use wsmux::test_util::{Out, Service, SocketId};
use wsmux::{InvalidName, Message, StreamName};

/// Asks `?<id> <body>`. The server answers with parts `+<id> …`, a last one `=<id> …` or a failure
/// `-<id> …`; `~<id>` cancels, and what else comes is data.
pub(crate) struct Asker(Direct);

impl Asker {
    pub(crate) fn new(base: &str) -> Self {
        Self(Direct::new(base).unwrap())
    }
}

struct Talk;

impl Protocol for Asker {
    fn lane(&self, name: &StreamName) -> Result<Lane, InvalidName> {
        self.0.lane(name)
    }

    fn request(&self, dial: &Dial<'_>) -> Result<Request, DialError> {
        self.0.request(dial)
    }

    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Talk)
    }
}

impl Session for Talk {
    fn join(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn leave(&mut self, _: &[StreamName], _: &mut Cx<'_>) {}

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        let numbered = text.get(1..).and_then(|rest| rest.split_once(' '));
        let Some((Ok(id), words)) = numbered.map(|(id, words)| (id.parse().map(RequestId), words))
        else {
            return cx.data(To::All, message.clone());
        };
        match text.as_bytes()[0] {
            b'+' => cx.reply(id, Message::from(words), false),
            b'=' if words.is_empty() => cx.reply(id, None, true),
            b'=' => cx.reply(id, Message::from(words), true),
            b'-' => cx.reply_failed(id, words),
            _ => cx.data(To::All, message.clone()),
        }
    }

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let body = body.as_text().filter(|body| *body != "nonsense").ok_or(Unsupported)?;
        cx.push(format!("?{id} {body}"));
        Ok(())
    }

    fn cancel(&mut self, id: RequestId, cx: &mut Cx<'_>) {
        cx.push(format!("~{id}"));
    }
}

type Answer = Box<dyn FnMut(&Asked<'_>, &mut Out) + Send>;

/// Answers each request as a test says, or not.
pub(crate) struct Desk {
    answer: Answer,
    /// The numbers of requests that were cancelled.
    pub(crate) cancelled: Vec<u64>,
    /// What was asked on which socket.
    pub(crate) heard: Vec<(SocketId, String)>,
}

/// A request, as its server sees it.
pub(crate) struct Asked<'a> {
    pub(crate) body: &'a str,
    pub(crate) id: u64,
    pub(crate) socket: SocketId,
}

impl Asked<'_> {
    /// The last line of a reply to it.
    pub(crate) fn reply(&self, words: &str) -> String {
        format!("={} {words}", self.id)
    }
}

impl Desk {
    pub(crate) fn new(answer: impl FnMut(&Asked<'_>, &mut Out) + Send + 'static) -> Self {
        Self { answer: Box::new(answer), cancelled: Vec::new(), heard: Vec::new() }
    }

    /// Says each request back.
    pub(crate) fn echo() -> Self {
        Self::new(|asked, out| out.answer(asked.socket, asked.reply(asked.body)))
    }
}

impl Service for Desk {
    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out) {
        let text = message.as_text().unwrap_or_default();
        if let Some(id) = text.strip_prefix('~').and_then(|id| id.parse().ok()) {
            return self.cancelled.push(id);
        }
        let asked = text.strip_prefix('?').and_then(|rest| rest.split_once(' '));
        let Some((Ok(id), body)) = asked.map(|(id, body)| (id.parse(), body)) else {
            return out.fault(socket, format!("not a request: {text}"));
        };
        self.heard.push((socket, body.to_owned()));
        (self.answer)(&Asked { body, id, socket }, out);
    }
}
