//! What is said on one socket to TradingView.
//!
//! - The server begins with its session's id. Nothing is said before that.
//! - What comes for a session that the socket had is late, and ignored; for one that it never gave a name
//!   to, the socket is given up: whose data it brings is not known any more. So it is where packets do not
//!   come out even, or are not JSON.

use std::borrow::Cow;
use std::sync::Arc;

use super::charts::Charts;
use super::frame;
use super::ids::{Ids, Kind, Whose};
use super::packet::{Heard, Word, command, is_command, read};
use super::quotes::Quotes;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::courtesy::Courtesy;
use crate::protocol::{Cx, RequestId, Session, Unsupported, Verdict};

pub(super) struct Talk {
    charts: Charts,
    courtesy: Courtesy,
    /// What is wanted of a quote, each as JSON.
    fields: Arc<[String]>,
    has_begun: bool,
    ids: Ids,
    quotes: Quotes,
}

/// Why the socket is of no use.
type Why = Cow<'static, str>;

impl Talk {
    pub(super) fn new(fields: Arc<[String]>) -> Self {
        Self {
            charts: Charts::default(),
            courtesy: Courtesy::default(),
            fields,
            has_begun: false,
            ids: Ids::default(),
            quotes: Quotes::default(),
        }
    }

    fn packet(&mut self, packet: &str, message: &Message, cx: &mut Cx<'_>) -> Result<(), Why> {
        if frame::is_heartbeat(packet) {
            if !self.courtesy.may_answer(cx.now()) {
                return Err("the server floods the connection with heartbeats".into());
            }
            cx.push(frame::write(packet));
            return Ok(());
        }
        let heard = read(packet).map_err(|_| "a packet is neither JSON nor a heartbeat")?;
        match (heard, self.has_begun) {
            (Heard::Hello, false) => {
                self.has_begun = true;
                cx.push(command("set_auth_token", &[r#""unauthorized_user_token""#]));
                cx.push(command("set_locale", &[r#""en""#, r#""US""#]));
                cx.ready();
            }
            (Heard::Hello, true) => return Err("the server begins anew on an open socket".into()),
            (Heard::Word(word), begun) => return self.word(&word, begun, packet, message, cx),
            (Heard::Other, true) => cx.unroutable(&message.part(packet.as_bytes())),
            (Heard::Other, false) => return Err(NO_HELLO.into()),
        }
        Ok(())
    }

    fn word(
        &mut self,
        word: &Word<'_>,
        has_begun: bool,
        packet: &str,
        message: &Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Why> {
        if word.method == "protocol_error" {
            return Err(format!("the server gives the connection up: {}", word.why()).into());
        }
        if !has_begun {
            return Err(NO_HELLO.into());
        }
        let is_known = match word.text(0).map_or(Whose::Nobodys, |name| self.ids.read(&name)) {
            Whose::Strange => {
                return Err("the server speaks of a session of somebody else's".into());
            }
            Whose::Nobodys => false,
            Whose::Ours(Kind::Quote, number) if self.quotes.has(number) => {
                self.quotes.heard(number, word, message, &self.ids, cx)
            }
            Whose::Ours(Kind::Chart, number) if self.charts.has(number) => {
                self.charts.heard(number, word, packet, message, &self.ids, cx)
            }
            Whose::Ours(kind, number) => {
                if kind == Kind::Chart {
                    self.charts.late(number, &self.ids, cx);
                }
                true
            }
        };
        if !is_known {
            cx.unroutable(&message.part(packet.as_bytes()));
        }
        Ok(())
    }
}

const NO_HELLO: &str = "the server does not begin with the id of its session";

impl Session for Talk {
    fn open(&mut self, cx: &mut Cx<'_>) {
        self.ids.draw(cx);
    }

    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        self.quotes.join(names, &self.fields, &mut self.ids, cx);
    }

    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        self.quotes.leave(names, &self.ids, cx);
    }

    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let Some(text) = message.as_text().filter(|text| !text.is_empty()) else {
            return cx.unroutable(message);
        };
        for packet in frame::packets(text) {
            let packet = packet.map_err(|fault| fault.words().into());
            if let Err(why) = packet.and_then(|packet| self.packet(packet, message, cx)) {
                return cx.failed(Verdict::Retry, &why);
            }
        }
    }

    /// In a packet of its own, if it is a command.
    fn send(&mut self, _: &StreamName, message: Message, cx: &mut Cx<'_>) {
        if let Some(text) = message.as_text().filter(|text| is_command(text)) {
            cx.push(frame::write(text));
        }
    }

    fn request(
        &mut self,
        id: RequestId,
        body: Message,
        cx: &mut Cx<'_>,
    ) -> Result<(), Unsupported> {
        let is_ask = self.charts.ask(id, &body, &mut self.ids, cx);
        if is_ask { Ok(()) } else { Err(Unsupported) }
    }

    fn cancel(&mut self, id: RequestId, cx: &mut Cx<'_>) {
        self.charts.cancel(id, &self.ids, cx);
    }
}
