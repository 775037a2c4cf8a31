//! The session alone, driven by arithmetic: confirmations and data in any order, and lies.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{Mark, Utterance, Verdict};

const BTC: &str = "trades:BTC";
const ETH: &str = "trades:ETH";

fn opened() -> Talk {
    let mut talk = Talk::with(&Hyperliquid::new("wss://h/ws").unwrap(), BTC, None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn subscription(name: &str) -> String {
    Want::of_name(name).unwrap().write()
}

fn call(method: &str, name: &str) -> Utterance {
    push(&format!(r#"{{"method":"{method}","subscription":{}}}"#, subscription(name)))
}

/// An echo, with what the venue adds.
fn done(method: &str, name: &str) -> String {
    let echo = subscription(name).replacen('{', r#"{"fast":false,"#, 1);
    format!(
        r#"{{"channel":"subscriptionResponse","data":{{"method":"{method}","subscription":{echo}}}}}"#
    )
}

fn error(words: &str) -> String {
    format!(r#"{{"channel":"error","data":{}}}"#, serde_json::to_string(words).unwrap())
}

fn trades(name: &str, n: u32) -> String {
    let coin = name.split_once(':').unwrap().1;
    format!(r#"{{"channel":"trades","data":[{{"coin":"{coin}","tid":{n}}}]}}"#)
}

#[test]
fn names_are_asked_for_one_by_one_and_confirmed_by_an_echo() {
    let mut talk = opened();
    assert_eq!(talk.join(&[BTC, ETH]), [call("subscribe", BTC), call("subscribe", ETH)]);
    assert_eq!(talk.hear(&done("subscribe", ETH)), [joined(ETH)]);
    assert_eq!(talk.hear(&done("subscribe", ETH)), [], "twice");
    let early = trades(BTC, 1);
    assert_eq!(talk.hear(&early), [], "held");
    assert_eq!(talk.hear(&done("subscribe", BTC)), [joined(BTC), data(BTC, &early)]);
    assert_eq!(talk.leave(BTC), [call("unsubscribe", BTC)]);
    assert_eq!(talk.hear(&early), [], "late");
    assert_eq!(talk.join(&[BTC]), [], "not before it was left");
    assert_eq!(talk.hear(&done("subscribe", BTC)), [], "of the time before");
    assert_eq!(talk.hear(&done("unsubscribe", BTC)), [call("subscribe", BTC)]);
    assert_eq!(talk.hear(&done("subscribe", BTC)), [joined(BTC)]);
}

#[test]
fn a_refusal_concerns_what_it_echoes_or_the_oldest_without_an_answer() {
    let mut talk = opened();
    talk.join(&["trades:A", "trades:B", "trades:C", "trades:D"]);
    let invalid = format!("Invalid subscription {}", subscription("trades:B"));
    assert_eq!(talk.hear(&error(&invalid)), [rejected("trades:B", &invalid)]);
    let call = format!(
        r#"Error parsing {{"method":"subscribe","subscription":{}}}"#,
        subscription("trades:C")
    );
    assert_eq!(talk.hear(&error(&call)), [rejected("trades:C", &call)]);
    assert_eq!(talk.hear(&error("Cannot track more than 10 total users.")), [ended("trades:A")]);
    assert_eq!(talk.hear(&error("no")), [rejected("trades:D", "no")]);
    let stray = error("no");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn what_is_subscribed_to_already_is_confirmed_and_what_is_not_any_more_is_left() {
    let mut talk = opened();
    talk.join(&[BTC]);
    let already = error(&format!("Already subscribed: {}", subscription(BTC)));
    assert_eq!(talk.hear(&already), [joined(BTC)]);
    talk.leave(BTC);
    talk.join(&[BTC]);
    let already = error(&format!("Already unsubscribed: {}", subscription(BTC)));
    assert_eq!(talk.hear(&already), [call("subscribe", BTC)]);
}

#[test]
fn data_goes_to_its_coin_and_interval_and_what_has_no_rows_to_nobody() {
    let mut talk = opened();
    let names = ["candle:BTC,interval=1m", "candle:BTC,interval=5m", "allMids", "userEvents", BTC];
    talk.join(&names);
    names.iter().for_each(|name| assert_eq!(talk.hear(&done("subscribe", name)), [joined(name)]));
    let candle = r#"{"channel":"candle","data":{"t":1,"s":"BTC","i":"5m"}}"#;
    assert_eq!(talk.hear(candle), [data(names[1], candle)]);
    let events = r#"{"channel":"user","data":{"fills":[]}}"#;
    assert_eq!(talk.hear(events), [data("userEvents", events)]);
    let mids = r#"{"channel":"allMids","data":{"mids":{}}}"#;
    assert!(matches!(talk.hear(mids)[..], [Utterance::Marked(..)]));
    assert_eq!(talk.hear(r#"{"channel":"trades","data":[]}"#), [Utterance::Alive]);
    let other = trades(ETH, 1);
    assert_eq!(talk.hear(&other), [unroutable(&other)]);
}

#[test]
fn snapshots_are_marked_where_the_venue_says_so_and_where_each_message_is_one() {
    let mut talk = opened();
    let (fills, book) = ("userFills,user=0xa", "l2Book:BTC");
    talk.join(&[fills, book]);
    talk.hear(&done("subscribe", fills));
    talk.hear(&done("subscribe", book));
    let marked = |name: &str, text: &str| {
        [Utterance::Marked(Some(name.into()), text.into(), Mark::default().snapshot())]
    };
    let first = r#"{"channel":"userFills","data":{"isSnapshot":true,"user":"0xa","fills":[]}}"#;
    assert_eq!(talk.hear(first), marked(fills, first));
    let later = r#"{"channel":"userFills","data":{"user":"0xa","fills":[{"coin":"BTC"}]}}"#;
    assert_eq!(talk.hear(later), [data(fills, later)]);
    let levels = r#"{"channel":"l2Book","data":{"coin":"BTC","levels":[[],[]]}}"#;
    assert_eq!(talk.hear(levels), marked(book, levels));
}

#[test]
fn silence_is_broken_by_a_ping_that_wants_its_pong() {
    let seconds = Duration::from_secs;
    let mut talk = opened();
    assert_eq!(talk.at(seconds(45)), [push(r#"{"method":"ping"}"#)]);
    assert_eq!(talk.hear(r#"{"channel":"pong"}"#), [Utterance::Alive]);
    assert_eq!(talk.at(seconds(44)), []);
    assert_eq!(talk.at(seconds(1)), [push(r#"{"method":"ping"}"#)]);
    assert!(matches!(talk.at(seconds(10))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn calls_that_are_never_answered_do_not_pile_up() {
    let mut talk = opened();
    let failed = (0..2000).any(|n| {
        let name = format!("trades:{n}");
        let mut said = talk.join(&[&name]);
        said.extend(talk.leave(&name));
        said.iter().any(|said| matches!(said, Utterance::Failed(Verdict::Retry, _)))
    });
    assert!(failed);
}

fn lie() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just(BTC), Just(ETH), Just("l2Book:BTC"), Just("other")];
    let words = prop_oneof![Just("Already subscribed"), Just("Already unsubscribed"), Just("no")];
    let odd = prop_oneof![
        Just(deep()),
        Just(format!(r#"{{"channel":"trades","data":{}}}"#, deep())),
        Just(error(&format!("no: {{{}", deep()))),
        Just(error("too many")),
        Just(r#"{"channel":"pong"}"#.to_owned()),
        Just(r#"{"channel":"trades","data":[]}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        name.clone().prop_map(|name| done("subscribe", name)),
        name.clone().prop_map(|name| done("unsubscribe", name)),
        (words, name).prop_map(|(words, name)| error(&format!("{words}: {}", subscription(name)))),
        prop_oneof![Just(BTC), Just(ETH), Just("trades:X")].prop_map(|name| trades(name, 1)),
        Just(r#"{"channel":"l2Book","data":{"coin":"BTC"}}"#.to_owned()),
        odd,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = opened();
        talk.join(&[BTC, ETH, "l2Book:BTC"]);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            for (_, leaves) in moves.iter().filter(|(when, _)| *when == at) {
                let said = if *leaves {
                    open.remove(ETH);
                    talk.leave(ETH)
                } else if open.contains(ETH) {
                    continue;
                } else {
                    talk.join(&[ETH])
                };
                prop_assert!(check(said, &mut open)?);
            }
        }
    }

    /// However confirmations and data are interleaved: each name is joined once, and gets all of its data
    /// after that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order(turns in prop::collection::vec((0..3_usize, any::<bool>()), 0..40)) {
        let names = [BTC, ETH, "trades:SOL"];
        let mut talk = opened();
        talk.join(&names);
        let (mut said, mut sent) = (Vec::new(), [0; 3]);
        let all = turns.into_iter().chain((0..3).map(|of| (of, true)));
        for (of, confirms) in all {
            let text = if confirms { done("subscribe", names[of]) } else {
                sent[of] += 1;
                trades(names[of], sent[of])
            };
            said.extend(talk.hear(&text));
        }
        for (name, sent) in names.iter().zip(sent) {
            let of: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(name))
                .chain((1..=sent).map(|n| data(name, &trades(name, n)))).collect();
            prop_assert_eq!(of, expected);
        }
    }
}
