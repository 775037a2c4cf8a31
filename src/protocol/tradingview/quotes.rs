//! Quotes: which names are in which of the socket's quote sessions.
//!
//! - Nothing that the server says tells the quotes of a name that was left from those of the same name
//!   asked for again, but the session that they come in. So a name never comes back to a session that it
//!   was in; it has another one.
//! - A session without names is given back.
//! - What is kept grows with names: a session is left for a new one before it has seen too many go.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ids::{Ids, Kind};
use super::packet::{Word, command};
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::json::{Raw, pick, quote};
use crate::protocol::{Cx, To, short};

/// Names that may have been in a session and have gone.
const GONE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Quotes {
    /// The session that names are added to.
    current: Option<u64>,
    names: HashMap<StreamName, Quote>,
    sessions: HashMap<u64, Book>,
}

#[derive(Clone, Copy, Debug)]
struct Quote {
    is_joined: bool,
    session: u64,
}

/// A session.
#[derive(Debug, Default)]
struct Book {
    gone: HashSet<StreamName>,
    /// How many names there are in it.
    names: usize,
}

impl Quotes {
    pub(super) fn has(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Asks for names; `fields` is what is wanted of them, as JSON.
    pub(super) fn join(
        &mut self,
        names: &[StreamName],
        fields: &[String],
        ids: &mut Ids,
        cx: &mut Cx<'_>,
    ) {
        let fresh: Vec<_> = names.iter().filter(|name| !self.names.contains_key(*name)).collect();
        if fresh.is_empty() {
            return;
        }
        let takes = |book: &Book| {
            book.gone.len() < GONE && !fresh.iter().any(|name| book.gone.contains(*name))
        };
        let current = self.current.filter(|number| self.sessions.get(number).is_some_and(takes));
        let session = current.unwrap_or_else(|| begin(fields, ids, cx));
        self.current = Some(session);
        let book = self.sessions.entry(session).or_default();
        let id = ids.write(Kind::Quote, session);
        let mut arguments = vec![id];
        for name in fresh {
            arguments.push(quote(name.as_str()));
            book.names += 1;
            self.names.insert(name.clone(), Quote { is_joined: false, session });
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        cx.push(command("quote_add_symbols", &arguments));
    }

    pub(super) fn leave(&mut self, names: &[StreamName], ids: &Ids, cx: &mut Cx<'_>) {
        let mut by_session: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for name in names {
            let Some(Quote { session, .. }) = self.names.remove(name) else { continue };
            let Some(book) = self.sessions.get_mut(&session) else { continue };
            book.names -= 1;
            book.gone.insert(name.clone());
            by_session.entry(session).or_default().push(quote(name.as_str()));
        }
        for (session, names) in by_session {
            let id = ids.write(Kind::Quote, session);
            if self.sessions.get(&session).is_some_and(|book| book.names > 0) {
                let mut arguments = vec![&*id];
                arguments.extend(names.iter().map(String::as_str));
                cx.push(command("quote_remove_symbols", &arguments));
                continue;
            }
            self.sessions.remove(&session);
            self.current = self.current.filter(|current| *current != session);
            cx.push(command("quote_delete_session", &[&id]));
        }
    }

    /// What the server says of a session that there is. Returns whether it is known.
    pub(super) fn heard(
        &mut self,
        session: u64,
        word: &Word<'_>,
        message: &Message,
        ids: &Ids,
        cx: &mut Cx<'_>,
    ) -> bool {
        match &*word.method {
            "qsd" => self.quoted(session, word, message, ids, cx),
            "quote_completed" => self.completed(session, word, cx),
            "critical_error" => {
                self.lost(session, ids, cx);
                true
            }
            _ => false,
        }
    }

    /// The quote of `name` in this session.
    fn of(&mut self, session: u64, name: &str) -> Option<&mut Quote> {
        self.names.get_mut(name).filter(|quote| quote.session == session)
    }

    fn was_in(&self, session: u64, name: &str) -> bool {
        self.sessions.get(&session).is_some_and(|book| book.gone.contains(name))
    }

    fn quoted(
        &mut self,
        session: u64,
        word: &Word<'_>,
        message: &Message,
        ids: &Ids,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(whole) = word.at(1) else { return false };
        let Ok([name, state]) = pick(whole.as_str(), ["n", "s"]) else { return false };
        let text =
            |field: Option<Raw<'_>>| field.and_then(|field| Some(field.string()?.into_owned()));
        let (Some(name), Some(state)) = (text(name), text(state)) else { return false };
        let Some(quote) = self.of(session, &name) else {
            return self.was_in(session, &name); // Late.
        };
        let was_joined = quote.is_joined;
        if state == "ok" {
            quote.is_joined = true;
            if !was_joined {
                cx.joined(&name);
            }
            cx.data(To::Name(&name), message.part(whole.as_str().as_bytes()));
            return true;
        }
        if let Ok(name) = StreamName::try_from(&*name) {
            self.leave(&[name], ids, cx);
        }
        match was_joined {
            true => cx.ended(&name),
            false => {
                let why = whole.field("errmsg").and_then(Raw::string);
                cx.rejected(&name, short(why.as_deref().unwrap_or(&state)));
            }
        }
        true
    }

    /// The server has said all that it has of a name, be that nothing.
    fn completed(&mut self, session: u64, word: &Word<'_>, cx: &mut Cx<'_>) -> bool {
        let Some(name) = word.text(1) else { return false };
        let Some(quote) = self.of(session, &name) else { return self.was_in(session, &name) };
        if !std::mem::replace(&mut quote.is_joined, true) {
            cx.joined(&name);
        }
        true
    }

    /// The session is of no use any more: its names are asked for again, in another.
    fn lost(&mut self, session: u64, ids: &Ids, cx: &mut Cx<'_>) {
        let of_it = self.names.iter().filter(|(_, quote)| quote.session == session);
        let mut names: Vec<_> = of_it.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        self.leave(&names, ids, cx);
        names.iter().for_each(|name| cx.ended(name.as_str()));
    }
}

/// A new session.
fn begin(fields: &[String], ids: &mut Ids, cx: &mut Cx<'_>) -> u64 {
    let session = ids.next();
    let id = ids.write(Kind::Quote, session);
    cx.push(command("quote_create_session", &[&id]));
    if !fields.is_empty() {
        let arguments: Vec<_> =
            std::iter::once(&*id).chain(fields.iter().map(String::as_str)).collect();
        cx.push(command("quote_set_fields", &arguments));
    }
    session
}
