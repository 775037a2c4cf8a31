//! The session alone, driven by arithmetic: confirmations and data in any order, and lies.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{Mark, Rotation, Utterance, Verdict};

const BOOK: &str = "book:BTC/USD";
const TRADES: &str = "trade:BTC/USD";

fn kraken() -> KrakenV2 {
    KrakenV2::new("wss://h/v2").unwrap().private("wss://auth/v2").unwrap()
}

fn opened() -> Talk {
    let mut talk = Talk::with(&kraken(), TRADES, None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn private() -> Talk {
    let mut talk = Talk::with(&kraken(), "executions", Some("s3cr3t"));
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn call(id: u64, method: &str, channel: &str, symbols: &[&str]) -> Utterance {
    let symbols = serde_json::to_string(symbols).unwrap();
    push(&format!(
        r#"{{"method":"{method}","params":{{"channel":"{channel}","symbol":{symbols}}},"req_id":{id}}}"#
    ))
}

fn done(method: &str, id: u64, name: &str) -> String {
    let result = match name.split_once(':') {
        Some((channel, symbol)) => format!(r#"{{"channel":"{channel}","symbol":"{symbol}"}}"#),
        None => format!(r#"{{"channel":"{name}"}}"#),
    };
    format!(
        r#"{{"method":"{method}","result":{result},"success":true,"time_in":"","req_id":{id}}}"#
    )
}

fn error(id: u64, words: &str, symbol: Option<&str>) -> String {
    let symbol = symbol.map(|symbol| format!(r#","symbol":"{symbol}""#)).unwrap_or_default();
    format!(r#"{{"method":"subscribe","error":"{words}","success":false{symbol},"req_id":{id}}}"#)
}

fn rows(channel: &str, kind: &str, symbols: &[&str], n: u32) -> String {
    let rows: Vec<_> =
        symbols.iter().map(|symbol| format!(r#"{{"symbol":"{symbol}","n":{n}}}"#)).collect();
    format!(r#"{{"channel":"{channel}","type":"{kind}","data":[{}]}}"#, rows.join(","))
}

fn numbered(kind: &str, sequence: u64) -> String {
    format!(r#"{{"channel":"executions","type":"{kind}","data":[],"sequence":{sequence}}}"#)
}

#[test]
fn symbols_of_a_channel_are_asked_for_by_one_call_and_confirmed_one_by_one() {
    let mut talk = opened();
    let said = talk.join(&["trade:A", "ticker:A", "trade:B"]);
    assert_eq!(
        said,
        [call(1, "subscribe", "ticker", &["A"]), call(2, "subscribe", "trade", &["A", "B"])]
    );
    assert_eq!(talk.hear(&done("subscribe", 2, "trade:B")), [joined("trade:B")]);
    assert_eq!(talk.hear(&done("subscribe", 2, "trade:B")), [], "twice");
    let early = rows("trade", "update", &["A"], 1);
    assert_eq!(talk.hear(&early), [], "held");
    let said = talk.hear(&done("subscribe", 2, "trade:A"));
    assert_eq!(said, [joined("trade:A"), data("trade:A", &early)]);
    assert_eq!(talk.leave("trade:A"), [call(3, "unsubscribe", "trade", &["A"])]);
    assert_eq!(talk.hear(&early), [], "late");
    assert_eq!(talk.hear(&done("unsubscribe", 3, "trade:A")), []);
    assert_eq!(talk.hear(&early), [unroutable(&early)]);
}

#[test]
fn rows_of_several_symbols_go_to_each_of_them_once() {
    let mut talk = opened();
    talk.join(&["trade:A", "trade:B"]);
    talk.hear(&done("subscribe", 1, "trade:A"));
    talk.hear(&done("subscribe", 1, "trade:B"));
    let both = rows("trade", "update", &["A", "A", "C", "B", "A", "B"], 1);
    assert_eq!(talk.hear(&both), [data("trade:A", &both), data("trade:B", &both)]);
    let odd = r#"{"channel":"trade","type":"update","data":[7,{"symbol":8},{"symbol":"A"}]}"#;
    assert_eq!(talk.hear(odd), [data("trade:A", odd)]);
    let none = rows("trade", "update", &[], 1);
    assert_eq!(talk.hear(&none), [unroutable(&none)]);
}

#[test]
fn a_name_that_is_left_and_wanted_again_is_asked_for_when_it_was_left() {
    let mut talk = opened();
    talk.join(&["trade:A"]);
    talk.hear(&done("subscribe", 1, "trade:A"));
    talk.leave("trade:A");
    assert_eq!(talk.join(&["trade:A"]), []);
    let again = call(3, "subscribe", "trade", &["A"]);
    assert_eq!(talk.hear(&done("unsubscribe", 2, "trade:A")), [again]);
    assert_eq!(talk.hear(&done("subscribe", 3, "trade:A")), [joined("trade:A")]);
    talk.leave("trade:A");
    talk.join(&["trade:A"]);
    let refused =
        r#"{"method":"unsubscribe","error":"Subscription Not Found","success":false,"req_id":4}"#;
    assert_eq!(talk.hear(refused), [call(5, "subscribe", "trade", &["A"])], "also by an error");
}

#[test]
fn a_refusal_concerns_its_symbol_and_one_that_passes_ends_it() {
    let mut talk = opened();
    talk.join(&["trade:A", "trade:B", "trade:C"]);
    let no = "Currency pair not supported";
    assert_eq!(talk.hear(&error(1, no, Some("B"))), [rejected("trade:B", no)]);
    assert_eq!(talk.hear(&error(1, "EService:Busy", Some("C"))), [ended("trade:C")]);
    assert_eq!(talk.hear(&error(1, no, None)), [rejected("trade:A", no)], "it is the last");
    let stray = error(1, no, Some("A"));
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn a_refusal_that_names_no_symbol_is_traced_to_it() {
    let mut talk = opened();
    talk.join(&["trade:A", "trade:B", "trade:C"]);
    let said = talk.hear(&error(1, "no", None));
    let halves =
        [call(2, "subscribe", "trade", &["A"]), call(3, "subscribe", "trade", &["B", "C"])];
    assert_eq!(said, halves);
    assert_eq!(talk.hear(&done("subscribe", 1, "trade:C")), [joined("trade:C")], "of the first");
    assert_eq!(talk.hear(&error(3, "no", None)), [rejected("trade:B", "no")]);
    assert_eq!(talk.hear(&done("subscribe", 2, "trade:A")), [joined("trade:A")]);
}

#[test]
fn too_much_is_laid_to_what_waits_longest_and_a_leave_is_repeated() {
    let mut talk = opened();
    let much = r#"{"Error":"Exceeded msg rate"}"#;
    talk.join(&["trade:A"]);
    assert_eq!(talk.hear(much), [ended("trade:A"), unroutable(much)]);
    talk.join(&["trade:A"]);
    talk.hear(&done("subscribe", 2, "trade:A"));
    talk.leave("trade:A");
    assert_eq!(talk.hear(much), [unroutable(much)]);
    assert_eq!(talk.session.deadline(), Some(talk.now + Duration::from_secs(1)));
    let again = call(4, "unsubscribe", "trade", &["A"]);
    assert_eq!(talk.at(Duration::from_secs(1)), [again]);
    assert_eq!(talk.hear(&done("unsubscribe", 4, "trade:A")), []);
    assert_eq!(talk.hear(much), [unroutable(much)], "nothing waits");
}

#[test]
fn the_snapshot_of_a_state_is_marked_and_that_of_trades_is_not() {
    let mut talk = opened();
    talk.join(&[BOOK, TRADES]);
    talk.hear(&done("subscribe", 1, BOOK));
    talk.hear(&done("subscribe", 2, TRADES));
    let book = rows("book", "snapshot", &["BTC/USD"], 1);
    let marked =
        Utterance::Marked(Some(BOOK.into()), book.as_str().into(), Mark::default().snapshot());
    assert_eq!(talk.hear(&book), [marked]);
    let update = rows("book", "update", &["BTC/USD"], 1);
    assert_eq!(talk.hear(&update), [data(BOOK, &update)]);
    let trades = rows("trade", "snapshot", &["BTC/USD"], 1);
    assert_eq!(talk.hear(&trades), [data(TRADES, &trades)]);
}

#[test]
fn a_sequence_that_leaps_is_a_gap() {
    let mut talk = private();
    talk.join(&["executions"]);
    talk.hear(&done("subscribe", 1, "executions"));
    let plain = |kind, n| data("executions", &numbered(kind, n));
    let gap = |missed| Utterance::Gap(Some("executions".into()), missed);
    assert_eq!(talk.hear(&numbered("snapshot", 1)), [plain("snapshot", 1)]);
    assert_eq!(talk.hear(&numbered("update", 2)), [plain("update", 2)]);
    assert_eq!(talk.hear(&numbered("update", 5)), [gap(Some(2)), plain("update", 5)]);
    assert_eq!(talk.hear(&numbered("update", 5)), [gap(None), plain("update", 5)], "twice");
    assert_eq!(talk.hear(&numbered("update", u64::MAX)).len(), 2);
    assert_eq!(talk.hear(&numbered("update", u64::MAX)).len(), 1, "and no overflow");
}

#[test]
fn private_names_say_the_token_and_a_refused_one_is_asked_for_anew() {
    let mut talk = private();
    let said = talk.join(&["executions"]);
    let call =
        r#"{"method":"subscribe","params":{"channel":"executions","token":"s3cr3t"},"req_id":1}"#;
    assert_eq!(said, [push(call)]);
    talk.hear(&done("subscribe", 1, "executions"));
    talk.said = std::mem::take(&mut talk.said).token("fresh");
    assert_eq!(talk.session.rotate(&mut talk.said.cx(talk.now)), Rotation::InPlace);
    assert_eq!(talk.said.take(), [], "what is subscribed to lives on");
    let Utterance::Push(said) = &talk.join(&["balances"])[0] else { panic!() };
    assert!(said.as_text().unwrap().contains(r#""token":"fresh""#), "{said:?}");
    let words = "EAPI:Invalid token";
    let [Utterance::Failed(Verdict::NewToken, why)] = &talk.hear(&error(2, words, None))[..] else {
        panic!()
    };
    assert!(!why.contains("fresh"));
    let mut bare = Talk::with(&kraken(), "executions", None);
    assert!(matches!(bare.said.take()[..], [Utterance::Failed(Verdict::NewToken, _)]));
    let mut public = Talk::with(&kraken(), TRADES, Some("s3cr3t"));
    public.said.take();
    assert_eq!(public.join(&[TRADES]).len(), 1);
    assert!(!format!("{:?}", public.join(&["trade:B"])).contains("s3cr3t"));
}

#[test]
fn silence_is_broken_by_a_ping_and_heartbeats_are_signs_of_life() {
    let seconds = Duration::from_secs;
    let mut talk = opened();
    talk.now += seconds(4);
    assert_eq!(talk.hear(r#"{"channel":"heartbeat"}"#), [Utterance::Alive]);
    let status = r#"{"channel":"status","type":"update","data":[{"system":"online"}]}"#;
    assert_eq!(talk.hear(status), [Utterance::Alive]);
    assert_eq!(talk.at(seconds(5)), [push(r#"{"method":"ping","req_id":1}"#)]);
    assert_eq!(talk.hear(r#"{"method":"pong","req_id":1,"time_in":""}"#), [Utterance::Alive]);
    assert_eq!(talk.at(seconds(5)), [push(r#"{"method":"ping","req_id":2}"#)]);
    assert!(matches!(talk.at(seconds(5))[..], [.., Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn names_lead_to_their_hosts_and_those_without_one_are_refused() {
    let host = |kraken: &KrakenV2, name: &str| {
        let name = StreamName::try_from(name).unwrap();
        let lane = kraken.lane(&name).ok()?;
        let request = kraken.request(&Dial::first(&lane, &[])).unwrap();
        Some(request.url().host().to_owned())
    };
    assert_eq!(host(&kraken(), "book:A/B,depth=10").as_deref(), Some("h"));
    assert_eq!(host(&kraken(), "balances").as_deref(), Some("auth"));
    assert_eq!(host(&kraken(), "level3:A/B"), None);
    let all = kraken().level3("wss://l3/v2").unwrap();
    assert_eq!(host(&all, "level3:A/B").as_deref(), Some("l3"));
    assert_eq!(host(&KrakenV2::new("wss://h").unwrap(), "executions"), None);
}

#[test]
fn calls_are_bounded() {
    let mut talk = opened();
    let names: Vec<_> = (0..250).map(|n| format!("trade:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(talk.join(&names).len(), 3, "of a hundred each");
    let mut talk = opened();
    let failed = (0..2000).any(|n| {
        let name = format!("trade:{n}");
        let mut said = talk.join(&[&name]);
        said.extend(talk.leave(&name));
        said.iter().any(|said| matches!(said, Utterance::Failed(Verdict::Retry, _)))
    });
    assert!(failed, "calls that are never answered do not pile up");
}

fn lie() -> impl Strategy<Value = String> {
    let name =
        prop_oneof![Just("trade:A"), Just("trade:B"), Just(BOOK), Just("other:A"), Just("x")];
    let id = 0_u64..6;
    let symbol = prop_oneof![Just(None), Just(Some("A")), Just(Some("B")), Just(Some("BTC/USD"))];
    let words = prop_oneof![Just("no"), Just("EService:Busy"), Just("EAPI:Invalid token")];
    let channel = prop_oneof![Just("trade"), Just("book"), Just("other")];
    let odd = prop_oneof![
        Just(deep()),
        Just(format!(r#"{{"channel":"trade","data":{}}}"#, deep())),
        Just(format!(r#"{{"method":"subscribe","success":true,"result":{}}}"#, deep())),
        Just(r#"{"Error":"Exceeded msg rate"}"#.to_owned()),
        Just(r#"{"method":"pong"}"#.to_owned()),
        Just(r#"{"channel":"heartbeat"}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        (id.clone(), name.clone()).prop_map(|(id, name)| done("subscribe", id, name)),
        (id.clone(), name).prop_map(|(id, name)| done("unsubscribe", id, name)),
        (id, words, symbol).prop_map(|(id, words, symbol)| error(id, words, symbol)),
        (
            channel,
            any::<bool>(),
            prop::collection::vec(prop_oneof![Just("A"), Just("B"), Just("BTC/USD")], 0..4)
        )
            .prop_map(|(channel, is_first, symbols)| rows(
                channel,
                if is_first { "snapshot" } else { "update" },
                &symbols,
                1
            )),
        odd,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = opened();
        talk.join(&["trade:A", "trade:B", BOOK]);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            for (_, leaves) in moves.iter().filter(|(when, _)| *when == at) {
                let said = if *leaves {
                    open.remove("trade:B");
                    talk.leave("trade:B")
                } else if open.contains("trade:B") {
                    continue;
                } else {
                    talk.join(&["trade:B"])
                };
                prop_assert!(check(said, &mut open)?);
            }
            if at % 5 == 4 {
                talk.now += Duration::from_secs(1);
                check(talk.at(Duration::ZERO), &mut open)?;
            }
        }
    }

    /// However confirmations and data are interleaved: each name is joined once, and gets all of its data
    /// after that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order(turns in prop::collection::vec((0..3_usize, any::<bool>()), 0..40)) {
        let names = ["trade:A", "trade:B", "trade:C"];
        let symbol = |of: usize| &names[of]["trade:".len()..];
        let mut talk = opened();
        talk.join(&names);
        let (mut said, mut sent) = (Vec::new(), [0; 3]);
        let all = turns.into_iter().chain((0..3).map(|of| (of, true)));
        for (of, confirms) in all {
            let text = if confirms { done("subscribe", 1, names[of]) } else {
                sent[of] += 1;
                rows("trade", "update", &[symbol(of)], sent[of])
            };
            said.extend(talk.hear(&text));
        }
        for (of, sent) in sent.into_iter().enumerate() {
            let name = names[of];
            let of_name: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(name))
                .chain((1..=sent).map(|n| data(name, &rows("trade", "update", &[symbol(of)], n)))).collect();
            prop_assert_eq!(of_name, expected);
        }
    }
}
