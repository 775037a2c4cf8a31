//! The session alone, driven by arithmetic: answers and data in any order, and lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::message::Message;
use crate::protocol::talk::deep;
use crate::protocol::{Mark, Transcript, Utterance};

fn named(name: &str) -> StreamName {
    StreamName::try_from(name).unwrap()
}

fn lane(protocol: &BinanceCombined, name: &str) -> Result<Lane, InvalidName> {
    protocol.lane(&named(name))
}

/// A session, and what it said.
struct Talk {
    now: Instant,
    said: Transcript,
    session: Box<dyn Session>,
}

impl Talk {
    fn new(protocol: &BinanceCombined, in_url: &[&str]) -> Self {
        let names: Vec<_> = in_url.iter().map(|name| named(name)).collect();
        let session = protocol.session(&Dial::first(&Lane::new("/stream"), &names));
        let mut talk = Self { now: Instant::now(), said: Transcript::default(), session };
        talk.session.open(&mut talk.said.cx(talk.now));
        assert_eq!(talk.said.take(), [Utterance::Ready]);
        talk
    }

    fn join(&mut self, names: &[&str]) -> Vec<Utterance> {
        let names: Vec<_> = names.iter().map(|name| named(name)).collect();
        self.session.join(&names, &mut self.said.cx(self.now));
        self.said.take()
    }

    fn leave(&mut self, names: &[&str]) -> Vec<Utterance> {
        let names: Vec<_> = names.iter().map(|name| named(name)).collect();
        self.session.leave(&names, &mut self.said.cx(self.now));
        self.said.take()
    }

    fn hear(&mut self, text: &str) -> Vec<Utterance> {
        self.session.receive(&text.into(), &mut self.said.cx(self.now));
        self.said.take()
    }

    /// What the session says to a payload of `name`.
    fn data(&mut self, name: &str, payload: &str) -> Vec<Utterance> {
        self.hear(&combined(name, payload))
    }
}

