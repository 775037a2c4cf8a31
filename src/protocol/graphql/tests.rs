//! The session alone, driven by arithmetic: operations, requests, and lies.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::message::Message;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{RequestId, Rotation, Utterance};

const ACK: &str = r#"{"type":"connection_ack","payload":{}}"#;

fn graphql() -> GraphqlWs {
    let ticks = Operation::new("subscription { ticks }");
    let from = Operation::new("subscription S($n: Int) { \"from\" }").operation_name("S");
    let from = from.variables(r#"{"n": 1}"#).unwrap().extensions("{}").unwrap();
    GraphqlWs::new("ws://h/graphql").unwrap().define("ticks", ticks).define("from", from)
}

fn opened(graphql: &GraphqlWs) -> Talk {
    let mut talk = Talk::with(graphql, "ticks", None);
    assert_eq!(talk.said.take(), [push(r#"{"type":"connection_init"}"#)]);
    assert_eq!(talk.hear(ACK), [Utterance::Ready]);
    talk
}

fn subscribe(id: u64, payload: &str) -> Utterance {
    push(&format!(r#"{{"id":"{id}","type":"subscribe","payload":{payload}}}"#))
}

fn completed(id: u64) -> Utterance {
    push(&format!(r#"{{"id":"{id}","type":"complete"}}"#))
}

fn next(id: u64, payload: &str) -> String {
    format!(r#"{{"id":"{id}","type":"next","payload":{payload}}}"#)
}

fn complete(id: u64) -> String {
    format!(r#"{{"type":"complete","id":"{id}"}}"#)
}

fn error(id: u64, payload: &str) -> String {
    format!(r#"{{"id":"{id}","type":"error","payload":{payload}}}"#)
}

const TICKS: &str = r#"{"query":"subscription { ticks }"}"#;

#[test]
fn a_name_is_its_operation_and_hears_each_next_until_it_is_left() {
    let mut talk = opened(&graphql());
    let from = r#"{"query":"subscription S($n: Int) { \"from\" }","operationName":"S","variables":{"n": 1},"extensions":{}}"#;
    let said = talk.join(&["ticks", "from"]);
    assert_eq!(said, [subscribe(1, TICKS), joined("ticks"), subscribe(2, from), joined("from")]);
    let payload = r#"{"data":{"ticks":[1]}}"#;
    assert_eq!(talk.hear(&next(1, payload)), [data("ticks", payload)]);
    assert_eq!(talk.hear(&next(2, "2")), [data("from", "2")]);
    assert_eq!(talk.leave("ticks"), [completed(1)]);
    assert_eq!(talk.hear(&next(1, "3")), [], "late");
    assert_eq!(talk.join(&["ticks"]), [subscribe(3, TICKS), joined("ticks")]);
    assert_eq!(talk.hear(&next(1, "4")), [], "and not for who came later");
    assert_eq!(talk.hear(&next(3, "5")), [data("ticks", "5")]);
    let stray = next(4, "6");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn an_error_refuses_a_name_of_which_nothing_came_and_ends_it_else() {
    let mut talk = opened(&graphql());
    talk.join(&["ticks", "from"]);
    let errors = r#"[{"message":"no \"ticks\""},{"message":"and more"}]"#;
    assert_eq!(talk.hear(&error(1, errors)), [rejected("ticks", "no \"ticks\"")]);
    assert_eq!(talk.hear(&error(1, errors)), [], "it is over");
    assert_eq!(talk.hear(&next(2, "1")), [data("from", "1")]);
    assert_eq!(talk.hear(&error(2, errors)), [ended("from")]);
    talk.join(&["from"]);
    assert_eq!(talk.hear(&complete(3)), [ended("from")]);
    for (number, odd) in (4..).zip(["7", "[]", "{}", "[7]", r#"[{"message":7}]"#]) {
        talk.join(&["ticks"]);
        let why = "the server does not say why";
        assert_eq!(talk.hear(&error(number, odd)), [rejected("ticks", why)], "{odd}");
    }
}

#[test]
fn a_name_may_be_a_document_of_a_subscription_and_of_nothing_else() {
    let lane = |graphql: &GraphqlWs, name: &str| graphql.lane(&StreamName::try_from(name).unwrap());
    let (closed, open) = (graphql(), graphql().documents());
    for name in ["subscription { ticks }", "subscription{a}", "subscription S($n: Int = 1) { b }"] {
        assert!(lane(&closed, name).is_err() && lane(&open, name).is_ok(), "{name}");
    }
    for name in ["{ a }", "query { a }", "mutation { a }", "subscriptions", "subscription", "other"]
    {
        assert!(lane(&open, name).is_err(), "{name}");
    }
    assert!(lane(&open, "ticks").is_ok(), "what is defined is what it is defined as");
    let mut talk = opened(&open);
    let name = r#"subscription { a(b: "c") }"#;
    let payload = r#"{"query":"subscription { a(b: \"c\") }"}"#;
    assert_eq!(talk.join(&[name]), [subscribe(1, payload), joined(name)]);
    assert_eq!(talk.join(&["mutation { a }"]).len(), 1, "refused, and nothing is sent");
}

#[test]
fn requests_are_operations_whose_payloads_are_their_parts() {
    let mut talk = opened(&graphql());
    let query = r#"{"query":"{ hello }","variables":{}}"#;
    assert_eq!(talk.ask(70, query).unwrap(), [subscribe(1, query)]);
    assert_eq!(talk.ask(71, query).unwrap(), [subscribe(2, query)]);
    assert_eq!(talk.ask(72, query).unwrap(), [subscribe(3, query)]);
    for bad in ["", "[]", "{", "{}", r#"{"query":7}"#, r#"{"query":"a"} x"#] {
        assert!(talk.ask(73, bad).is_err(), "{bad}");
    }
    let part = |id, payload: &str| Utterance::Reply(RequestId(id), Some(payload.into()), false);
    assert_eq!(talk.hear(&next(2, "1")), [part(71, "1")]);
    assert_eq!(talk.hear(&next(1, "2")), [part(70, "2")]);
    assert_eq!(talk.hear(&complete(1)), [Utterance::Reply(RequestId(70), None, true)]);
    let failed = Utterance::ReplyFailed(RequestId(71), r#"[{"message":"no"}]"#.into());
    assert_eq!(talk.hear(&error(2, r#"[{"message":"no"}]"#)), [failed]);
    assert_eq!(talk.cancel(72), [completed(3)]);
    assert_eq!((talk.cancel(72), talk.hear(&next(3, "1"))), (vec![], vec![]));
    assert_eq!(talk.hear(&complete(1)), []);
    talk.session.send(&"ticks".try_into().unwrap(), "x".into(), &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [], "there is no form for it");
}

#[test]
fn the_token_is_in_the_init_and_a_fresh_one_takes_a_new_socket() {
    let says = |graphql: &GraphqlWs| {
        let mut talk = Talk::with(graphql, "ticks", Some("can\"ary"));
        assert_eq!(talk.session.rotate(&mut talk.said.cx(talk.now)), Rotation::Reconnect);
        talk.said.take()
    };
    let init =
        |payload: &str| [push(&format!(r#"{{"type":"connection_init","payload":{payload}}}"#))];
    assert_eq!(says(&graphql()), init(r#"{"Authorization":"Bearer can\"ary"}"#));
    let with = graphql().init(r#"{"a":1}"#).unwrap().token_as("token", "");
    assert_eq!(says(&with), init(r#"{"token":"can\"ary","a":1}"#));
    let mut without = Talk::with(&with, "ticks", None);
    assert_eq!(without.said.take(), init(r#"{"a":1}"#));
    assert!(graphql().init("[]").is_err() && Operation::new("").variables("7").is_err());
    assert!(!format!("{with:?}").contains("\"a\""));
    let lane = Lane::new("graphql");
    let request = with.request(&Dial::first(&lane, &[])).unwrap();
    assert_eq!(request.subprotocols(), ["graphql-transport-ws"]);
    assert!(with.lane(&"other".try_into().unwrap()).is_err());
}

#[test]
fn pings_are_answered_both_ways_and_a_flood_of_them_is_not() {
    let ms = Duration::from_millis;
    let mut talk = opened(&graphql());
    assert_eq!(talk.session.deadline(), None);
    let pong = [push(r#"{"type":"pong"}"#)];
    for ping in [r#"{"type":"ping"}"#, r#"{"type":"ping","payload":{"n":1}}"#] {
        assert_eq!(talk.hear(ping), pong);
    }
    assert_eq!(talk.hear(r#"{"type":"pong"}"#), [], "unsolicited ones are allowed");
    let said: Vec<_> = (0..99).flat_map(|_| talk.hear(r#"{"type":"ping"}"#)).collect();
    assert!(matches!(said[98], Utterance::Failed(Verdict::Retry, _)), "{:?}", said[98]);
    let mut talk = opened(&graphql().keep_alive(ms(100), ms(30)));
    assert_eq!(talk.session.deadline(), Some(talk.now + ms(100)));
    let ping = [push(r#"{"type":"ping"}"#)];
    assert_eq!(talk.at(ms(100)), ping);
    assert_eq!(talk.session.deadline(), Some(talk.now + ms(30)));
    talk.hear(r#"{"type":"pong","payload":{}}"#);
    assert_eq!(talk.at(ms(100)), ping);
    assert!(matches!(talk.at(ms(30))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn what_is_no_message_is_counted() {
    let mut talk = opened(&graphql());
    talk.join(&["ticks"]);
    for bad in [
        "",
        "{",
        "7",
        "[]",
        "{}",
        ACK,
        r#"{"type":"what"}"#,
        r#"{"type":"next","payload":1}"#,
        r#"{"type":"next","id":"1"}"#,
        r#"{"type":"next","id":1,"payload":1}"#,
        r#"{"type":"next","id":"01","payload":1}"#,
        r#"{"type":"complete","id":"0"}"#,
        r#"{"type":"next","id":"18446744073709551616","payload":1}"#,
    ] {
        assert_eq!(talk.hear(bad), [unroutable(bad)], "{bad}");
    }
    let binary = Message::binary(&b"{}"[..]);
    talk.session.receive(&binary, &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [Utterance::Unroutable(binary)]);
    assert_eq!(talk.hear(&next(1, "1")), [data("ticks", "1")]);
}

#[test]
fn close_codes_mean_what_the_protocol_says() {
    let verdict = |code| {
        let reason = DisconnectReason::closed(Some(code), "");
        graphql().classify(&Failure::new(&reason, None))
    };
    for code in [4400, 4406, 4409, 4429, 4500] {
        assert_eq!(verdict(code), Some(Verdict::Fatal), "{code}");
    }
    assert_eq!(verdict(4504), Some(Verdict::Retry));
    for code in [1000, 1006, 1011, 1012, 4401, 4403, 4408] {
        assert_eq!(verdict(code), None, "{code}: as the engine has it");
    }
}

fn lie() -> impl Strategy<Value = String> {
    let id = prop_oneof![
        (0_u8..6).prop_map(|n| format!("\"{n}\"")),
        Just("1".to_owned()),
        Just("null".to_owned()),
        Just("\"é\"".to_owned()),
    ];
    let kind = prop_oneof![
        Just("next"),
        Just("error"),
        Just("complete"),
        Just("ping"),
        Just("pong"),
        Just("connection_ack"),
        Just("subscribe"),
    ];
    let payload = prop_oneof![
        Just("1".to_owned()),
        Just(r#"[{"message":"é"}]"#.to_owned()),
        Just(deep()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    (id, kind, payload)
        .prop_map(|(id, kind, p)| format!(r#"{{"id":{id},"type":"{kind}","payload":{p}}}"#))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), leaves in prop::collection::vec(0..32_usize, 0..3)) {
        let mut talk = opened(&graphql());
        let mut open = HashSet::new();
        let said = talk.join(&["ticks", "from"]);
        prop_assert!(check(said, &mut open)?);
        let _ = talk.ask(7, r#"{"query":"q"}"#);
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            if leaves.contains(&at) {
                open.remove("ticks");
                let said = talk.leave("ticks");
                prop_assert!(check(said, &mut open)?);
                let said = talk.join(&["ticks"]);
                prop_assert!(check(said, &mut open)?);
            }
        }
    }

    /// However what comes for several names and a request is interleaved, each gets its own, in order.
    #[test]
    fn each_operation_gets_its_own_in_order(turns in prop::collection::vec(1..4_u64, 0..40)) {
        let mut talk = opened(&graphql());
        talk.join(&["ticks", "from"]);
        let _ = talk.ask(7, r#"{"query":"q"}"#);
        let said: Vec<_> = turns.iter().zip(0..)
            .flat_map(|(of, n): (&u64, u32)| talk.hear(&next(*of, &n.to_string()))).collect();
        let expected: Vec<_> = turns.iter().zip(0..).map(|(of, n): (&u64, u32)| match of {
            1 => data("ticks", &n.to_string()),
            2 => data("from", &n.to_string()),
            _ => Utterance::Reply(RequestId(7), Some(n.to_string().into()), false),
        }).collect();
        prop_assert_eq!(said, expected);
    }
}
