//! Calls as a server reads them, and the ways in which it answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::message::Message;
use crate::test_util::mock::{Out, SocketId};

/// Code and message of an error.
pub(super) type Refusal = (i64, String);

#[derive(Debug)]
pub(super) struct Call {
    /// None for what wants no answer.
    pub(super) id: Option<Value>,
    pub(super) method: String,
    pub(super) params: Value,
}

/// The calls of a frame, and whether it is a batch. `None` where anything in it is no call.
pub(super) fn calls(message: &Message) -> Option<(Vec<Call>, bool)> {
    let value: Value = serde_json::from_str(message.as_text()?).ok()?;
    let (values, is_batch) = match value {
        Value::Array(values) => (values, true),
        value => (vec![value], false),
    };
    let calls: Option<Vec<_>> = values.iter().map(Call::read).collect();
    calls.filter(|calls| !calls.is_empty()).map(|calls| (calls, is_batch))
}

impl Call {
    fn read(value: &Value) -> Option<Self> {
        let params = value.get("params").cloned().unwrap_or_else(|| json!([]));
        let is_sound = value["jsonrpc"] == "2.0" && (params.is_array() || params.is_object());
        let id = value.get("id").cloned();
        let is_id = id.as_ref().is_none_or(|id| id.is_number() || id.is_string());
        let method = value["method"].as_str()?.to_owned();
        (is_sound && is_id).then_some(Self { id, method, params })
    }

    /// The answer, where one is wanted.
    pub(super) fn answer(&self, outcome: Result<Value, Refusal>) -> Option<Value> {
        let id = self.id.as_ref()?;
        Some(match outcome {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, message)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
            }
        })
    }
}

/// What a server says by itself.
pub(super) fn notice(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// In which order answers are said, and how often.
#[derive(Debug, Default)]
pub(super) struct Answering {
    held: BTreeMap<SocketId, Vec<String>>,
    reversed: usize,
    twice: bool,
}

impl Answering {
    pub(super) fn reverse(&mut self, count: usize) {
        self.reversed = count;
    }

    pub(super) fn twice(&mut self, twice: bool) {
        self.twice = twice;
    }

    /// The answers to one frame. Those to a batch are one, and its last call is answered first.
    pub(super) fn say(
        &mut self,
        socket: SocketId,
        mut answers: Vec<Value>,
        is_batch: bool,
        out: &mut Out,
    ) {
        if answers.is_empty() {
            return;
        }
        if is_batch {
            answers.reverse();
            answers = vec![answers.into()];
        }
        let held = self.held.entry(socket).or_default();
        held.extend(answers.iter().map(Value::to_string));
        if held.len() < self.reversed {
            return;
        }
        if self.reversed > 0 {
            held.reverse();
        }
        for answer in held.drain(..) {
            if self.twice {
                out.answer(socket, answer.clone());
            }
            out.answer(socket, answer);
        }
    }

    pub(super) fn gone(&mut self, socket: SocketId) {
        self.held.remove(&socket);
    }
}
