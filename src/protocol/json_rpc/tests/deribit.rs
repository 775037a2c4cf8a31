//! Channels by their own names.

use super::*;

const BOOK: &str = "book.BTC-PERPETUAL.100ms";
const TRADES: &str = "trades.BTC-PERPETUAL.100ms";

fn subscribe(id: u64, channels: &str) -> Utterance {
    call(id, "public/subscribe", &format!(r#"{{"channels":{channels}}}"#))
}

fn unsubscribe(id: u64, channels: &str) -> Utterance {
    call(id, "public/unsubscribe", &format!(r#"{{"channels":{channels}}}"#))
}

fn notice(channel: &str, data: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}"#
    )
}

fn heartbeat(kind: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"heartbeat","params":{{"type":"{kind}"}}}}"#)
}

fn snapshot(id: u64) -> String {
    format!(r#"{{"type":"snapshot","change_id":{id},"bids":[]}}"#)
}

fn change(previous: u64, id: u64) -> String {
    format!(r#"{{"type":"change","change_id":{id},"prev_change_id":{previous},"bids":[]}}"#)
}

fn marked(payload: &str, seq: u64, is_snapshot: bool) -> Utterance {
    let mark = crate::protocol::Mark::default().seq(seq);
    let mark = if is_snapshot { mark.snapshot() } else { mark };
    Utterance::Marked(Some(BOOK.into()), payload.into(), mark)
}

#[test]
fn channels_are_joined_by_one_call_and_what_is_not_listed_is_refused() {
    let mut talk = deribit();
    assert_eq!(
        talk.join(&[TRADES, "x\"", "y"]),
        [subscribe(2, &format!(r#"["{TRADES}","x\"","y"]"#))]
    );
    let said = talk.hear(&result(2, &format!(r#"["z","y","{TRADES}"]"#)));
    let why = "the server does not list it among what it accepts";
    assert_eq!(said, [joined(TRADES), rejected("x\"", why), joined("y")]);
    assert_eq!(talk.hear(&notice(TRADES, "[1]")), [data(TRADES, "[1]")]);
    let stray = notice("z", "1");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn a_channel_that_is_left_and_wanted_again_is_asked_for_when_it_was_left() {
    let mut talk = deribit();
    talk.join(&["a", "b"]);
    talk.hear(&result(2, r#"["a","b"]"#));
    assert_eq!(talk.leave("a"), [unsubscribe(3, r#"["a"]"#)]);
    assert_eq!(talk.join(&["a"]), []);
    assert_eq!(talk.hear(&notice("a", "1")), [], "of what was left");
    assert_eq!(talk.hear(&result(3, r#"["a"]"#)), [subscribe(4, r#"["a"]"#)]);
    assert_eq!(talk.hear(&notice("a", "2")), [], "held");
    assert_eq!(talk.hear(&result(4, r#"["a"]"#)), [joined("a"), data("a", "2")]);
    talk.leave("b");
    talk.join(&["b"]);
    assert_eq!(talk.leave("b"), [], "it is being left already");
    assert_eq!(talk.hear(&error(5, 10028, "too_many_requests")), []);
    let stray = notice("b", "3");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn a_channel_that_is_left_before_the_answer_is_not_joined_by_it() {
    let mut talk = deribit();
    talk.join(&["a", "b"]);
    assert_eq!(talk.leave("a"), [unsubscribe(3, r#"["a"]"#)]);
    assert_eq!(talk.hear(&notice("a", "1")), []);
    assert_eq!(talk.hear(&result(2, r#"["a","b"]"#)), [joined("b")]);
    talk.hear(&result(3, r#"["a"]"#));
    let stray = notice("a", "1");
    assert_eq!(talk.hear(&stray), [unroutable(&stray)]);
}

#[test]
fn changes_of_a_book_are_a_chain() {
    let mut talk = deribit();
    talk.join(&[BOOK]);
    assert_eq!(talk.hear(&notice(BOOK, &snapshot(5))), [], "before the answer");
    let said = talk.hear(&result(2, &format!(r#"["{BOOK}"]"#)));
    assert_eq!(said, [joined(BOOK), marked(&snapshot(5), 5, true)]);
    let mut hear = |payload: &str| talk.hear(&notice(BOOK, payload));
    assert_eq!(hear(&change(5, 8)), [marked(&change(5, 8), 8, false)]);
    let gap = Utterance::Gap(Some(BOOK.into()), None);
    assert_eq!(hear(&change(9, 11)), [gap.clone(), marked(&change(9, 11), 11, false)]);
    assert_eq!(hear(&change(11, 12)), [marked(&change(11, 12), 12, false)]);
    assert_eq!(hear(&snapshot(40)), [marked(&snapshot(40), 40, true)]);
    assert_eq!(hear(&change(39, 41)), [gap, marked(&change(39, 41), 41, false)]);
    let whole = r#"{"change_id":50,"bids":[]}"#;
    assert_eq!(hear(whole), [marked(whole, 50, true)], "in groups");
    assert_eq!(hear("7"), [data(BOOK, "7")]);
}

#[test]
fn errors_that_pass_have_channels_asked_for_again_and_others_refuse_them() {
    let mut talk = deribit();
    talk.join(&["a", "b"]);
    assert_eq!(talk.hear(&error(2, 10028, "too_many_requests")), [ended("a"), ended("b")]);
    talk.join(&["a"]);
    assert_eq!(talk.hear(&error(3, 11050, "bad_request")), [rejected("a", "bad_request (11050)")]);
    talk.join(&["a"]);
    let said = talk.hear(&error(4, 13009, "unauthorized"));
    assert_eq!(said, [rejected("a", "unauthorized (13009)")], "there is no token to replace");
}

#[test]
fn a_sign_of_life_is_given_when_asked_for_and_expected_in_turn() {
    let seconds = Duration::from_secs;
    let mut talk = deribit();
    assert_eq!(talk.session.deadline(), None);
    talk.hear(&result(1, r#""ok""#));
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(60)));
    assert_eq!(talk.at(seconds(30)), []);
    assert_eq!(talk.hear(&heartbeat("heartbeat")), []);
    assert_eq!(talk.hear(&heartbeat("test_request")), [call(2, "public/test", "{}")]);
    assert_eq!(talk.hear(&result(2, r#"{"version":"1.2.26"}"#)), []);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(60)));
    assert!(matches!(talk.at(seconds(60))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
    let mut refused = deribit();
    refused.hear(&error(1, -32602, "no"));
    assert_eq!(refused.session.deadline(), None, "nothing is expected of who refused");
}

#[test]
fn a_flood_of_test_requests_ends_the_socket() {
    let mut talk = deribit();
    let said: Vec<_> = (0..101).flat_map(|_| talk.hear(&heartbeat("test_request"))).collect();
    assert_eq!(said[99], call(101, "public/test", "{}"));
    assert!(matches!(said[100], Utterance::Failed(Verdict::Retry, _)), "{:?}", said[100]);
}

#[test]
fn a_token_is_said_before_anything_is_joined_and_a_fresh_one_on_the_open_socket() {
    let protocol = Deribit::new("ws://h").unwrap().client_id("me").heartbeat(Duration::ZERO);
    let token = Some("can\"ary");
    let mut talk = Talk::with(&protocol, "a", token);
    let auth = |id| {
        let params =
            r#"{"grant_type":"client_credentials","client_id":"me","client_secret":"can\"ary"}"#;
        call(id, "public/auth", params)
    };
    let beat = call(1, "public/set_heartbeat", r#"{"interval":10}"#);
    assert_eq!(talk.said.take(), [beat, auth(2)]);
    assert_eq!(talk.hear(&result(2, r#"{"access_token":"t"}"#)), [Utterance::Ready]);
    let said = talk.join(&["a"]);
    assert_eq!(said, [call(3, "private/subscribe", r#"{"channels":["a"]}"#)]);
    assert_eq!(talk.session.rotate(&mut talk.said.cx(talk.now)), Rotation::InPlace);
    assert_eq!(talk.said.take(), [auth(4)]);
    assert_eq!(talk.hear(&result(4, "{}")), []);
    let failed = |said: &[Utterance]| matches!(said, [Utterance::Failed(Verdict::NewToken, _)]);
    assert!(failed(&talk.hear(&error(3, 13009, "unauthorized"))));
    let mut refused = Talk::with(&Deribit::new("ws://h").unwrap(), "a", token);
    let params = r#"{"grant_type":"refresh_token","refresh_token":"can\"ary"}"#;
    assert_eq!(refused.said.take()[1], call(2, "public/auth", params));
    assert!(failed(&refused.hear(&error(2, 13004, "invalid_credentials"))));
    assert!(!format!("{protocol:?}").contains("canary"));
    let mut without = deribit();
    assert_eq!(without.session.rotate(&mut without.said.cx(without.now)), Rotation::Reconnect);
}

fn lie() -> impl Strategy<Value = String> {
    let id = prop_oneof![(0_u8..8).prop_map(|n| n.to_string()), Just("null".to_owned())];
    let channels = prop_oneof![
        Just(r#"["a"]"#.to_owned()),
        Just(format!(r#"["c","{BOOK}","a",7,"b"]"#)),
        Just("[]".to_owned()),
        Just(r#"{"a":1}"#.to_owned()),
        Just(r#"["a","#.to_owned()),
        Just(r#"{"code":10028}"#.to_owned()),
        Just(r#"{"code":13009,"message":"é"}"#.to_owned()),
        Just(deep()),
    ];
    let channel = prop_oneof![Just("a"), Just("b"), Just(BOOK), Just("other")];
    let data = prop_oneof![
        (0_u64..9).prop_map(snapshot),
        (0_u64..9, 0_u64..9).prop_map(|(a, b)| change(a, b)),
        Just("1".to_owned()),
        Just(deep()),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    prop_oneof![
        (id.clone(), channels.clone()).prop_map(|(id, v)| format!(r#"{{"id":{id},"result":{v}}}"#)),
        (id, channels).prop_map(|(id, v)| format!(r#"{{"id":{id},"error":{v}}}"#)),
        (channel, data).prop_map(|(channel, data)| notice(channel, &data)),
        Just(heartbeat("test_request")),
        Just(r#"{"method":"heartbeat","params":7}"#.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..32), moves in prop::collection::vec((0..32_usize, any::<bool>()), 0..6)) {
        let mut talk = deribit();
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

    /// A gap is told exactly where the chain is broken.
    #[test]
    fn gaps_are_where_links_are_missing(kept in prop::collection::vec(any::<bool>(), 1..40)) {
        let mut talk = deribit();
        talk.join(&[BOOK]);
        talk.hear(&result(2, &format!(r#"["{BOOK}"]"#)));
        talk.hear(&notice(BOOK, &snapshot(0)));
        let mut complete = true;
        for (n, keep) in (0_u64..).zip(&kept) {
            if *keep {
                let said = talk.hear(&notice(BOOK, &change(n, n + 1)));
                let told = matches!(said[0], Utterance::Gap(..));
                prop_assert_eq!((told, said.len()), (!complete, if complete { 1 } else { 2 }));
            }
            complete = *keep;
        }
    }
}
