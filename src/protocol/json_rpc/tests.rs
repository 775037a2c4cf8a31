//! The sessions alone, driven by arithmetic: answers and data in any order, and lies.

mod deribit;
mod ethereum;

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::message::Message;
use crate::protocol::{RequestId, Rotation, Transcript, Utterance, Verdict};

/// A session, and what it said.
struct Talk {
    now: Instant,
    said: Transcript,
    session: Box<dyn Session>,
}

impl Talk {
    fn with(protocol: &impl Protocol, said: Transcript) -> Self {
        let name = StreamName::try_from("t").unwrap();
        let lane = protocol.lane(&name).unwrap();
        let session = protocol.session(&Dial::first(&lane, &[]));
        let mut talk = Self { now: Instant::now(), said, session };
        talk.session.open(&mut talk.said.cx(talk.now));
        talk
    }

    fn ethereum() -> Self {
        let mut talk = Self::with(&JsonRpc::new("ws://h").unwrap(), Transcript::default());
        assert_eq!(talk.said.take(), [Utterance::Ready]);
        talk
    }

    fn deribit() -> Self {
        let mut talk = Self::with(&Deribit::new("ws://h").unwrap(), Transcript::default());
        let beat = call(1, "public/set_heartbeat", r#"{"interval":30}"#);
        assert_eq!(talk.said.take(), [beat, Utterance::Ready]);
        talk
    }

    fn join(&mut self, names: &[&str]) -> Vec<Utterance> {
        let names: Vec<_> = names.iter().map(|name| StreamName::try_from(*name).unwrap()).collect();
        self.session.join(&names, &mut self.said.cx(self.now));
        self.said.take()
    }

    fn leave(&mut self, name: &str) -> Vec<Utterance> {
        self.session.leave(&[name.try_into().unwrap()], &mut self.said.cx(self.now));
        self.said.take()
    }

    fn hear(&mut self, text: &str) -> Vec<Utterance> {
        self.session.receive(&text.into(), &mut self.said.cx(self.now));
        self.said.take()
    }

    fn ask(&mut self, id: u64, body: &str) -> Result<Vec<Utterance>, crate::protocol::Unsupported> {
        let mut cx = self.said.cx(self.now);
        self.session.request(RequestId(id), body.into(), &mut cx).map(|()| self.said.take())
    }

    fn at(&mut self, after: Duration) -> Vec<Utterance> {
        self.now += after;
        self.session.tick(&mut self.said.cx(self.now));
        self.said.take()
    }
}

fn call(id: u64, method: &str, params: &str) -> Utterance {
    Utterance::Push(wire::call(id, method, params).into())
}

fn result(id: u64, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn error(id: u64, code: i64, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{message}"}}}}"#)
}

fn joined(name: &str) -> Utterance {
    Utterance::Joined(name.into())
}

fn ended(name: &str) -> Utterance {
    Utterance::Ended(name.into())
}

fn rejected(name: &str, why: &str) -> Utterance {
    Utterance::Rejected(name.into(), why.into())
}

fn data(name: &str, text: &str) -> Utterance {
    Utterance::Data(Some(name.into()), text.into())
}

fn unroutable(text: &str) -> Utterance {
    Utterance::Unroutable(text.into())
}

/// Frames of objects: `cuts` says where one ends, and what is in it is a batch where it is more than one.
fn frames(objects: &[String], cuts: &[bool]) -> Vec<String> {
    let (mut frames, mut batch) = (Vec::new(), Vec::new());
    for (object, cut) in objects.iter().zip(cuts.iter().chain(std::iter::repeat(&true))) {
        batch.push(object.clone());
        if *cut {
            frames.push(if batch.len() == 1 {
                batch.remove(0)
            } else {
                format!("[{}]", batch.join(", "))
            });
            batch.clear();
        }
    }
    frames.extend((!batch.is_empty()).then(|| format!("[{}]", batch.join(","))));
    frames
}

/// What must hold of what a session says, whatever a server does. Whether the socket goes on.
fn check(said: Vec<Utterance>, open: &mut HashSet<String>) -> Result<bool, TestCaseError> {
    for said in said {
        match said {
            Utterance::Joined(name) => prop_assert!(open.insert(name.clone()), "{name} twice"),
            Utterance::Data(Some(name), _)
            | Utterance::Marked(Some(name), ..)
            | Utterance::Gap(Some(name), _) => prop_assert!(open.contains(&name), "{name} early"),
            Utterance::Ended(name) | Utterance::Rejected(name, _) => {
                open.remove(&name);
            }
            Utterance::Unroutable(_) | Utterance::Push(_) => {}
            Utterance::Reply(..) | Utterance::ReplyFailed(..) => {}
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

/// JSON of a size and depth that costs whoever recurses.
fn deep() -> String {
    format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000))
}
