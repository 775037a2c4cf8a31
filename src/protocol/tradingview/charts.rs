//! Histories: a request is a chart session of its own, with one symbol and one series, and ends with it.
//!
//! - A session is given back once its series is there, has failed, or is not waited for any more. That
//!   waits until the server has spoken of the session: one whose commands were never written is none that
//!   could be given back.
//! - What is kept grows with requests, and of those that were given up unheard up to [`UNHEARD`].

use std::collections::{BTreeSet, HashMap};

use super::ids::{Ids, Kind};
use super::packet::{Word, command};
use crate::message::Message;
use crate::protocol::json::{Kind as JsonKind, Raw, pick, quote};
use crate::protocol::{Cx, RequestId};

/// Sessions that were given up before the server spoke of them. Those beyond are left to the server.
const UNHEARD: usize = 1024;
/// Bars that may be asked for at once; servers have fewer.
const MOST_BARS: u64 = 100_000;

const SERIES: &str = "sds_1";
const SYMBOL: &str = "sds_sym_1";

#[derive(Debug, Default)]
pub(super) struct Charts {
    live: HashMap<u64, Chart>,
    requests: HashMap<RequestId, u64>,
    unheard: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Chart {
    id: RequestId,
    is_heard: bool,
}

/// What a program asks for.
#[derive(Debug, Eq, PartialEq)]
struct Ask {
    /// As JSON: the symbol as the server resolves it, the resolution, how many bars, which range.
    arguments: [String; 4],
}

impl Charts {
    /// Asks for a history. Returns whether `body` is one.
    pub(super) fn ask(
        &mut self,
        id: RequestId,
        body: &Message,
        ids: &mut Ids,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(ask) = body.as_text().and_then(Ask::read) else { return false };
        let number = ids.next();
        let session = ids.write(Kind::Chart, number);
        let [symbol, resolution, count, range] = &ask.arguments;
        cx.push(command("chart_create_session", &[&session, r#""""#]));
        cx.push(command("resolve_symbol", &[&session, &quote(SYMBOL), symbol]));
        let (series, of) = (quote(SERIES), quote(SYMBOL));
        let mut arguments = vec![&*session, &*series, r#""s1""#, &*of, resolution, count];
        if !range.is_empty() {
            arguments.push(range); // An empty one is taken for another kind of series.
        }
        cx.push(command("create_series", &arguments));
        if let Some(before) = self.requests.insert(id, number) {
            self.live.remove(&before);
        }
        self.live.insert(number, Chart { id, is_heard: false });
        true
    }

    /// Nobody waits for the history any more.
    pub(super) fn cancel(&mut self, id: RequestId, ids: &Ids, cx: &mut Cx<'_>) {
        let Some(number) = self.requests.get(&id).copied() else { return };
        match self.live.get(&number).is_some_and(|chart| chart.is_heard) {
            true => self.end(number, ids, cx),
            false => {
                self.requests.remove(&id);
                self.live.remove(&number);
                self.unheard.insert(number);
                if self.unheard.len() > UNHEARD {
                    self.unheard.pop_first();
                }
            }
        }
    }

    /// Gives a session back.
    fn end(&mut self, number: u64, ids: &Ids, cx: &mut Cx<'_>) {
        if let Some(chart) = self.live.remove(&number) {
            self.requests.remove(&chart.id);
        }
        cx.push(command("chart_delete_session", &[&ids.write(Kind::Chart, number)]));
    }

    /// What the server says of a session that was given up: it is there, and can be given back.
    pub(super) fn late(&mut self, number: u64, ids: &Ids, cx: &mut Cx<'_>) {
        if self.unheard.remove(&number) {
            self.end(number, ids, cx);
        }
    }

    pub(super) fn has(&self, session: u64) -> bool {
        self.live.contains_key(&session)
    }

    /// What the server says of a session that there is. Returns whether it is known.
    pub(super) fn heard(
        &mut self,
        number: u64,
        word: &Word<'_>,
        packet: &str,
        message: &Message,
        ids: &Ids,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(chart) = self.live.get_mut(&number) else { return false };
        chart.is_heard = true;
        let id = chart.id;
        let of = |name: &str| word.text(1).is_some_and(|text| text == name);
        match &*word.method {
            "timescale_update" => {
                let Some(all) = word.at(1).filter(|all| all.kind() == Some(JsonKind::Object))
                else {
                    return false;
                };
                if let Some(bars) = all.field(SERIES) {
                    cx.reply(id, message.part(bars.as_str().as_bytes()), false);
                }
            }
            "series_completed" if of(SERIES) => {
                cx.reply(id, None, true);
                self.end(number, ids, cx);
            }
            "symbol_error" if of(SYMBOL) => self.fail(number, id, packet, message, ids, cx),
            "series_error" if of(SERIES) => self.fail(number, id, packet, message, ids, cx),
            "critical_error" => self.fail(number, id, packet, message, ids, cx),
            // On the way to the series; updates of it are those of a stream, not of a history.
            "symbol_resolved" | "series_loading" | "series_timeframe" | "du" => {}
            _ => return false,
        }
        true
    }

    fn fail(
        &mut self,
        number: u64,
        id: RequestId,
        packet: &str,
        message: &Message,
        ids: &Ids,
        cx: &mut Cx<'_>,
    ) {
        cx.reply_failed(id, message.part(packet.as_bytes()));
        self.end(number, ids, cx);
    }
}

impl Ask {
    /// `{"symbol":…,"resolution":…,"count":…,"from":…,"to":…}`; without both of the last two, or
    /// neither, it is no ask.
    fn read(body: &str) -> Option<Self> {
        serde_json::from_str::<serde::de::IgnoredAny>(body).ok()?;
        let keys = ["symbol", "resolution", "count", "from", "to"];
        let [symbol, resolution, count, from, to] = pick(body, keys).ok()?;
        let symbol = symbol?;
        let symbol = match symbol.kind()? {
            JsonKind::String => format!(r#"={{"symbol":{}}}"#, symbol.as_str()),
            JsonKind::Object => format!("={}", symbol.as_str()),
            _ => return None,
        };
        let resolution = resolution?.string()?;
        let count = count.map_or(Some(300), Raw::u64).filter(|n| (1..=MOST_BARS).contains(n))?;
        let range = match (from, to) {
            (None, None) => String::new(),
            (from, to) => {
                let (from, to) = (from?.u64()?, to?.u64()?);
                Some(quote(&format!("r,{from}:{to}"))).filter(|_| from <= to)?
            }
        };
        Some(Self { arguments: [quote(&symbol), quote(&resolution), count.to_string(), range] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_is_asked_for_and_anything_else_is_none() {
        let read = |body: &str| Ask::read(body).map(|ask| ask.arguments.join(" "));
        let is = |text: &str| Some(text.to_owned());
        let body = r#"{"symbol":"A:B","resolution":"1D"}"#;
        assert_eq!(read(body), is(r#""={\"symbol\":\"A:B\"}" "1D" 300 "#));
        let body = r#"{"to":9,"from":7,"count":5,"resolution":"1","symbol":{"symbol":"é","adjustment":"splits"}}"#;
        let symbol = r#""={\"symbol\":\"é\",\"adjustment\":\"splits\"}""#;
        assert_eq!(read(body), is(&format!(r#"{symbol} "1" 5 "r,7:9""#)));
        let more = |more: &str| format!(r#"{{"symbol":"A","resolution":"1"{more}}}"#);
        assert!(read(&more("")).is_some());
        for bad in [
            r#","count":0"#,
            r#","count":100001"#,
            r#","count":"5""#,
            r#","from":1"#,
            r#","to":1"#,
            r#","from":2,"to":1"#,
            r#","from":-1,"to":1"#,
            ",",
        ] {
            assert_eq!(read(&more(bad)), None, "{bad}");
        }
        for bad in ["", "[]", "{}", r#"{"symbol":"A"}"#, r#"{"symbol":1,"resolution":"1"}"#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
