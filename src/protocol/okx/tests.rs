//! The session alone, driven by arithmetic: confirmations and data in any order, and lies.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{Mark, Utterance, Verdict};

const BOOK: &str = "books:BTC-USDT";
const TRADES: &str = "trades:BTC-USDT";

fn okx() -> Okx {
    Okx::new("wss://h:8443/ws/v5").unwrap()
}

fn opened() -> Talk {
    let mut talk = Talk::with(&okx(), TRADES, None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn arg(name: &str) -> String {
    Arg::of_name(name).unwrap().write()
}

fn op(id: u64, op: &str, names: &[&str]) -> Utterance {
    let args: Vec<_> = names.iter().map(|name| arg(name)).collect();
    push(&format!(r#"{{"id":"{id}","op":"{op}","args":[{}]}}"#, args.join(",")))
}

fn event(event: &str, id: u64, name: &str) -> String {
    format!(r#"{{"id":"{id}","event":"{event}","arg":{},"connId":"a4d3ae55"}}"#, arg(name))
}

fn error(id: u64, code: &str) -> String {
    format!(
        r#"{{"id":"{id}","event":"error","code":"{code}","msg":"no \"x\"","connId":"a4d3ae55"}}"#
    )
}

fn trade(name: &str, n: u32) -> String {
    format!(r#"{{"arg":{},"data":[{{"tradeId":"{n}"}}]}}"#, arg(name))
}

fn book(action: &str, previous: i64, id: i64) -> String {
    let arg = arg(BOOK);
    format!(
        r#"{{"arg":{arg},"action":"{action}","data":[{{"asks":[],"bids":[],"prevSeqId":{previous},"seqId":{id}}}]}}"#
    )
}

#[test]
fn names_are_asked_for_by_one_call_and_confirmed_one_by_one() {
    let mut talk = opened();
    assert_eq!(talk.join(&[TRADES, BOOK]), [op(1, "subscribe", &[TRADES, BOOK])]);
    assert_eq!(talk.hear(&event("subscribe", 1, BOOK)), [joined(BOOK)]);
    assert_eq!(talk.hear(&event("subscribe", 1, BOOK)), [], "twice");
    let early = trade(TRADES, 1);
    assert_eq!(talk.hear(&early), [], "held");
    assert_eq!(talk.hear(&event("subscribe", 1, TRADES)), [joined(TRADES), data(TRADES, &early)]);
    let other = r#"{"arg":{"instId":"BTC-USDT","channel":"trades","uid":"7"},"data":[1]}"#;
    assert_eq!(talk.hear(other), [data(TRADES, other)], "in another order");
    assert_eq!(talk.leave(TRADES), [op(2, "unsubscribe", &[TRADES])]);
    assert_eq!(talk.hear(&early), [], "late");
    assert_eq!(talk.hear(&event("unsubscribe", 2, TRADES)), []);
    assert_eq!(talk.hear(&early), [unroutable(&early)]);
}

#[test]
fn a_name_that_is_left_and_wanted_again_is_asked_for_when_it_was_left() {
    let mut talk = opened();
    talk.join(&[TRADES]);
    talk.hear(&event("subscribe", 1, TRADES));
    talk.leave(TRADES);
    assert_eq!(talk.join(&[TRADES]), []);
    assert_eq!(talk.hear(&event("subscribe", 1, TRADES)), [], "of the time before");
    assert_eq!(talk.hear(&event("unsubscribe", 2, TRADES)), [op(3, "subscribe", &[TRADES])]);
    assert_eq!(talk.hear(&event("subscribe", 3, TRADES)), [joined(TRADES)]);
    talk.leave(TRADES);
    talk.join(&[TRADES]);
    assert_eq!(talk.hear(&error(4, "60012")), [op(5, "subscribe", &[TRADES])], "also by an error");
}

#[test]
fn a_refusal_that_names_nobody_is_traced_to_its_name() {
    let mut talk = opened();
    talk.join(&["a", "b", "c", "d"]);
    talk.hear(&event("subscribe", 1, "a"));
    // Of the three that still wait, it may mean each.
    let said = talk.hear(&error(1, "60018"));
    assert_eq!(said, [op(2, "subscribe", &["b"]), op(3, "subscribe", &["c", "d"])]);
    assert_eq!(talk.hear(&event("subscribe", 2, "b")), [joined("b")]);
    let said = talk.hear(&error(3, "60018"));
    assert_eq!(said, [op(4, "subscribe", &["c"]), op(5, "subscribe", &["d"])]);
    assert_eq!(talk.hear(&error(4, "60018")), [rejected("c", "no \"x\" (60018)")]);
    assert_eq!(talk.hear(&event("subscribe", 5, "d")), [joined("d")]);
    let stray = error(3, "60018");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn a_refusal_that_names_its_arg_concerns_it_alone_and_one_that_passes_ends_it() {
    let mut talk = opened();
    talk.join(&["a", "b"]);
    let of = |name: &str, code: &str| {
        format!(r#"{{"event":"error","arg":{},"code":"{code}","msg":"m"}}"#, arg(name))
    };
    assert_eq!(talk.hear(&of("a", "60018")), [rejected("a", "m (60018)")]);
    assert_eq!(talk.hear(&of("b", "60014")), [ended("b")]);
    assert_eq!(talk.join(&["b"]), [op(2, "subscribe", &["b"])]);
}

#[test]
fn updates_of_a_book_are_a_chain() {
    let mut talk = opened();
    talk.join(&[BOOK]);
    talk.hear(&event("subscribe", 1, BOOK));
    let mut hear = |action, previous, id| talk.hear(&book(action, previous, id));
    let snapshot = |previous, id| {
        let mark = Mark::default().snapshot();
        Utterance::Marked(Some(BOOK.into()), book("snapshot", previous, id).into(), mark)
    };
    let update = |previous, id| data(BOOK, &book("update", previous, id));
    let gap = Utterance::Gap(Some(BOOK.into()), None);
    assert_eq!(hear("snapshot", -1, 10), [snapshot(-1, 10)]);
    assert_eq!(hear("update", 10, 15), [update(10, 15)]);
    assert_eq!(hear("update", 15, 15), [update(15, 15)], "nothing changed");
    assert_eq!(hear("update", 15, 3), [update(15, 3)], "after maintenance");
    assert_eq!(hear("update", 4, 5), [gap, update(4, 5)]);
    assert_eq!(hear("snapshot", -1, 50), [snapshot(-1, 50)]);
    assert_eq!(hear("update", 50, 51), [update(50, 51)]);
}

#[test]
fn silence_is_broken_by_a_ping_that_wants_its_pong() {
    let seconds = Duration::from_secs;
    let mut talk = opened();
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(25)));
    assert_eq!(talk.at(seconds(25)), [push("ping")]);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(10)));
    talk.now += seconds(1);
    assert_eq!(talk.hear("pong"), []);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(25)));
    assert_eq!(talk.at(seconds(25)), [push("ping")]);
    assert!(matches!(talk.at(seconds(10))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn an_upgrade_is_gone_around() {
    let mut talk = opened();
    let notice = r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed","connId":"a"}"#;
    assert_eq!(talk.hear(notice), [Utterance::Reconnect(Duration::from_secs(30))]);
}

#[test]
fn names_lead_to_their_sockets_and_private_ones_are_refused() {
    let path = |name: &str| {
        let name = StreamName::try_from(name).unwrap();
        let lane = okx().lane(&name).ok()?;
        let request = okx().request(&Dial::first(&lane, &[])).unwrap();
        Some(request.url().path().to_owned())
    };
    assert_eq!(path(TRADES).as_deref(), Some("/ws/v5/public"));
    assert_eq!(path("candle1m:BTC-USDT").as_deref(), Some("/ws/v5/business"));
    assert_eq!(path("trades-all:BTC-USDT").as_deref(), Some("/ws/v5/business"));
    assert_eq!((path("orders,instType=ANY"), path("account"), path("a:")), (None, None, None));
    let mut talk = opened();
    talk.join(&[TRADES]);
    let why = "another name asks for the same";
    assert_eq!(talk.join(&["trades,instId=BTC-USDT"]), [rejected("trades,instId=BTC-USDT", why)]);
}

#[test]
fn calls_are_as_long_as_the_venue_takes_them() {
    let mut talk = opened();
    let names: Vec<_> = (0..250).map(|n| format!("trades:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(talk.join(&names).len(), 3, "of a hundred each");
    let long: Vec<_> = (0..20).map(|n| format!("x:{n}{}", "a".repeat(4000))).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    for said in talk.join(&long) {
        let Utterance::Push(call) = said else { panic!() };
        assert!(call.len() < 40_000, "{}", call.len());
    }
}

fn lie() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just(BOOK), Just("other")];
    let id = 0_u64..6;
    let odd = prop_oneof![
        Just(deep()),
        Just(format!(r#"{{"arg":{},"data":[]}}"#, deep())),
        Just(format!(r#"{{"arg":{{"channel":"a"}},"data":{}}}"#, deep())),
        Just("pong".to_owned()),
        Just(r#"{"event":"error"}"#.to_owned()),
        Just(r#"{"event":"channel-conn-count-error","channel":"a"}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        (id.clone(), name.clone()).prop_map(|(id, name)| event("subscribe", id, name)),
        (id.clone(), name.clone()).prop_map(|(id, name)| event("unsubscribe", id, name)),
        (id, prop_oneof![Just("60018"), Just("60014")]).prop_map(|(id, code)| error(id, code)),
        name.prop_map(|name| format!(
            r#"{{"event":"error","arg":{},"code":"60018","msg":"é"}}"#,
            arg(name)
        )),
        prop_oneof![Just("a"), Just("b"), Just("other")].prop_map(|name| trade(name, 1)),
        (any::<bool>(), -1_i64..9, 0_i64..9).prop_map(|(s, p, id)| book(
            if s { "snapshot" } else { "update" },
            p,
            id
        )),
        odd,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = opened();
        talk.join(&["a", "b", BOOK]);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            for (_, leaves) in moves.iter().filter(|(when, _)| *when == at) {
                let said = if *leaves {
                    open.remove("b");
                    talk.leave("b")
                } else if open.contains("b") {
                    continue;
                } else {
                    talk.join(&["b"])
                };
                prop_assert!(check(said, &mut open)?);
            }
        }
    }

    /// However confirmations and data are interleaved: each name is joined once, and gets all of its data
    /// after that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order(turns in prop::collection::vec((0..3_usize, any::<bool>()), 0..40)) {
        let names = ["a", "b", "c"];
        let mut talk = opened();
        talk.join(&names);
        let (mut said, mut sent) = (Vec::new(), [0; 3]);
        let all = turns.into_iter().chain((0..3).map(|of| (of, true)));
        for (of, confirms) in all {
            let text = if confirms { event("subscribe", 1, names[of]) } else {
                sent[of] += 1;
                trade(names[of], sent[of])
            };
            said.extend(talk.hear(&text));
        }
        for (name, sent) in names.iter().zip(sent) {
            let of: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(name))
                .chain((1..=sent).map(|n| data(name, &trade(name, n)))).collect();
            prop_assert_eq!(of, expected);
        }
    }
}
