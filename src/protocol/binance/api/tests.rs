//! The API by arithmetic: replies and their requests, and what a server's lies come to.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::BinanceApi;
use crate::message::Message;
use crate::name::StreamName;
use crate::protocol::talk::{Talk, check, deep, push, unroutable};
use crate::protocol::{Dial, Protocol as _, RequestId, Unsupported, Utterance};

const SECOND: Duration = Duration::from_secs(1);

fn opened_as(api: &BinanceApi) -> Talk {
    let mut talk = Talk::with(api, "api", None);
    assert_eq!(talk.said.take(), [Utterance::Ready]);
    talk
}

fn opened() -> Talk {
    opened_as(&BinanceApi::spot())
}

fn done(id: u64, result: &str) -> String {
    format!(r#"{{"id":{id},"status":200,"result":{result},"rateLimits":[]}}"#)
}

fn failed(id: &str, status: u32, error: &str) -> String {
    format!(r#"{{"id":{id},"status":{status},"error":{error}}}"#)
}

fn reply(id: u64, text: &str) -> Utterance {
    Utterance::Reply(RequestId(id), Some(text.into()), true)
}

fn to_all(text: &str) -> Utterance {
    Utterance::Data(None, text.into())
}

#[test]
fn each_connection_has_its_url_and_joins_its_name() {
    let name = [StreamName::try_from("api").unwrap()];
    let dialled = |api: BinanceApi| {
        let lane = api.lane(&name[0]).unwrap();
        let request = api.request(&Dial::first(&lane, &name)).unwrap();
        assert_eq!((request.joins(), api.limits(&lane).capacity), (&name[..], Some(1)));
        format!("{}{}", request.url().host(), request.url().target())
    };
    let spot = "ws-api.binance.com/ws-api/v3";
    assert_eq!(dialled(BinanceApi::spot()), format!("{spot}?returnRateLimits=false"));
    let micro = BinanceApi::spot().whole().microseconds();
    assert_eq!(dialled(micro), format!("{spot}?timeUnit=MICROSECOND"));
    let other = BinanceApi::usd_m().at("ws://h/x?a=1").unwrap();
    assert_eq!(dialled(other), "h/x?a=1&returnRateLimits=false");
    assert_eq!(dialled(BinanceApi::usd_m().whole()), "ws-fapi.binance.com/ws-fapi/v1");
    assert!(BinanceApi::spot().at("http://h").is_err());
}

#[test]
fn a_request_is_written_with_the_clients_id_and_answered_by_its_result() {
    let mut talk = opened();
    let said = talk.ask(7, r#"{"id":"mine","method":"time"}"#).unwrap();
    assert_eq!(said, [push(r#"{"id":7,"method":"time"}"#)]);
    let said = talk.ask(9, r#"{"params":{"symbol":"é"},"method":"depth"}"#).unwrap();
    assert_eq!(said, [push(r#"{"id":9,"method":"depth","params":{"symbol":"é"}}"#)]);
    assert_eq!(talk.hear(&done(9, r#"{"id":7}"#)), [reply(9, r#"{"id":7}"#)], "in any order");
    assert_eq!(talk.hear(&done(7, "null")), [reply(7, "null")]);
    assert_eq!(talk.hear(&done(7, "1")), [], "twice");
    assert_eq!(talk.hear(&done(8, "1")), [], "another socket's, or one that was never written");
    for stranger in [0, 10] {
        let text = done(stranger, "1");
        assert_eq!(talk.hear(&text), [unroutable(&text)]);
    }
    for bad in ["", "{", "[]", "{}", r#"{"method":7}"#, r#"{"method":"a","params":[]}"#] {
        assert_eq!(talk.ask(11, bad), Err(Unsupported), "{bad}");
    }
    let name = StreamName::try_from("api").unwrap();
    talk.session.send(&name, r#"{"method":"time"}"#.into(), &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [], "nothing is sent that wants no answer");
    let mut whole = opened_as(&BinanceApi::spot().whole());
    whole.ask(1, r#"{"method":"time"}"#).unwrap();
    assert_eq!(whole.hear(&done(1, "2")), [reply(1, &done(1, "2"))]);
}

#[test]
fn what_failed_is_told_by_its_code_and_what_the_server_does_not_know_is_unknown() {
    let mut talk = opened();
    let error = r#"{"code":-2010,"msg":"Account has insufficient balance"}"#;
    for status in [400, 403, 409] {
        talk.ask(7, r#"{"method":"order.place"}"#).unwrap();
        let said = talk.hear(&failed("7", status, error));
        assert_eq!(said, [Utterance::ReplyFailed(RequestId(7), error.into())], "{status}");
    }
    for status in [500, 503, 599] {
        talk.ask(7, r#"{"method":"order.place"}"#).unwrap();
        let said = talk.hear(&failed("7", status, r#"{"code":-1007,"msg":"Timeout"}"#));
        assert_eq!(said, [Utterance::ReplyUnknown(RequestId(7))], "{status}");
    }
    talk.ask(7, r#"{"method":"time"}"#).unwrap();
    assert_eq!(talk.cancel(7), []);
    assert_eq!(talk.hear(&done(7, "1")), [], "nobody waits for it");
}

#[test]
fn too_many_requests_pause_what_is_asked_until_the_server_says() {
    // The wall clock of these tests stands at the start of 1970.
    let until = |ms: u64| format!(r#"{{"code":-1003,"msg":"m","data":{{"retryAfter":{ms}}}}}"#);
    for (status, error, seconds) in [
        (429, until(30_000), 30),
        (418, until(300_000), 300),
        (429, until(0), 60),
        (429, r#"{"code":-1003}"#.into(), 60),
        (418, r#"{"code":-1003,"data":{"retryAfter":"soon"}}"#.into(), 120),
    ] {
        let mut talk = opened();
        talk.ask(7, r#"{"method":"time"}"#).unwrap();
        let pause = Utterance::Pause(seconds * SECOND);
        let failure = Utterance::ReplyFailed(RequestId(7), (&*error).into());
        assert_eq!(talk.hear(&failed("7", status, &error)), [pause.clone(), failure]);
        assert_eq!(talk.hear(&failed("7", status, &error)), [pause], "it is the address's");
    }
    let mut talk = opened();
    talk.ask(7, r#"{"method":"time"}"#).unwrap();
    assert_eq!(talk.hear(&failed("7", 400, &until(30_000))).len(), 1, "another status is no pause");
}

#[test]
fn what_the_server_says_by_itself_is_for_readers_and_its_going_is_gone_around() {
    let mut talk = opened();
    let event = r#"{"subscriptionId":0,"event":{"e":"executionReport"}}"#;
    assert_eq!(talk.hear(event), [to_all(event)]);
    let revoked = failed("null", 401, r#"{"code":-2015,"msg":"Invalid API-key"}"#);
    assert_eq!(talk.hear(&revoked), [to_all(&revoked)]);
    let going = r#"{"event":{"e":"serverShutdown","E":1770123456789}}"#;
    talk.now += 61 * SECOND;
    assert_eq!(talk.hear(going), [Utterance::Reconnect(Duration::ZERO)]);
    assert_eq!(talk.hear(going), [], "once");
    assert_eq!(opened().hear(going), [Utterance::Reconnect(20 * SECOND)], "just opened");
}

#[test]
fn what_is_no_message_is_counted() {
    let mut talk = opened();
    talk.ask(7, r#"{"method":"time"}"#).unwrap();
    for bad in [
        "",
        "7",
        "{}",
        "{",
        r#"{"id":7}"#,
        r#"{"id":7,"status":200}"#,
        r#"{"id":7,"status":"200","result":1}"#,
        r#"{"id":7,"status":200,"error":{}}"#,
        r#"{"id":7,"status":400,"result":1}"#,
        r#"{"id":"7","status":200,"result":1}"#,
        r#"{"id":-7,"status":200,"result":1}"#,
        r#"{"id":null,"status":200,"result":1}"#,
        r#"{"event":7}"#,
        &done(7, &deep()),
    ] {
        assert_eq!(talk.hear(bad), [unroutable(bad)]);
    }
    let binary = Message::binary(&b"{}"[..]);
    talk.session.receive(&binary, &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [Utterance::Unroutable(binary)]);
    assert_eq!(talk.hear(&done(7, "1")), [reply(7, "1")], "and it goes on");
}

fn lie() -> impl Strategy<Value = String> {
    let id = prop_oneof![(0..12_u64).prop_map(|id| id.to_string()), "null|\"1\"|-1|1e3|\"é\""];
    let status = prop_oneof!["200|400|401|409|418|429|500", "-1|\"200\"|99999999999999999999"];
    let rest = prop_oneof![
        Just(r#""result":{"a":1}"#.to_owned()),
        Just(r#""error":{"code":-1003,"data":{"retryAfter":99}}"#.to_owned()),
        Just(r#""event":{"e":"x"}"#.to_owned()),
        r#"[\[\]{}":,a1\\]{0,16}"#,
    ];
    (id, status, rest).prop_map(|(id, s, rest)| format!(r#"{{"id":{id},"status":{s},{rest}}}"#))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, a request is answered at most once, and none that was not asked.
    #[test]
    fn a_request_is_answered_at_most_once(lies in prop::collection::vec(lie(), 0..48)) {
        let mut talk = opened();
        let mut open: HashSet<_> = (1..=8).collect();
        (1..=8).for_each(|id| drop(talk.ask(id, r#"{"method":"m"}"#)));
        for lie in lies {
            let said = talk.hear(&lie);
            for said in &said {
                if let Utterance::Reply(id, ..) | Utterance::ReplyFailed(id, _) | Utterance::ReplyUnknown(id) = said {
                    prop_assert!(open.remove(&id.0), "{id} again, or never asked");
                }
            }
            let joined = &mut HashSet::new();
            let said = said.into_iter().filter(|said| !matches!(said, Utterance::Data(None, _)));
            prop_assert!(check(said.collect(), joined)?);
        }
    }

    #[test]
    fn replies_find_their_requests_in_any_order(order in Just((1..=32_u64).collect::<Vec<_>>()).prop_shuffle()) {
        let mut talk = opened();
        (1..=32).for_each(|id| drop(talk.ask(id, r#"{"method":"m"}"#)));
        for id in order {
            let result = format!("\"of {id}\"");
            prop_assert_eq!(talk.hear(&done(id, &result)), [reply(id, &result)]);
            prop_assert_eq!(talk.hear(&done(id, &result)), []);
        }
    }
}
