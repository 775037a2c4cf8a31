//! The session alone, driven by arithmetic: confirmations and data in any order, and lies.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{Mark, Rotation, Utterance, Verdict};

const BOOK: &str = "linear:orderbook.50.X";

fn bybit() -> Bybit {
    Bybit::new("wss://h/v5?max_active_time=10m").unwrap()
}

fn opened_at(name: &str) -> Talk {
    let mut talk = Talk::with(&bybit(), name, None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn opened() -> Talk {
    opened_at(BOOK)
}

fn call(id: u64, op: &str, topics: &[&str]) -> Utterance {
    let topics = serde_json::to_string(topics).unwrap();
    push(&format!(r#"{{"req_id":"{id}","op":"{op}","args":{topics}}}"#))
}

fn done(op: &str, id: u64) -> String {
    format!(r#"{{"success":true,"ret_msg":"","conn_id":"c","req_id":"{id}","op":"{op}"}}"#)
}

/// A refusal, without a number where that is zero.
fn error(id: u64, words: &str) -> String {
    let id = if id == 0 { String::new() } else { format!(r#","req_id":"{id}""#) };
    format!(r#"{{"success":false,"ret_msg":"{words}","conn_id":"c"{id},"op":"subscribe"}}"#)
}

fn command(good: &[&str], bad: &[&str]) -> String {
    let (good, bad) = (serde_json::to_string(good).unwrap(), serde_json::to_string(bad).unwrap());
    format!(
        r#"{{"success":true,"conn_id":"c","data":{{"failTopics":{bad},"successTopics":{good}}},"type":"COMMAND_RESP"}}"#
    )
}

fn trade(topic: &str, n: u32) -> String {
    format!(r#"{{"topic":"{topic}","type":"snapshot","ts":1,"data":[{{"i":"{n}"}}]}}"#)
}

fn book(kind: &str, u: u64) -> String {
    format!(
        r#"{{"topic":"orderbook.50.X","type":"{kind}","ts":1,"data":{{"s":"X","b":[],"a":[],"u":{u},"seq":9}}}}"#
    )
}

#[test]
fn topics_are_asked_for_by_one_call_and_confirmed_by_its_number() {
    let mut talk = opened();
    assert_eq!(talk.join(&["linear:a", "linear:b"]), [call(1, "subscribe", &["a", "b"])]);
    let early = trade("a", 1);
    assert_eq!(talk.hear(&early), [], "held");
    let said = talk.hear(&done("subscribe", 1));
    assert_eq!(said, [joined("linear:a"), data("linear:a", &early), joined("linear:b")]);
    let twice = done("subscribe", 1);
    assert_eq!(talk.hear(&twice), [unroutable(&twice)]);
    assert_eq!(talk.leave("linear:a"), [call(2, "unsubscribe", &["a"])]);
    assert_eq!(talk.hear(&early), [], "late");
    assert_eq!(talk.join(&["linear:a"]), [], "not before it was left");
    assert_eq!(talk.hear(&done("unsubscribe", 2)), [call(3, "subscribe", &["a"])]);
    assert_eq!(talk.hear(&done("subscribe", 3)), [joined("linear:a")]);
}

#[test]
fn a_refusal_concerns_the_topic_that_it_names_and_the_others_are_asked_for_again() {
    for id in [1, 0] {
        let mut talk = opened();
        talk.join(&["linear:a", "linear:b", "linear:c"]);
        let words = "error:handler not found,topic:b";
        let again = call(2, "subscribe", &["a", "c"]);
        assert_eq!(talk.hear(&error(id, words)), [rejected("linear:b", words), again]);
        assert_eq!(talk.hear(&done("subscribe", 2)), [joined("linear:a"), joined("linear:c")]);
    }
}

#[test]
fn a_refusal_that_names_no_topic_is_traced_to_it() {
    let mut talk = opened();
    talk.join(&["linear:a", "linear:b", "linear:c"]);
    let halves = [call(2, "subscribe", &["a"]), call(3, "subscribe", &["b", "c"])];
    assert_eq!(talk.hear(&error(1, "no")), halves);
    assert_eq!(talk.hear(&error(2, "no")), [rejected("linear:a", "no")]);
    assert_eq!(talk.hear(&done("subscribe", 3)), [joined("linear:b"), joined("linear:c")]);
}

#[test]
fn what_is_subscribed_to_already_is_confirmed_and_what_passes_is_ended() {
    let mut talk = opened();
    talk.join(&["linear:a", "linear:b"]);
    let said = talk.hear(&error(1, "error:already subscribed,topic:a"));
    assert_eq!(said, [joined("linear:a"), call(2, "subscribe", &["b"])]);
    assert_eq!(talk.hear(&error(2, "Too many visits!")), [ended("linear:b")]);
    assert_eq!(talk.join(&["linear:b"]), [call(3, "subscribe", &["b"])]);
}

#[test]
fn answers_that_name_their_topics_are_told_apart_by_their_order() {
    let mut talk = opened_at("option:a");
    talk.join(&["option:a", "option:b", "option:c"]);
    assert_eq!(
        talk.hear(&command(&["a"], &["c"])),
        [joined("option:a"), rejected("option:c", "the server lists it among what it refuses")]
    );
    talk.leave("option:b");
    assert_eq!(talk.join(&["option:b"]), []);
    assert_eq!(talk.hear(&trade("b", 1)), [], "of the time before");
    assert_eq!(talk.hear(&command(&["b"], &[])), [], "the first call's");
    assert_eq!(talk.hear(&command(&["b"], &[])), [call(3, "subscribe", &["b"])]);
    assert_eq!(talk.hear(&command(&["b"], &[])), [joined("option:b")]);
    let stray = command(&["b", "x"], &[]);
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn changes_of_a_book_are_a_chain_that_a_snapshot_begins_anew() {
    let mut talk = opened();
    talk.join(&[BOOK]);
    talk.hear(&done("subscribe", 1));
    let snapshot = |u| {
        let mark = Mark::default().snapshot();
        vec![Utterance::Marked(Some(BOOK.into()), book("snapshot", u).into(), mark)]
    };
    let delta = |u| data(BOOK, &book("delta", u));
    let gap = |missed| Utterance::Gap(Some(BOOK.into()), missed);
    assert_eq!(talk.hear(&book("snapshot", 10)), snapshot(10));
    assert_eq!(talk.hear(&book("delta", 11)), [delta(11)]);
    assert_eq!(talk.hear(&book("delta", 14)), [gap(Some(2)), delta(14)]);
    assert_eq!(talk.hear(&book("snapshot", 1)), snapshot(1), "the service has started anew");
    assert_eq!(talk.hear(&book("delta", 2)), [delta(2)]);
    assert_eq!(talk.hear(&book("snapshot", 2)), snapshot(2), "of one level, when nothing changes");
    assert_eq!(talk.hear(&book("delta", 1)), [gap(None), delta(1)]);
    talk.hear(&book("snapshot", u64::MAX));
    assert_eq!(talk.hear(&book("delta", 1)).len(), 2, "and no overflow");
}

#[test]
fn what_a_trade_calls_a_snapshot_is_none() {
    let mut talk = opened();
    talk.join(&["linear:publicTrade.X", "linear:tickers.X"]);
    talk.hear(&done("subscribe", 1));
    let text = trade("publicTrade.X", 1);
    assert_eq!(talk.hear(&text), [data("linear:publicTrade.X", &text)]);
    let text = trade("tickers.X", 1);
    assert!(matches!(talk.hear(&text)[..], [Utterance::Marked(..)]));
}

#[test]
fn a_ping_is_said_each_20_s_and_wants_its_pong_in_either_form() {
    let seconds = Duration::from_secs;
    let mut talk = opened();
    let ping = |id| push(&format!(r#"{{"req_id":"{id}","op":"ping"}}"#));
    assert_eq!(talk.at(seconds(20)), [ping(1)]);
    let pong = r#"{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"1","op":"ping"}"#;
    assert_eq!(talk.hear(pong), [Utterance::Alive]);
    assert_eq!(talk.at(seconds(20)), [ping(2)]);
    assert_eq!(
        talk.hear(r#"{"op":"pong","args":["1672916271846"],"conn_id":"c"}"#),
        [Utterance::Alive]
    );
    assert_eq!(talk.at(seconds(20)), [ping(3)]);
    assert!(matches!(talk.at(seconds(10))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn private_topics_wait_for_the_login_in_either_form() {
    let args = r#"["key",1700000000000,"s3cr3t"]"#;
    let auth = push(&format!(r#"{{"req_id":"1","op":"auth","args":{args}}}"#));
    let private = || Talk::with(&bybit(), "private:order", Some(args));
    for answer in [
        r#"{"success":true,"ret_msg":"","op":"auth","conn_id":"c"}"#,
        r#"{"retCode":0,"retMsg":"OK","op":"auth","connId":"c"}"#,
    ] {
        let mut talk = private();
        assert_eq!(talk.said.take(), std::slice::from_ref(&auth));
        assert_eq!(talk.hear(answer), [Utterance::Ready]);
        assert_eq!(talk.hear(answer), [unroutable(answer)], "once");
        assert_eq!(talk.join(&["private:order"]), [call(2, "subscribe", &["order"])]);
        assert_eq!(talk.session.rotate(&mut talk.said.cx(talk.now)), Rotation::InPlace);
        assert_eq!(talk.said.take(), []);
    }
    for answer in [
        r#"{"success":false,"ret_msg":"Params Error s3cr3t","op":"auth","conn_id":"c"}"#,
        r#"{"retCode":10003,"retMsg":"s3cr3t","op":"auth"}"#,
        r#"{"op":"auth"}"#,
    ] {
        let mut talk = private();
        talk.said.take();
        let [Utterance::Failed(Verdict::NewToken, why)] = &talk.hear(answer)[..] else { panic!() };
        assert!(!why.contains("s3cr3t"));
    }
    for token in [None, Some("s3cr3t"), Some(r#"["key",1,"s3cr3t"],"x":[]"#)] {
        let mut talk = Talk::with(&bybit(), "private:order", token);
        let [Utterance::Failed(Verdict::NewToken, why)] = &talk.said.take()[..] else { panic!() };
        assert!(!why.contains("s3cr3t"));
    }
}

#[test]
fn names_lead_to_their_paths_and_calls_are_as_long_as_the_venue_takes_them() {
    let target = |name: &str| {
        let name = StreamName::try_from(name).unwrap();
        let lane = bybit().lane(&name).ok()?;
        let request = bybit().request(&Dial::first(&lane, &[])).unwrap();
        Some(format!("{}?{}", request.url().path(), request.url().query()?))
    };
    let query = "max_active_time=10m";
    assert_eq!(target(BOOK), Some(format!("/v5/public/linear?{query}")));
    assert_eq!(target("spread:orderbook.25.A_B/C"), Some(format!("/v5/public/spread?{query}")));
    assert_eq!(target("private:order"), Some(format!("/v5/private?{query}")));
    for bad in ["orderbook.50.X", "futures:x", "spot:", &format!("spot:{}", "a".repeat(101))] {
        assert_eq!(target(bad), None, "{bad}");
    }
    let names: Vec<_> = (0..25).map(|n| format!("spot:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(opened_at("spot:a").join(&names).len(), 3, "of ten each");
    let all = CAPACITY * (LONGEST + "\"\",".len());
    assert!(all <= 21_000, "{all} characters of arguments on a socket");
    let mut talk = opened();
    let failed = (0..2000).any(|n| {
        let name = format!("linear:{n}");
        let mut said = talk.join(&[&name]);
        said.extend(talk.leave(&name));
        said.iter().any(|said| matches!(said, Utterance::Failed(Verdict::Retry, _)))
    });
    assert!(failed, "calls that are never answered do not pile up");
}

fn lie() -> impl Strategy<Value = String> {
    let op = prop_oneof![Just("subscribe"), Just("unsubscribe"), Just("auth")];
    let id = 0_u64..6;
    let words = prop_oneof![
        Just("no"),
        Just("error:handler not found,topic:a"),
        Just("error:already subscribed,topic:b"),
        Just("Too many visits!"),
    ];
    let topics = prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("x")], 0..4);
    let odd = prop_oneof![
        Just(deep()),
        Just(format!(r#"{{"topic":"a","data":{}}}"#, deep())),
        Just(format!(r#"{{"type":"COMMAND_RESP","data":{}}}"#, deep())),
        Just(r#"{"op":"pong"}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        (op, id.clone()).prop_map(|(op, id)| done(op, id)),
        (id, words).prop_map(|(id, words)| error(id, words)),
        (topics.clone(), topics).prop_map(|(good, bad)| command(&good, &bad)),
        prop_oneof![Just("a"), Just("b"), Just("x")].prop_map(|topic| trade(topic, 1)),
        (any::<bool>(), 0_u64..9).prop_map(|(s, u)| book(if s { "snapshot" } else { "delta" }, u)),
        odd,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = opened();
        talk.join(&["linear:a", "linear:b", BOOK]);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            for (_, leaves) in moves.iter().filter(|(when, _)| *when == at) {
                let said = if *leaves {
                    open.remove("linear:b");
                    talk.leave("linear:b")
                } else if open.contains("linear:b") {
                    continue;
                } else {
                    talk.join(&["linear:b"])
                };
                prop_assert!(check(said, &mut open)?);
            }
        }
    }

    /// However confirmations and data are interleaved: each name is joined once, and gets all of its data
    /// after that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order(turns in prop::collection::vec((0..3_usize, any::<bool>()), 0..40)) {
        let topics = ["a", "b", "c"];
        let mut talk = opened();
        topics.iter().for_each(|topic| assert_eq!(talk.join(&[&format!("linear:{topic}")]).len(), 1));
        let (mut said, mut sent) = (Vec::new(), [0; 3]);
        let all = turns.into_iter().chain((0..3).map(|of| (of, true)));
        for (of, confirms) in all {
            let text = if confirms { done("subscribe", of as u64 + 1) } else {
                sent[of] += 1;
                trade(topics[of], sent[of])
            };
            said.extend(talk.hear(&text));
        }
        for (topic, sent) in topics.iter().zip(sent) {
            let name = format!("linear:{topic}");
            let of: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => *of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(&name))
                .chain((1..=sent).map(|n| data(&name, &trade(topic, n)))).collect();
            prop_assert_eq!(of, expected);
        }
    }
}
