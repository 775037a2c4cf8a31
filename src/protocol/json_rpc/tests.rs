//! The sessions alone, driven by arithmetic: answers and data in any order, and lies.

mod deribit;
mod ethereum;

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::message::Message;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, rejected, unroutable};
use crate::protocol::{RequestId, Rotation, Utterance, Verdict};

fn ethereum() -> Talk {
    let mut talk = Talk::with(&JsonRpc::new("ws://h").unwrap(), "t", None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn deribit() -> Talk {
    let mut talk = Talk::with(&Deribit::new("ws://h").unwrap(), "t", None);
    let beat = call(1, "public/set_heartbeat", r#"{"interval":30}"#);
    assert_eq!(talk.said.take(), [beat, Utterance::Ready]);
    talk
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
