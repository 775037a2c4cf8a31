//! Subscriptions by ids.

use super::*;

const HEADS: &str = "newHeads";

fn subscribe(id: u64, params: &str) -> Utterance {
    call(id, "eth_subscribe", params)
}

fn unsubscribe(id: u64, of: &str) -> Utterance {
    call(id, "eth_unsubscribe", &format!("[{of}]"))
}

fn notice(of: &str, result: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"eth_subscription","params":{{"subscription":{of},"result":{result}}}}}"#
    )
}

#[test]
fn a_name_is_asked_for_and_its_id_leads_to_it_until_it_is_left() {
    let mut talk = ethereum();
    let logs = JsonRpc::logs(r#"{ "topics": [null, "0x1"], "address": "0xa" }"#).unwrap();
    assert_eq!(logs, r#"logs {"address":"0xa","topics":[null,"0x1"]}"#);
    let said = talk.join(&[HEADS, &logs]);
    let filter = r#"["logs",{"address":"0xa","topics":[null,"0x1"]}]"#;
    assert_eq!(said, [subscribe(1, r#"["newHeads"]"#), subscribe(2, filter)]);
    assert_eq!(talk.hear(&result(2, r#""0xb""#)), [joined(&logs)]);
    assert_eq!(talk.hear(&result(1, r#""0xa""#)), [joined(HEADS)]);
    assert_eq!(talk.hear(&notice(r#""0xb""#, r#"{"n":[1]}"#)), [data(&logs, r#"{"n":[1]}"#)]);
    assert_eq!(
        talk.hear(&notice(r#""0x\u0061""#, "2")),
        [data(HEADS, "2")],
        "however it is written"
    );
    assert_eq!(talk.leave(HEADS), [unsubscribe(3, r#""0xa""#)]);
    assert_eq!(talk.hear(&notice(r#""0xa""#, "3")), [], "late");
    assert_eq!(talk.hear(&result(3, "true")), []);
    let stray = notice(r#""0xa""#, "4");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn what_overtakes_the_answer_is_held_for_its_name() {
    let mut talk = ethereum();
    talk.join(&[HEADS, "syncing"]);
    for (id, n) in [("1", "1"), ("2", "2"), ("1", "3"), ("9", "4")] {
        assert_eq!(talk.hear(&notice(id, n)), []);
    }
    assert_eq!(
        talk.hear(&result(2, "1")),
        [joined("syncing"), data("syncing", "1"), data("syncing", "3")]
    );
    let said = [joined(HEADS), data(HEADS, "2"), unroutable("4")];
    assert_eq!(talk.hear(&result(1, "2")), said, "and what is nobody's is counted");
}

#[test]
fn more_than_can_be_held_is_a_gap() {
    let mut talk = ethereum();
    talk.join(&[HEADS]);
    let refused = (0..300).filter(|_| !talk.hear(&notice("1", "7")).is_empty()).count();
    assert_eq!(refused, 300 - 256);
    let said = talk.hear(&result(1, "1"));
    assert_eq!(said[..2], [joined(HEADS), Utterance::Gap(Some(HEADS.into()), None)]);
    assert_eq!(said.len(), 2 + 256);
}

#[test]
fn a_name_that_is_left_before_its_answer_is_given_back_by_it() {
    let mut talk = ethereum();
    talk.join(&[HEADS]);
    assert_eq!(talk.leave(HEADS), []);
    assert_eq!(talk.join(&[HEADS]), [subscribe(2, r#"["newHeads"]"#)]);
    assert_eq!(talk.hear(&result(1, "1")), [unsubscribe(3, "1")]);
    assert_eq!(talk.hear(&notice("1", "7")), []);
    assert_eq!(talk.hear(&result(2, "2")), [joined(HEADS)]);
    assert_eq!(talk.hear(&result(3, "true")), []);
    assert_eq!(talk.hear(&notice("2", "8")), [data(HEADS, "8")]);
}

#[test]
fn a_refusal_concerns_its_name_alone() {
    let mut talk = ethereum();
    talk.join(&["a", "b", "c", "d"]);
    assert_eq!(talk.hear(&error(1, -32601, "no a")), [rejected("a", "no a (-32601)")]);
    assert_eq!(talk.hear(&error(2, -32005, "slow down")), [ended("b")]);
    for no_id in ["null", "{}", "[]", "true"] {
        let mut talk = ethereum();
        talk.join(&["c"]);
        let why = "the server gives no id for it";
        assert_eq!(talk.hear(&result(1, no_id)), [rejected("c", why)]);
    }
    assert_eq!(talk.hear(&result(4, "4")), [joined("d")]);
    assert_eq!(talk.join(&["b"]), [subscribe(5, r#"["b"]"#)]);
}

#[test]
fn an_id_that_two_names_have_ends_the_socket() {
    let mut talk = ethereum();
    talk.join(&["a", "b"]);
    talk.hear(&result(1, "1"));
    assert!(matches!(talk.hear(&result(2, "1"))[..], [Utterance::Failed(Verdict::Retry, _)]));
}

#[test]
fn requests_are_answered_by_their_numbers_in_any_order_and_once() {
    let mut talk = ethereum();
    talk.join(&[HEADS]);
    let body = r#"{"method":"eth_blockNumber"}"#;
    assert_eq!(talk.ask(70, body).unwrap(), [call(2, "eth_blockNumber", "[]")]);
    assert_eq!(talk.ask(71, body).unwrap(), [call(3, "eth_blockNumber", "[]")]);
    assert_eq!(talk.ask(72, body).unwrap(), [call(4, "eth_blockNumber", "[]")]);
    assert!(talk.ask(73, "[]").is_err() && talk.ask(73, "{}").is_err());
    assert_eq!(talk.cancel(72), []);
    let batch =
        format!("[{}, {}, {}]", error(3, 3, "reverted"), result(4, "0"), result(2, r#""0x1""#));
    let failed = Utterance::ReplyFailed(RequestId(71), r#"{"code":3,"message":"reverted"}"#.into());
    let replied = Utterance::Reply(RequestId(70), Some(r#""0x1""#.into()), true);
    assert_eq!(talk.hear(&batch), [failed, replied]);
    assert_eq!(talk.hear(&batch), [], "what comes twice is late");
    let stranger = result(9, "0");
    assert_eq!(talk.hear(&stranger), [unroutable(&stranger)]);
}

#[test]
fn what_is_sent_wants_no_answer_and_has_no_number() {
    let mut talk = ethereum();
    let mut send = |message: Message| {
        talk.session.send(&HEADS.try_into().unwrap(), message, &mut talk.said.cx(talk.now));
        talk.said.take()
    };
    let said = r#"{"jsonrpc":"2.0","method":"m","params":{"a":1}}"#;
    assert_eq!(send(r#"{"method":"m","params":{"a":1}}"#.into()), [Utterance::Push(said.into())]);
    assert_eq!((send("{".into()), send(Message::binary(&b"{}"[..]))), (vec![], vec![]));
}

#[test]
fn names_are_kinds_and_json() {
    let rpc = JsonRpc::new("ws://h").unwrap();
    let lane = |name: &str| rpc.lane(&name.try_into().unwrap()).is_ok();
    assert!(["newHeads", "logs {}", r#"x 1, "two",[3]"#, "a "].iter().all(|name| lane(name)));
    assert!(![" {}", "logs {", "logs ],[", "logs 1 2", r#"x "]["#].iter().any(|name| lane(name)));
    assert!(JsonRpc::logs("[]").is_err() && JsonRpc::logs("{").is_err());
    let mut talk = ethereum();
    assert_eq!(talk.join(&[r#"x" 1, [2]"#]), [subscribe(1, r#"["x\"",1, [2]]"#)]);
}

/// A server's script: ids are given to names, and each has data, some of it before its answer.
fn script() -> impl Strategy<Value = (Vec<(usize, Option<usize>)>, Vec<bool>)> {
    let events = Just(
        (0..4)
            .flat_map(|name| {
                std::iter::once((name, None)).chain((0..5).map(move |n| (name, Some(n))))
            })
            .collect::<Vec<_>>(),
    );
    (events.prop_shuffle(), prop::collection::vec(any::<bool>(), 24))
}

fn lie() -> impl Strategy<Value = String> {
    let id = prop_oneof![
        (0_u8..8).prop_map(|n| n.to_string()),
        Just("null".to_owned()),
        Just("\"1\"".to_owned()),
        Just("-1".to_owned()),
        Just("18446744073709551616".to_owned()),
    ];
    let value = prop_oneof![
        (1_u8..4).prop_map(|n| n.to_string()),
        Just("\"0x1\"".to_owned()),
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("true".to_owned()),
        Just(r#"{"code":-32005,"message":"é"}"#.to_owned()),
        Just(deep()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    let lie = prop_oneof![
        (id.clone(), value.clone()).prop_map(|(id, v)| format!(r#"{{"id":{id},"result":{v}}}"#)),
        (id, value.clone()).prop_map(|(id, v)| format!(r#"{{"id":{id},"error":{v}}}"#)),
        (value.clone(), value.clone()).prop_map(|(of, v)| notice(&of, &v)),
        (value.clone()).prop_map(|v| format!(r#"{{"method":"eth_subscription","params":{v}}}"#)),
        value,
    ];
    prop::collection::vec(lie, 1..4).prop_map(|all| match &all[..] {
        [one] => one.clone(),
        all => format!("[{}]", all.join(",")),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However answers and data are interleaved and put into frames: each name is joined once, and gets
    /// all of its data after that, in order.
    #[test]
    fn each_name_gets_all_of_its_data_in_order((mut events, cuts) in script()) {
        // Data of a name keeps its order among itself.
        let mut next = [0; 4];
        for (name, n) in &mut events {
            if n.is_some() {
                *n = Some(next[*name]);
                next[*name] += 1;
            }
        }
        let names = ["a", "b", "c", "d"];
        let mut talk = ethereum();
        talk.join(&names);
        let objects: Vec<_> = events.iter().map(|(name, n)| match n {
            None => result(*name as u64 + 1, &format!("\"0x{name}\"")),
            Some(n) => notice(&format!("\"0x{name}\""), &n.to_string()),
        }).collect();
        let said: Vec<_> = frames(&objects, &cuts).iter().flat_map(|frame| talk.hear(frame)).collect();
        prop_assert_eq!(said.len(), 4 * 6);
        for name in names {
            let of: Vec<_> = said.iter().filter(|said| match said {
                Utterance::Joined(of) | Utterance::Data(Some(of), _) => of == name,
                _ => false,
            }).cloned().collect();
            let expected: Vec<_> = std::iter::once(joined(name))
                .chain((0..5).map(|n| data(name, &n.to_string()))).collect();
            prop_assert_eq!(of, expected);
        }
    }

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..24), leaves in prop::collection::vec(0..24_usize, 0..3)) {
        let mut talk = ethereum();
        talk.join(&["a", "b", "c"]);
        let _ = talk.ask(7, r#"{"method":"m"}"#);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(talk.hear(lie), &mut open)? {
                break;
            }
            if leaves.contains(&at) {
                open.remove("b");
                let said = talk.leave("b");
                prop_assert!(check(said, &mut open)?);
            }
        }
    }
}
