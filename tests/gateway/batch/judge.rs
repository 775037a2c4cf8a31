//! What a client may rely on, whatever the batch: judged by all that it was told.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

/// How soon the list has to be there.
pub(super) const PROMPT: Duration = Duration::from_millis(250);

/// What is wrong with the events of a batch that ended as a whole.
pub(super) fn judge(events: &[(Duration, Value)]) -> Result<(), String> {
    let [(at, asked), results @ .., (_, summary)] = events else {
        return Err("there is no list, or no summary".to_owned());
    };
    if asked["type"] != "asked" || *at > PROMPT {
        return Err(format!("the list comes after {at:?}"));
    }
    let (mut open, mut count) = (BTreeSet::new(), Count::default());
    for request in list(asked, "requests") {
        if !open.insert(index(request)?) {
            return Err(format!("{request} is listed twice"));
        }
    }
    let total = open.len();
    if open.iter().copied().ne(0..total) {
        return Err("the list has holes".to_owned());
    }
    for failed in list(asked, "requests").iter().filter(|one| one.get("error").is_some()) {
        open.remove(&index(failed)?);
        count.ended(failed);
    }
    count.holds(asked, total)?;
    for (_, event) in results {
        for result in list(event, "results") {
            if !open.remove(&index(result)?) {
                return Err(format!("{result} was not asked, or comes twice"));
            }
            count.ended(result);
        }
        count.holds(event, total)?;
    }
    if summary["type"] != "summary" || summary["reason"] != "complete" || !open.is_empty() {
        return Err(format!("not at an end: {open:?}, {summary}"));
    }
    count.holds(summary, total)
}

#[derive(Default)]
struct Count {
    done: usize,
    failed: usize,
}

impl Count {
    fn ended(&mut self, result: &Value) {
        self.done += 1;
        self.failed += usize::from(result.get("error").is_some());
    }

    fn holds(&self, event: &Value, total: usize) -> Result<(), String> {
        let own = [event["done"].as_u64(), event["failed"].as_u64(), event["total"].as_u64()];
        let counted = [self.done, self.failed, total].map(|count| Some(count as u64));
        if own == counted { Ok(()) } else { Err(format!("{counted:?} were counted: {event}")) }
    }
}

fn list<'a>(event: &'a Value, key: &str) -> &'a [Value] {
    event[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn index(one: &Value) -> Result<usize, String> {
    let index = one["index"].as_u64().ok_or_else(|| format!("{one} has no index"))?;
    usize::try_from(index).map_err(|e| e.to_string())
}

/// Of three requests, of which the second is refused and the third fails.
fn good() -> Vec<(Duration, Value)> {
    let event = |kind, done, failed, more: Value| {
        let mut event = json!({ "type": kind, "done": done, "failed": failed, "total": 3 });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (Duration::ZERO, event)
    };
    let why = json!({ "code": "denied", "message": "" });
    let requests =
        json!({ "requests": [{ "index": 0 }, { "index": 1, "error": why }, { "index": 2 }] });
    vec![
        event("asked", 1, 1, requests),
        event("results", 2, 1, json!({ "results": [{ "index": 0, "data": 1 }] })),
        event("results", 3, 2, json!({ "results": [{ "index": 2, "error": why }] })),
        event("summary", 3, 2, json!({ "reason": "complete" })),
    ]
}

#[test]
fn a_batch_that_tells_everything_once_is_accepted() {
    assert_eq!(judge(&good()), Ok(()));
}

#[test]
fn a_batch_that_is_late_forgets_repeats_or_miscounts_is_found_out() {
    type Twin = (&'static str, fn(&mut Vec<(Duration, Value)>));
    let twins: [Twin; 9] = [
        ("waits for the backend", |events| events[0].0 = PROMPT + Duration::from_millis(1)),
        ("says no list", |events| drop(events.remove(0))),
        ("says no summary", |events| drop(events.pop())),
        ("loses a result", |events| drop(events.remove(1))),
        ("repeats a result", |events| events.insert(1, events[1].clone())),
        ("answers what it has refused", |events| events[1].1["results"][0]["index"] = json!(1)),
        ("forgets a request", |events| {
            events[0].1["requests"].as_array_mut().unwrap().remove(0);
        }),
        ("miscounts", |events| events[3].1["failed"] = json!(1)),
        ("says something behind its summary", |events| events.push(events[1].clone())),
    ];
    for (twin, break_it) in twins {
        let mut events = good();
        break_it(&mut events);
        assert!(judge(&events).is_err(), "a gateway that {twin}");
    }
}