fn combined(name: &str, payload: &str) -> String {
    format!(r#"{{"stream":"{name}","data":{payload}}}"#)
}

fn push(text: &str) -> Utterance {
    Utterance::Push(text.into())
}

fn joined(name: &str) -> Utterance {
    Utterance::Joined(name.into())
}

fn marked(name: &str, payload: &str, seq: u64) -> Utterance {
    Utterance::Marked(Some(name.into()), payload.into(), Mark::default().seq(seq))
}

fn gap(name: &str, missed: Option<u64>) -> Utterance {
    Utterance::Gap(Some(name.into()), missed)
}

#[test]
fn names_go_into_the_url_as_far_as_it_holds_them() {
    let spot = BinanceCombined::spot().microseconds();
    let names = ["btcusdt@trade", "!miniTicker@arr", "ü@kline_1m@+08:00"].map(named);
    let lane = spot.lane(&names[0]).unwrap();
    let request = spot.request(&Dial::first(&lane, &names)).unwrap();
    let target = "/stream?streams=btcusdt@trade/!miniTicker@arr/%C3%BC@kline_1m@%2B08%3A00\
                  &timeUnit=MICROSECOND";
    assert_eq!(request.url().target(), target);
    assert_eq!(request.url().host_header(), "stream.binance.com:9443");
    assert_eq!(request.joins(), names);

    let many: Vec<_> = (0..1024).map(|n| named(&format!("sym{n}usdt@aggTrade"))).collect();
    let request = spot.request(&Dial::first(&lane, &many)).unwrap();
    let len = request.url().target().len();
    assert!((URL - 30..=URL).contains(&len), "{len}");
    assert_eq!(request.joins(), &many[..request.joins().len()]);
    let bare = spot.no_names_in_url().request(&Dial::first(&lane, &many)).unwrap();
    assert_eq!(bare.url().target(), "/stream?timeUnit=MICROSECOND");
    assert!(bare.joins().is_empty());
}

#[test]
fn a_name_of_futures_is_on_the_path_that_serves_it() {
    let usd_m = BinanceCombined::usd_m().at("wss://host/prefix/").unwrap();
    for (name, path) in [
        ("btcusdt@depth@100ms", "/public/stream"),
        ("btcusdt@depth20", "/public/stream"),
        ("btcusdt@rpiDepth@500ms", "/public/stream"),
        ("btcusdt@trade", "/public/stream"),
        ("btcusdt@bookTicker", "/public/stream"),
        ("!bookTicker", "/public/stream"),
        ("btcusdt@aggTrade", "/market/stream"),
        ("btcusdt@markPrice@1s", "/market/stream"),
        ("btcusdt_perpetual@continuousKline_1m", "/market/stream"),
        ("!ticker@arr", "/market/stream"),
        ("!contractInfo", "/market/stream"),
    ] {
        let lane = lane(&usd_m, name).unwrap();
        assert_eq!(lane.as_str(), path, "{name}");
        let names = [named(name)];
        let request = usd_m.request(&Dial::first(&lane, &names)).unwrap();
        assert_eq!(request.url().path(), format!("/prefix{path}"));
    }
}

#[test]
fn names_that_the_server_would_confirm_and_never_serve_are_refused() {
    let spot = BinanceCombined::spot();
    for bad in [
        "BTCUSDT@trade",
        "btcUSDT@trade",
        "btcusdt",
        "a@trade/b@trade",
        "a@tr\"ade",
        "a@tr\\ade",
        "!serverShutdown",
        &format!("{}@trade", "a".repeat(512)),
    ] {
        assert!(lane(&spot, bad).is_err(), "{bad}");
    }
    for good in ["btcusdt@aggTrade", "!miniTicker@arr", "btcusdt@kline_1M", "币安人生usdt@trade"]
    {
        assert!(lane(&spot, good).is_ok(), "{good}");
    }
}

#[test]
fn limits_are_those_of_the_venue() {
    let limits = |protocol: BinanceCombined| protocol.limits(&Lane::new("/stream"));
    let spot = limits(BinanceCombined::spot().capacity(5000));
    assert_eq!((spot.capacity, spot.messages.map(|rate| rate.count())), (Some(1024), Some(5)));
    assert!(spot.max_age.unwrap() < Duration::from_secs(24 * 3600));
    assert_eq!(limits(BinanceCombined::usd_m()).messages.unwrap().count(), 10);
    // A message with the longest batch has its bytes.
    let names: Vec<_> = (0..200).map(|n| named(&format!("{n:014}@t"))).collect();
    let text = wire::request("UNSUBSCRIBE", &names, u64::MAX);
    assert!(text.len() <= 200 * 20 + 80 && BATCH_BYTES + 80 <= 4088, "{}", text.len());
}

#[test]
fn a_name_is_joined_by_the_answer_to_its_latest_request() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &[]);
    let said = talk.join(&["a@trade", "b@kline_1m"]);
    assert_eq!(said, [push(r#"{"method":"SUBSCRIBE","params":["a@trade","b@kline_1m"],"id":1}"#)]);
    let said = talk.leave(&["a@trade"]);
    assert_eq!(said, [push(r#"{"method":"UNSUBSCRIBE","params":["a@trade"],"id":2}"#)]);
    talk.join(&["a@trade"]);
    assert_eq!(talk.hear(r#"{"result":null,"id":1}"#), [joined("b@kline_1m")]);
    assert_eq!(talk.hear(r#"{"result":null,"id":2}"#), []);
    let early = combined("a@trade", r#"{"t":5}"#);
    assert_eq!(talk.hear(&early), [Utterance::Unroutable((&*early).into())]);
    assert_eq!(talk.hear(r#"{"result":null,"id":3}"#), [joined("a@trade")]);
    assert_eq!(talk.hear(&early), [marked("a@trade", r#"{"t":5}"#, 5)]);
    let again = r#"{"result":null,"id":3}"#;
    assert_eq!(talk.hear(again), [Utterance::Unroutable(again.into())], "it is answered");
}

#[test]
fn what_a_reader_gets_is_the_data_alone_as_a_slice_of_the_frame() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &["a@kline_1m", "!miniTicker@arr"]);
    let payload = r#"{ "k":[1,{"}":"]\"}"}], "x":null }"#;
    let text = format!("{{ \"stream\" : \"a@kline_1m\" , \"data\" : {payload} , \"new\":1 }}");
    assert_eq!(talk.hear(&text), [Utterance::Data(Some("a@kline_1m".into()), payload.into())]);
    let array = r#"[{"e":"24hrMiniTicker"}]"#;
    let said = talk.data("!miniTicker@arr", array);
    assert_eq!(said, [Utterance::Data(Some("!miniTicker@arr".into()), array.into())]);
    // The other order, and a name with an escape.
    let said = talk.hear(r#"{"data":{},"stream":"\u0061@kline_1m"}"#);
    assert_eq!(said, [Utterance::Data(Some("a@kline_1m".into()), "{}".into())]);

    let frame: Message =
        format!(r#"{{"stream":"a@kline_1m","data":{{"x":"{}"}}}}"#, "y".repeat(2000)).into();
    talk.session.receive(&frame, &mut talk.said.cx(talk.now));
    let said = talk.said.take();
    let [Utterance::Data(_, payload)] = &said[..] else { panic!("{said:?}") };
    let range = frame.as_bytes().as_ptr_range();
    assert!(range.contains(&payload.as_bytes().as_ptr()), "it is copied");
}

#[test]
fn holes_are_seen_by_the_numbers_of_each_feed() {
    let mut spot = Talk::new(&BinanceCombined::spot(), &["a@depth@100ms", "a@trade", "a@depth5"]);
    let book = |first: u64, last: u64| format!(r#"{{"e":"depthUpdate","U":{first},"u":{last}}}"#);
    let name = "a@depth@100ms";
    for (first, last, hole) in
        [(157, 160, false), (161, 161, false), (163, 170, true), (171, 171, false), (3, 9, false)]
    {
        let payload = book(first, last);
        let gap = hole.then(|| gap(name, None));
        let expected: Vec<_> = gap.into_iter().chain([marked(name, &payload, last)]).collect();
        assert_eq!(spot.data(name, &payload), expected);
    }
    for (t, missed) in [(7, None), (8, None), (12, Some(3)), (12, None), (11, None), (12, None)] {
        let payload = format!(r#"{{"t":{t},"p":"1"}}"#);
        let gap = missed.map(|missed| gap("a@trade", Some(missed)));
        let expected: Vec<_> = gap.into_iter().chain([marked("a@trade", &payload, t)]).collect();
        assert_eq!(spot.data("a@trade", &payload), expected);
    }
    let whole = r#"{"lastUpdateId":160,"bids":[]}"#;
    let snapshot = Mark::default().snapshot();
    let expected = [Utterance::Marked(Some("a@depth5".into()), whole.into(), snapshot)];
    assert_eq!(spot.data("a@depth5", whole), expected);

    // Of futures, the numbers of all symbols are one row.
    let mut usd_m = Talk::new(&BinanceCombined::usd_m(), &["a@depth"]);
    let chain = |before: u64, first: u64, last: u64| {
        format!(r#"{{"e":"depthUpdate","U":{first},"u":{last},"pu":{before},"b":[]}}"#)
    };
    for (before, first, last, hole) in [
        (90, 100, 110, false),
        (110, 150, 160, false),
        (170, 180, 190, true),
        (190, 200, 201, false),
    ] {
        let payload = chain(before, first, last);
        let gap = hole.then(|| gap("a@depth", None));
        let expected: Vec<_> = gap.into_iter().chain([marked("a@depth", &payload, last)]).collect();
        assert_eq!(usd_m.data("a@depth", &payload), expected);
    }
}

#[test]
fn a_name_that_is_joined_anew_follows_on_nothing() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &["a@trade"]);
    talk.data("a@trade", r#"{"t":5}"#);
    talk.leave(&["a@trade"]);
    talk.join(&["a@trade"]);
    talk.hear(r#"{"result":null,"id":2}"#);
    assert_eq!(talk.data("a@trade", r#"{"t":50}"#), [marked("a@trade", r#"{"t":50}"#, 50)]);
}

#[test]
fn a_batch_that_is_refused_is_halved_until_the_name_is_found() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &[]);
    let names = ["a@t", "b@t", "c@t", "d@t"];
    let mut asked: VecDeque<_> = talk.join(&names).into();
    let mut outcome = BTreeSet::new();
    let mut count = 0;
    while let Some(said) = asked.pop_front() {
        match said {
            Utterance::Push(request) => {
                count += 1;
                let request: Value = serde_json::from_str(request.as_text().unwrap()).unwrap();
                let is_bad = request["params"].as_array().unwrap().iter().any(|name| name == "c@t");
                let id = &request["id"];
                asked.extend(talk.hear(&match is_bad {
                    // With its number and without, in both forms that hosts have.
                    true if count % 2 == 0 => r#"{"code":2,"msg":"Invalid request: c"}"#.to_owned(),
                    true => {
                        format!(r#"{{"error":{{"code":2,"msg":"Invalid request: c"}},"id":{id}}}"#)
                    }
                    false => format!(r#"{{"result":null,"id":{id}}}"#),
                }));
            }
            Utterance::Joined(name) => assert!(outcome.insert(name)),
            Utterance::Rejected(name, why) => {
                assert_eq!((&*name, &*why), ("c@t", "Invalid request: c"));
                assert!(outcome.insert(name));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((outcome.len(), count), (4, 5));
}

#[test]
fn a_failure_that_nobody_asked_for_is_counted() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &[]);
    for text in [
        r#"{"code":3,"msg":"Invalid JSON"}"#,
        r#"{"result":null,"id":77}"#,
        r#"{"result":null,"id":"x"}"#,
        "[]",
        "",
        "pong",
        r#"{"stream":1,"data":{}}"#,
        r#"{"stream":"b@trade","data":{}}"#,
        r#"{"stream":"b@trade"}"#,
    ] {
        assert_eq!(talk.hear(text), [Utterance::Unroutable(text.into())]);
    }
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn a_megabyte_of_nested_json_costs_nobody_its_name() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &["a@trade"]);
    for text in [
        deep(),
        combined("a@trade", &deep()),
        format!(r#"{{"stream":{},"data":{{}}}}"#, deep()),
        format!(r#"{{"result":{},"id":1}}"#, deep()),
        format!(r#"{{"code":1,"msg":{}}}"#, deep()),
    ] {
        let said = talk.hear(&text);
        let is_harmless = |said: &Utterance| match said {
            Utterance::Unroutable(_) => true,
            Utterance::Data(Some(name), _) => name == "a@trade",
            _ => false,
        };
        assert!(said.len() == 1 && is_harmless(&said[0]), "{:.60}", format!("{said:?}"));
    }
    let payload = r#"{"t":7}"#;
    assert_eq!(talk.data("a@trade", payload), [marked("a@trade", payload, 7)]);
}

#[test]
fn a_shutdown_is_told_once_and_a_socket_that_has_just_opened_has_patience() {
    let text = combined("!serverShutdown", r#"{"e":"serverShutdown","E":1770123456789}"#);
    let mut talk = Talk::new(&BinanceCombined::spot(), &["a@trade"]);
    assert_eq!(talk.hear(&text), [Utterance::Reconnect(Duration::from_secs(20))]);
    assert_eq!(talk.hear(&text), []);
    let mut talk = Talk::new(&BinanceCombined::spot(), &["a@trade"]);
    talk.now += Duration::from_secs(61);
    let raw = r#"{"e":"serverShutdown","E":1770123456789}"#;
    assert_eq!(talk.hear(raw), [Utterance::Reconnect(Duration::ZERO)]);
}

#[test]
fn answers_that_never_come_are_forgotten_in_time() {
    let mut talk = Talk::new(&BinanceCombined::spot(), &[]);
    for _ in 0..2000 {
        talk.join(&["a@trade"]);
        talk.leave(&["a@trade"]);
    }
    let said = talk.hear(r#"{"result":null,"id":1}"#);
    assert!(matches!(said[..], [Utterance::Unroutable(_)]), "{said:?}");
    assert_eq!(talk.hear(r#"{"result":null,"id":4000}"#), []);
}

const NAMES: [&str; 4] = ["a@trade", "b@depth", "c@kline_1m", "d@bookTicker"];

#[derive(Clone, Debug)]
enum Step {
    Answer,
    Data(usize),
    Join(usize),
    Leave(usize),
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Answer),
        (0..4_usize).prop_map(Step::Data),
        (0..4_usize).prop_map(Step::Join),
        (0..4_usize).prop_map(Step::Leave),
        Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a server that answers in order, late, and with data in between.
    #[test]
    fn names_are_joined_when_their_latest_request_is_answered(steps in prop::collection::vec(step(), 1..80)) {
        let mut talk = Talk::new(&BinanceCombined::spot(), &[]);
        let (mut asked, mut ids) = (VecDeque::new(), 0_u64);
        let mut wanted: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join(n) if !wanted.contains_key(NAMES[n]) => {
                    ids += 1;
                    prop_assert_eq!(talk.join(&[NAMES[n]]).len(), 1);
                    wanted.insert(NAMES[n], (ids, false));
                    asked.push_back((ids, Some(NAMES[n])));
                }
                Step::Leave(n) if wanted.remove(NAMES[n]).is_some() => {
                    ids += 1;
                    prop_assert_eq!(talk.leave(&[NAMES[n]]).len(), 1);
                    asked.push_back((ids, None));
                }
                Step::Answer | Step::Refuse => {
                    let Some((id, name)) = asked.pop_front() else { continue };
                    let current = name.filter(|name| wanted.get(name).is_some_and(|(of, _)| *of == id));
                    let is_refused = matches!(step, Step::Refuse);
                    let said = talk.hear(&match is_refused {
                        true => r#"{"code":2,"msg":"no"}"#.to_owned(),
                        false => format!(r#"{{"result":null,"id":{id}}}"#),
                    });
                    let expected = current.map(|name| match is_refused {
                        true => Utterance::Rejected(name.into(), "no".into()),
                        false => joined(name),
                    });
                    prop_assert_eq!(said, Vec::from_iter(expected));
                    if let Some(name) = current {
                        if is_refused { wanted.remove(name); } else { wanted.insert(name, (id, true)); }
                    }
                }
                Step::Data(n) => {
                    let said = talk.data(NAMES[n], r#"{"x":1}"#);
                    let is_joined = wanted.get(NAMES[n]).is_some_and(|(_, joined)| *joined);
                    let expected = match is_joined {
                        true => Utterance::Data(Some(NAMES[n].into()), r#"{"x":1}"#.into()),
                        false => Utterance::Unroutable(combined(NAMES[n], r#"{"x":1}"#).into()),
                    };
                    prop_assert_eq!(said, [expected]);
                }
                Step::Join(_) | Step::Leave(_) => {}
            }
        }
    }

    /// Whatever a server says: it speaks of nothing that was not asked for, and asks no more than twice
    /// what it asked before.
    #[test]
    fn a_liar_gets_little_out_of_a_session(texts in prop::collection::vec(
        prop_oneof![
            r#"\{"result":null,"id":[0-9]\}"#,
            r#"\{"code":[0-3],"msg":"[a-z]{0,3}"(,"id":[0-9])?\}"#,
            r#"\{"stream":"(a@trade|b@depth|x)","data":\{"(t|u|U)":[0-9]{1,22}\}\}"#,
            r#"[\[\]{}",:a-z0-9\\]{0,40}"#,
        ], 1..60)) {
        let mut talk = Talk::new(&BinanceCombined::spot(), &["a@trade"]);
        talk.join(&["b@depth", "c@kline_1m", "d@bookTicker"]);
        let mut pushed = 0;
        for text in texts {
            for said in talk.hear(&text) {
                match said {
                    Utterance::Data(Some(name), _) | Utterance::Marked(Some(name), ..)
                    | Utterance::Gap(Some(name), _) | Utterance::Joined(name)
                    | Utterance::Rejected(name, _) => {
                        prop_assert!(name == "a@trade" || NAMES[1..].contains(&&*name));
                    }
                    Utterance::Push(_) => pushed += 1,
                    Utterance::Unroutable(_) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
        prop_assert!(pushed <= 4, "{pushed}");
    }
}
