//! For tests: a session that is driven by arithmetic, and what must hold whatever a server says.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Dial, Protocol, RequestId, Session, Transcript, Unsupported, Utterance};
use crate::config::Secret;
use crate::name::StreamName;

/// A session, and what it said.
pub(crate) struct Talk {
    pub(crate) now: Instant,
    pub(crate) said: Transcript,
    pub(crate) session: Box<dyn Session>,
}

impl Talk {
    /// A session of `protocol`, which has `name`, on a socket that has just opened with `token`.
    pub(crate) fn with(protocol: &impl Protocol, name: &str, token: Option<&str>) -> Self {
        let name = StreamName::try_from(name).unwrap();
        let lane = protocol.lane(&name).unwrap();
        let secret = token.map(Secret::from);
        let dial = Dial { token: secret.as_ref(), ..Dial::first(&lane, &[]) };
        let session = protocol.session(&dial);
        let mut said = Transcript::default();
        if let Some(token) = token {
            said = said.token(token);
        }
        let mut talk = Self { now: Instant::now(), said, session };
        talk.session.open(&mut talk.said.cx(talk.now));
        talk
    }

    pub(crate) fn join(&mut self, names: &[&str]) -> Vec<Utterance> {
        let names: Vec<_> = names.iter().map(|name| StreamName::try_from(*name).unwrap()).collect();
        self.session.join(&names, &mut self.said.cx(self.now));
        self.said.take()
    }

    pub(crate) fn leave(&mut self, name: &str) -> Vec<Utterance> {
        self.session.leave(&[name.try_into().unwrap()], &mut self.said.cx(self.now));
        self.said.take()
    }

    pub(crate) fn hear(&mut self, text: &str) -> Vec<Utterance> {
        self.session.receive(&text.into(), &mut self.said.cx(self.now));
        self.said.take()
    }

    pub(crate) fn ask(&mut self, id: u64, body: &str) -> Result<Vec<Utterance>, Unsupported> {
        let mut cx = self.said.cx(self.now);
        self.session.request(RequestId(id), body.into(), &mut cx).map(|()| self.said.take())
    }

    pub(crate) fn cancel(&mut self, id: u64) -> Vec<Utterance> {
        self.session.cancel(RequestId(id), &mut self.said.cx(self.now));
        self.said.take()
    }

    pub(crate) fn at(&mut self, after: Duration) -> Vec<Utterance> {
        self.now += after;
        self.session.tick(&mut self.said.cx(self.now));
        self.said.take()
    }
}

pub(crate) fn push(text: &str) -> Utterance {
    Utterance::Push(text.into())
}

pub(crate) fn joined(name: &str) -> Utterance {
    Utterance::Joined(name.into())
}

pub(crate) fn ended(name: &str) -> Utterance {
    Utterance::Ended(name.into())
}

pub(crate) fn rejected(name: &str, why: &str) -> Utterance {
    Utterance::Rejected(name.into(), why.into())
}

pub(crate) fn data(name: &str, text: &str) -> Utterance {
    Utterance::Data(Some(name.into()), text.into())
}

pub(crate) fn unroutable(text: &str) -> Utterance {
    Utterance::Unroutable(text.into())
}

/// JSON of a size and depth that costs whoever recurses.
pub(crate) fn deep() -> String {
    format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000))
}

/// What must hold of what a session says, whatever a server does: no name hears anything before it is
/// joined, nor after it has ended, and none is joined twice. Whether the socket goes on.
pub(crate) fn check(
    said: Vec<Utterance>,
    open: &mut HashSet<String>,
) -> Result<bool, TestCaseError> {
    for said in said {
        match said {
            Utterance::Joined(name) => prop_assert!(open.insert(name.clone()), "{name} twice"),
            Utterance::Data(Some(name), _)
            | Utterance::Marked(Some(name), ..)
            | Utterance::Gap(Some(name), _) => prop_assert!(open.contains(&name), "{name} early"),
            Utterance::Ended(name) | Utterance::Rejected(name, _) => {
                open.remove(&name);
            }
            Utterance::Alive | Utterance::Gap(None, _) | Utterance::Pause(_) => {}
            Utterance::Unroutable(_) => {}
            Utterance::Push(_) | Utterance::Reconnect(_) => {}
            Utterance::Reply(..) | Utterance::ReplyFailed(..) | Utterance::ReplyUnknown(_) => {}
            Utterance::Failed(..) => return Ok(false),
            other => prop_assert!(false, "{other:?}"),
        }
    }
    Ok(true)
}

/// What the properties check notices a session that does wrong.
#[test]
fn a_session_that_does_wrong_is_noticed() {
    let noticed = |said: &[Utterance]| check(said.to_vec(), &mut HashSet::new()).is_err();
    let gap = || Utterance::Gap(Some("a".into()), None);
    assert!(noticed(&[joined("a"), joined("a")]));
    assert!(noticed(&[data("a", "1")]) && noticed(&[gap()]));
    assert!(noticed(&[joined("a"), ended("a"), data("a", "1")]));
    assert!(noticed(&[joined("a"), rejected("a", ""), gap()]));
    assert!(noticed(&[Utterance::Ready]));
    assert!(!noticed(&[
        joined("a"),
        gap(),
        data("a", "1"),
        ended("a"),
        joined("a"),
        data("a", "2")
    ]));
}
