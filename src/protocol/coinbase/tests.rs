//! The session alone, driven by arithmetic: lists and data in any order, and lies.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{Mark, Rotation, Utterance, Verdict};

const HEARTBEATS: &str = r#"{"type":"subscribe","channel":"heartbeats"}"#;

fn coinbase() -> CoinbaseAdvanced {
    CoinbaseAdvanced::new("wss://h").unwrap().user("wss://user").unwrap()
}

/// A session whose heartbeats are confirmed.
fn opened() -> Talk {
    let mut talk = Talk::with(&coinbase(), "ticker:A", None);
    assert_eq!(talk.said.take(), [push(HEARTBEATS), Utterance::Ready]);
    assert_eq!(talk.hear(&list(&[])), []);
    talk
}

fn private() -> Talk {
    let mut talk = Talk::with(&coinbase(), "user", Some("s3cr3t"));
    assert_eq!(talk.said.take(), [push(HEARTBEATS), Utterance::Ready]);
    talk.hear(&list(&[]));
    talk
}

fn call(kind: &str, channel: &str, products: &[&str]) -> Utterance {
    let products = serde_json::to_string(products).unwrap();
    push(&format!(r#"{{"type":"{kind}","product_ids":{products},"channel":"{channel}"}}"#))
}

/// What a socket that has `names` is subscribed to.
fn list(names: &[&str]) -> String {
    let mut channels = BTreeMap::from([("heartbeats", vec!["heartbeats"])]);
    for name in names {
        let (channel, product) = name.split_once(':').unwrap_or((name, "all"));
        channels.entry(channel).or_default().push(product);
    }
    let channels = serde_json::to_string(&channels).unwrap();
    format!(r#"{{"channel":"subscriptions","events":[{{"subscriptions":{channels}}}]}}"#)
}

fn tickers(products: &[&str], n: u32) -> String {
    let rows: Vec<_> =
        products.iter().map(|product| format!(r#"{{"product_id":"{product}","n":{n}}}"#)).collect();
    let rows = rows.join(",");
    format!(r#"{{"channel":"ticker","events":[{{"type":"update","tickers":[{rows}]}}]}}"#)
}

fn book(kind: &str, n: u64) -> String {
    format!(
        r#"{{"channel":"l2_data","sequence_num":{n},"events":[{{"type":"{kind}","product_id":"A","updates":[]}}]}}"#
    )
}

fn error(words: &str) -> String {
    format!(r#"{{"type":"error","message":"{words}"}}"#)
}

#[test]
fn a_name_is_joined_when_it_is_listed_and_left_when_it_is_not_any_more() {
    let mut talk = opened();
    let said = talk.join(&["ticker:A", "ticker:B", "level2:A"]);
    assert_eq!(
        said,
        [call("subscribe", "level2", &["A"]), call("subscribe", "ticker", &["A", "B"])]
    );
    let early = tickers(&["A"], 1);
    assert_eq!(talk.hear(&early), [], "held");
    assert_eq!(talk.hear(&list(&["level2:A"])), [joined("level2:A")]);
    let mut said = talk.hear(&list(&["ticker:A", "ticker:B", "level2:A"]));
    said.sort_by_key(|said| format!("{said:?}"));
    assert_eq!(said, [data("ticker:A", &early), joined("ticker:A"), joined("ticker:B")]);
    assert_eq!(talk.leave("ticker:A"), [call("unsubscribe", "ticker", &["A"])]);
    assert_eq!(talk.join(&["ticker:A"]), [], "not before it was left");
    assert_eq!(talk.hear(&early), [], "late");
    let again = call("subscribe", "ticker", &["A"]);
    assert_eq!(talk.hear(&list(&["level2:A", "ticker:B"])), [again]);
    let all = list(&["ticker:B", "level2:A", "ticker:A"]);
    assert_eq!(talk.hear(&all), [joined("ticker:A")]);
    assert_eq!(talk.hear(&all), [], "and whatever is listed after that");
}

#[test]
fn the_answer_to_an_earlier_call_proves_nothing_of_a_later_one() {
    let mut talk = opened();
    talk.join(&["level2:A"]);
    talk.join(&["ticker:B"]);
    talk.leave("ticker:B");
    assert_eq!(talk.join(&["ticker:B"]), []);
    assert_eq!(talk.hear(&list(&["level2:A"])), [joined("level2:A")], "of the first");
    assert_eq!(talk.hear(&list(&["level2:A", "ticker:B"])), [], "of the second");
    let again = call("subscribe", "ticker", &["B"]);
    assert_eq!(talk.hear(&list(&["level2:A"])), [again], "of the third");
    assert_eq!(talk.hear(&list(&["level2:A", "ticker:B"])), [joined("ticker:B")]);
}

#[test]
fn what_is_not_listed_although_it_was_answered_is_rejected() {
    let mut talk = opened();
    talk.join(&["ticker:A", "ticker:NOPE"]);
    let mut said = talk.hear(&list(&["ticker:A"]));
    said.sort_by_key(|said| format!("{said:?}"));
    let why = "the server does not list it among what it serves";
    assert_eq!(said, [joined("ticker:A"), rejected("ticker:NOPE", why)]);
    assert_eq!(talk.join(&["ticker:NOPE"]).len(), 1);
}

#[test]
fn an_error_is_of_the_oldest_call_and_traced_to_its_name() {
    let mut talk = opened();
    talk.join(&["ticker:A", "ticker:B", "ticker:C"]);
    talk.join(&["level2:A"]);
    let halves = [call("subscribe", "ticker", &["A"]), call("subscribe", "ticker", &["B", "C"])];
    assert_eq!(talk.hear(&error("no")), halves);
    assert_eq!(talk.hear(&list(&["level2:A"])), [joined("level2:A")]);
    assert_eq!(talk.hear(&error("no")), [rejected("ticker:A", "no")]);
    assert_eq!(talk.hear(&list(&["level2:A", "ticker:B", "ticker:C"])).len(), 2);
    talk.join(&["ticker:D"]);
    assert_eq!(talk.hear(&error("rate limit exceeded")), [ended("ticker:D")]);
    assert_eq!(talk.hear(&error("of nothing")), []);
}

#[test]
fn rows_of_several_products_go_to_each_of_them_once() {
    let mut talk = opened();
    talk.join(&["ticker:A", "ticker:B"]);
    talk.hear(&list(&["ticker:A", "ticker:B"]));
    let both = tickers(&["A", "A", "C", "B", "A"], 1);
    assert_eq!(talk.hear(&both), [data("ticker:A", &both), data("ticker:B", &both)]);
    let other = tickers(&["C"], 1);
    assert_eq!(talk.hear(&other), [unroutable(&other)]);
}

#[test]
fn a_number_that_leaps_is_a_gap_for_all_and_for_who_is_joined_after_what_is_held() {
    let mut talk = opened();
    talk.join(&["level2:A"]);
    talk.hear(&list(&["level2:A"]));
    let snapshot = book("snapshot", 4);
    let mark = Mark::default().snapshot();
    let marked = Utterance::Marked(Some("level2:A".into()), snapshot.as_str().into(), mark);
    assert_eq!(talk.hear(&snapshot), [marked]);
    assert_eq!(talk.hear(&book("update", 5)), [data("level2:A", &book("update", 5))]);
    let gap = |missed| Utterance::Gap(None, missed);
    assert_eq!(talk.hear(&book("update", 8)), [gap(Some(2)), data("level2:A", &book("update", 8))]);
    let beat = r#"{"channel":"heartbeats","sequence_num":10,"events":[]}"#;
    assert_eq!(talk.hear(beat), [gap(Some(1)), Utterance::Alive], "whose it was, nobody knows");
    assert_eq!(talk.hear(&book("update", 10))[0], gap(None));
    talk.hear(&book("update", u64::MAX));
    assert_eq!(talk.hear(&book("update", u64::MAX)).len(), 1, "and no overflow");

    talk.join(&["ticker:A"]);
    let early = tickers(&["A"], 1);
    assert_eq!(talk.hear(&early), []);
    assert_eq!(talk.hear(&book("update", 1))[0], gap(None));
    let own = Utterance::Gap(Some("ticker:A".into()), None);
    let said = talk.hear(&list(&["level2:A", "ticker:A"]));
    assert_eq!(said, [joined("ticker:A"), own, data("ticker:A", &early)]);
}

#[test]
fn the_token_is_said_in_calls_and_a_refused_one_is_asked_for_anew() {
    let mut talk = private();
    let call = r#"{"type":"subscribe","channel":"user","jwt":"s3cr3t"}"#;
    assert_eq!(talk.join(&["user"]), [push(call)]);
    assert_eq!(talk.hear(&list(&["user"])), [joined("user")]);
    let orders = r#"{"channel":"user","events":[{"type":"snapshot","orders":[]}]}"#;
    assert_eq!(talk.hear(orders), [data("user", orders)], "it holds open orders alone");
    talk.said = std::mem::take(&mut talk.said).token("fresh");
    assert_eq!(talk.session.rotate(&mut talk.said.cx(talk.now)), Rotation::InPlace);
    let call = r#"{"type":"subscribe","channel":"futures_balance_summary","jwt":"fresh"}"#;
    assert_eq!(talk.join(&["futures_balance_summary"]), [push(call)]);
    let said = talk.hear(&error("authentication failure"));
    assert!(matches!(said[..], [Utterance::Failed(Verdict::NewToken, _)]));
    let mut bare = Talk::with(&coinbase(), "user", None);
    assert!(matches!(bare.said.take()[..], [Utterance::Failed(Verdict::NewToken, _)]));
    let mut market = Talk::with(&coinbase(), "ticker:A", Some("s3cr3t"));
    assert!(
        !format!("{:?}{:?}", market.said.take(), market.join(&["ticker:A"])).contains("s3cr3t")
    );
    market.hear(&list(&[]));
    let said = market.hear(&error("authentication failure"));
    assert_eq!(said, [rejected("ticker:A", "authentication failure")], "there was no token in it");
}

#[test]
fn heartbeats_that_stop_give_the_socket_up() {
    let mut talk = opened();
    assert_eq!(talk.session.deadline(), None, "none was heard yet");
    let beat = r#"{"channel":"heartbeats","events":[{"heartbeat_counter":42}]}"#;
    assert_eq!(talk.hear(beat), [Utterance::Alive]);
    assert_eq!(talk.session.deadline(), Some(talk.now + Duration::from_secs(10)));
    assert!(matches!(talk.at(Duration::from_secs(10))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn names_lead_to_their_hosts_and_calls_are_bounded() {
    let host = |coinbase: &CoinbaseAdvanced, name: &str| {
        let name = StreamName::try_from(name).unwrap();
        let lane = coinbase.lane(&name).ok()?;
        let request = coinbase.request(&Dial::first(&lane, &[])).unwrap();
        Some(request.url().host().to_owned())
    };
    assert_eq!(host(&coinbase(), "level2:A").as_deref(), Some("h"));
    assert_eq!(host(&coinbase(), "user").as_deref(), Some("user"));
    assert_eq!(host(&CoinbaseAdvanced::new("wss://h").unwrap(), "user"), None);
    let mut talk = opened();
    let names: Vec<_> = (0..250).map(|n| format!("ticker:{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(talk.join(&names).len(), 3, "of a hundred each");
    let mut talk = opened();
    let failed = (0..2000).any(|n| {
        let name = format!("ticker:{n}");
        let mut said = talk.join(&[&name]);
        said.extend(talk.leave(&name));
        said.iter().any(|said| matches!(said, Utterance::Failed(Verdict::Retry, _)))
    });
    assert!(failed, "calls that are never answered do not pile up");
}

fn lie() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("ticker:A"), Just("ticker:B"), Just("level2:A"), Just("user")];
    let product = prop_oneof![Just("A"), Just("B"), Just("C")];
    let odd = prop_oneof![
        Just(deep()),
        Just(format!(r#"{{"channel":"ticker","events":{}}}"#, deep())),
        Just(format!(r#"{{"channel":"subscriptions","events":[{}]}}"#, deep())),
        Just(r#"{"channel":"subscriptions","events":[{"subscriptions":7}]}"#.to_owned()),
        Just(r#"{"channel":"heartbeats","sequence_num":7}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        prop::collection::vec(name, 0..4).prop_map(|names| list(&names)),
        prop_oneof![Just("no"), Just("rate limit")].prop_map(error),
        prop::collection::vec(product, 0..4).prop_map(|products| tickers(&products, 1)),
        (any::<bool>(), 0_u64..9).prop_map(|(s, n)| book(if s { "snapshot" } else { "update" }, n)),
        odd,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = opened();
        talk.join(&["ticker:A", "ticker:B", "level2:A"]);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            for (_, leaves) in moves.iter().filter(|(when, _)| *when == at) {
                let said = if *leaves {
                    open.remove("ticker:B");
                    talk.leave("ticker:B")
                } else if open.contains("ticker:B") {
                    continue;
                } else {
                    talk.join(&["ticker:B"])
                };
                prop_assert!(check(said, &mut open)?);
            }
        }
    }

    /// However lists and data are interleaved: each name is joined once, and gets all of its data after
    /// that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order(turns in prop::collection::vec(0..4_usize, 0..40)) {
        let products = ["A", "B", "C"];
        let names = ["ticker:A", "ticker:B", "ticker:C"];
        let mut talk = opened();
        names.iter().for_each(|name| assert_eq!(talk.join(&[name]).len(), 1));
        let (mut said, mut sent, mut listed) = (Vec::new(), [0; 3], 0);
        for turn in turns.into_iter().chain([3; 3]) {
            let text = if turn == 3 {
                listed = (listed + 1).min(3);
                list(&names[..listed])
            } else {
                sent[turn] += 1;
                tickers(&[products[turn]], sent[turn])
            };
            said.extend(talk.hear(&text));
        }
        for ((name, product), sent) in names.iter().zip(products).zip(sent) {
            let of: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(name))
                .chain((1..=sent).map(|n| data(name, &tickers(&[product], n)))).collect();
            prop_assert_eq!(of, expected);
        }
    }
}
