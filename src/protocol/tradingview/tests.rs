//! The socket by arithmetic: what is said, and what a server's lies cost.

use std::collections::HashSet;

use proptest::prelude::*;

use super::TradingView;
use crate::message::Message;
use crate::protocol::talk::{Talk, check, data, deep, ended, joined, push, rejected, unroutable};
use crate::protocol::{RequestId, Unsupported, Utterance, Verdict};

const HELLO: &str = r#"{"session_id":"<0.2.3>_x","timestamp":1,"protocol":"json"}"#;

/// A frame of packets; lengths are counted anew.
fn framed(packets: &[&str]) -> String {
    let one = |text: &&str| format!("~m~{}~m~{text}", text.encode_utf16().count());
    packets.iter().map(one).collect()
}

fn venue() -> TradingView {
    TradingView::new("wss://host/ws").unwrap().fields(["lp"])
}

/// A socket that the server has greeted.
fn opened() -> Talk {
    let mut talk = Talk::with(&venue(), "A", None);
    assert_eq!(talk.said.take(), [], "nothing before the server has begun");
    let said = talk.hear(&framed(&[HELLO]));
    let token = framed(&[r#"{"m":"set_auth_token","p":["unauthorized_user_token"]}"#]);
    let locale = framed(&[r#"{"m":"set_locale","p":["en","US"]}"#]);
    assert_eq!(said, [push(&token), push(&locale), Utterance::Ready]);
    talk
}

fn tell(talk: &mut Talk, packets: &[&str]) -> Vec<Utterance> {
    talk.hear(&framed(packets))
}

/// The commands that were pushed, without their frames; nothing else was said.
fn commands(said: &[Utterance]) -> Vec<String> {
    said.iter()
        .map(|said| match said {
            Utterance::Push(Message::Text(text)) => {
                text.as_str().splitn(5, '~').nth(4).unwrap().to_owned()
            }
            other => panic!("not a command: {other:?}"),
        })
        .collect()
}

/// The session that a command is of.
fn session(command: &str) -> String {
    command
        .split('"')
        .find(|text| text.starts_with("cs_") || text.starts_with("qs_"))
        .unwrap()
        .into()
}

/// A socket with these names asked for, and the session that they are in.
fn asked(names: &[&str]) -> (Talk, String) {
    let mut talk = opened();
    let commands = commands(&talk.join(names));
    let of = session(&commands[0]);
    (talk, of)
}

fn qsd(of: &str, name: &str, state: &str) -> String {
    format!(r#"{{"m":"qsd","p":["{of}",{}]}}"#, quote(name, state))
}

fn quote(name: &str, state: &str) -> String {
    format!(r#"{{"n":"{name}","s":"{state}","v":{{"lp":1}}}}"#)
}

/// A socket on which a history was asked for, and its session.
fn history() -> (Talk, String) {
    let mut talk = opened();
    let said = talk.ask(7, r#"{"symbol":"A","resolution":"1D","count":5}"#).unwrap();
    let of = session(&commands(&said)[0]);
    (talk, of)
}

fn failure(said: &[Utterance]) -> &str {
    match said {
        [.., Utterance::Failed(Verdict::Retry, why)] => why,
        other => panic!("the socket goes on: {other:?}"),
    }
}

#[test]
fn names_share_a_quote_session_and_the_first_quote_joins() {
    let mut talk = opened();
    let said = commands(&talk.join(&["A", "B \"🚀\""]));
    let of = session(&said[0]);
    assert_eq!(
        said,
        [
            format!(r#"{{"m":"quote_create_session","p":["{of}"]}}"#),
            format!(r#"{{"m":"quote_set_fields","p":["{of}","lp"]}}"#),
            format!(r#"{{"m":"quote_add_symbols","p":["{of}","A","B \"🚀\""]}}"#),
        ]
    );
    let (a, done) = (qsd(&of, "A", "ok"), format!(r#"{{"m":"quote_completed","p":["{of}","A"]}}"#));
    assert_eq!(tell(&mut talk, &[&a, &done]), [joined("A"), data("A", &quote("A", "ok"))]);
    assert_eq!(tell(&mut talk, &[&a]), [data("A", &quote("A", "ok"))]);
    let b = format!(r#"{{"m":"quote_completed","p":["{of}","B \"🚀\""]}}"#);
    assert_eq!(tell(&mut talk, &[&b, &b]), [joined("B \"🚀\"")], "also without a quote");
    let said = commands(&talk.join(&["C"]));
    assert_eq!(said, [format!(r#"{{"m":"quote_add_symbols","p":["{of}","C"]}}"#)]);
}

#[test]
fn a_symbol_that_the_server_does_not_have_is_refused_and_one_that_it_gives_up_has_ended() {
    let (mut talk, of) = asked(&["A", "B", "C"]);
    let said = tell(&mut talk, &[&qsd(&of, "A", "error")]);
    assert_eq!(said[1..], [rejected("A", "error")]);
    let remove = format!(r#"{{"m":"quote_remove_symbols","p":["{of}","A"]}}"#);
    assert_eq!(commands(&said[..1]), [remove]);
    let why =
        format!(r#"{{"m":"qsd","p":["{of}",{{"n":"B","s":"error","errmsg":"no such symbol"}}]}}"#);
    assert_eq!(tell(&mut talk, &[&why])[1..], [rejected("B", "no such symbol")]);
    tell(&mut talk, &[&qsd(&of, "C", "ok")]);
    let said = tell(&mut talk, &[&qsd(&of, "C", "error")]);
    assert_eq!(said[1..], [ended("C")]);
    let delete = format!(r#"{{"m":"quote_delete_session","p":["{of}"]}}"#);
    assert_eq!(commands(&said[..1]), [delete], "it was the last");
}

#[test]
fn a_name_that_was_left_comes_back_in_another_session_and_hears_nothing_of_the_one_before() {
    let (mut talk, of) = asked(&["A", "B"]);
    tell(&mut talk, &[&qsd(&of, "A", "ok"), &qsd(&of, "B", "ok")]);
    talk.leave("A");
    assert_eq!(tell(&mut talk, &[&qsd(&of, "A", "ok")]), [], "late");
    let said = commands(&talk.join(&["A"]));
    let other = session(&said[0]);
    assert_ne!(of, other);
    let done = format!(r#"{{"m":"quote_completed","p":["{of}","A"]}}"#);
    assert_eq!(tell(&mut talk, &[&qsd(&of, "A", "ok"), &done]), [], "that of before");
    let said = tell(&mut talk, &[&qsd(&other, "A", "ok"), &qsd(&of, "B", "ok")]);
    assert_eq!(said, [joined("A"), data("A", &quote("A", "ok")), data("B", &quote("B", "ok"))]);
    let delete = format!(r#"{{"m":"quote_delete_session","p":["{of}"]}}"#);
    assert_eq!(commands(&talk.leave("B")), [delete], "nobody is left in it");
    assert_eq!(tell(&mut talk, &[&qsd(&of, "B", "ok")]), []);
    let never = qsd(&other, "never asked for", "ok");
    assert_eq!(tell(&mut talk, &[&never]), [unroutable(&never)]);
}

#[test]
fn a_quote_session_that_breaks_has_its_names_asked_for_again() {
    let (mut talk, of) = asked(&["B", "A"]);
    tell(&mut talk, &[&qsd(&of, "A", "ok")]);
    let broken = format!(r#"{{"m":"critical_error","p":["{of}","invalid parameters","method"]}}"#);
    let said = tell(&mut talk, &[&broken]);
    assert_eq!(said[1..], [ended("A"), ended("B")]);
    assert_ne!(session(&commands(&talk.join(&["A", "B"]))[0]), of);
}

#[test]
fn what_a_session_remembers_of_names_that_have_gone_is_bounded() {
    let (mut talk, of) = asked(&["A"]);
    let mut sessions = HashSet::from([of]);
    for n in 0..3000 {
        let name = format!("N{n}");
        let said = commands(&talk.join(&[&name]));
        sessions.insert(session(&said[0]));
        talk.leave(&name);
    }
    assert_eq!(
        sessions.len(),
        1 + 3000 - 1024,
        "the first after 1,024; then each is alone in its own"
    );
}

#[test]
fn a_history_is_a_chart_session_that_is_given_back() {
    let mut talk = opened();
    let said = talk.ask(7, r#"{"symbol":"A","resolution":"1D","count":5,"from":1,"to":2}"#);
    let said = commands(&said.unwrap());
    let of = session(&said[0]);
    assert_eq!(
        said,
        [
            format!(r#"{{"m":"chart_create_session","p":["{of}",""]}}"#),
            format!(r#"{{"m":"resolve_symbol","p":["{of}","sds_sym_1","={{\"symbol\":\"A\"}}"]}}"#),
            format!(
                r#"{{"m":"create_series","p":["{of}","sds_1","s1","sds_sym_1","1D",5,"r,1:2"]}}"#
            ),
        ]
    );
    let packet = |m: &str, rest: &str| format!(r#"{{"m":"{m}","p":["{of}",{rest}],"t":1}}"#);
    let way = [
        packet("symbol_resolved", r#""sds_sym_1",{}"#),
        packet("series_loading", r#""sds_1","s1""#),
    ];
    assert_eq!(tell(&mut talk, &[&way[0], &way[1]]), []);
    let (bars, other) = (r#"{"node":"é🚀~m~","s":[]}"#, r#"{"st1":{}}"#);
    let update = packet("timescale_update", &format!(r#"{{"st1":{{}},"sds_1":{bars}}}"#));
    let part = Utterance::Reply(RequestId(7), Some(bars.into()), false);
    let du = packet("du", &format!(r#"{{"sds_1":{bars}}}"#));
    assert_eq!(tell(&mut talk, &[&update, &du, &packet("timescale_update", other)]), [part]);
    let completed = packet("series_completed", r#""sds_1","streaming","s1""#);
    let said = tell(&mut talk, &[&completed, &update, &completed]);
    assert_eq!(said[0], Utterance::Reply(RequestId(7), None, true));
    let delete = format!(r#"{{"m":"chart_delete_session","p":["{of}"]}}"#);
    assert_eq!(commands(&said[1..]), [delete], "what comes after is late");
}

#[test]
fn a_history_that_fails_says_so_in_the_servers_words() {
    for (method, rest) in [
        ("symbol_error", r#""sds_sym_1","invalid symbol""#),
        ("series_error", r#""sds_1","s1","custom_resolution""#),
        ("critical_error", r#""invalid parameters","method: create_series""#),
    ] {
        let (mut talk, of) = history();
        let packet = format!(r#"{{"m":"{method}","p":["{of}",{rest}]}}"#);
        let said = tell(&mut talk, &[&packet, &packet]);
        assert_eq!(said[0], Utterance::ReplyFailed(RequestId(7), (&*packet).into()));
        assert_eq!(said.len(), 2, "and it is given back, once: {said:?}");
    }
    for other in [r#""sds_2","x""#, "7", r#"{"sds_1":1}"#] {
        for method in ["symbol_error", "series_error", "series_completed", "study_error"] {
            let (mut talk, of) = history();
            let packet = format!(r#"{{"m":"{method}","p":["{of}",{other}]}}"#);
            assert_eq!(tell(&mut talk, &[&packet]), [unroutable(&packet)], "another's");
        }
    }
}

#[test]
fn a_history_that_is_given_up_is_given_back_once_the_server_has_spoken_of_it() {
    let (mut talk, of) = history();
    assert_eq!(talk.cancel(7), [], "it may never have been written");
    let packet = format!(r#"{{"m":"series_loading","p":["{of}","sds_1","s1"]}}"#);
    let said = tell(&mut talk, &[&packet, &packet]);
    let delete = format!(r#"{{"m":"chart_delete_session","p":["{of}"]}}"#);
    assert_eq!(commands(&said), [delete]);
    let (mut talk, of) = history();
    tell(&mut talk, &[&packet.replace(&session(&packet), &of)]);
    assert_eq!(
        commands(&talk.cancel(7)),
        [format!(r#"{{"m":"chart_delete_session","p":["{of}"]}}"#)]
    );
    assert_eq!(talk.cancel(7), []);
    assert_eq!(talk.ask(8, "what"), Err(Unsupported));
}

#[test]
fn heartbeats_are_answered_as_they_came_but_no_flood_of_them() {
    let mut talk = opened();
    let beats = framed(&["~h~1", "~h~22"]);
    let answers = [push(&framed(&["~h~1"])), push(&framed(&["~h~22"]))];
    assert_eq!(talk.hear(&beats), answers);
    let mut before = Talk::with(&venue(), "A", None);
    assert_eq!(before.hear(&beats), answers, "also before it has begun");
    let flood = ["~h~3"; 200].as_slice();
    assert!(failure(&tell(&mut talk, flood)).contains("floods"));
}

#[test]
fn a_server_that_does_not_begin_as_it_should_is_given_up() {
    for bad in ["{}", r#"{"session_id":""}"#, r#"{"m":"qsd","p":[]}"#, "x", "", "~h~x"] {
        let mut talk = Talk::with(&venue(), "A", None);
        assert!(!failure(&tell(&mut talk, &[bad])).is_empty(), "{bad}");
    }
    assert!(failure(&tell(&mut opened(), &[HELLO])).contains("anew"));
}

#[test]
fn a_lie_costs_the_socket_by_name_and_what_came_before_it_counts() {
    let lies = ["~m~99~m~{}", "~m~1~m~{}", "~m~1~m~🚀", "~m~x~m~{}", "{}"];
    let lies = lies.map(ToOwned::to_owned).into_iter();
    for lie in lies.chain([framed(&["{"]), framed(&["7"]), framed(&[""]), framed(&[&deep()])]) {
        let (mut talk, of) = asked(&["A"]);
        let said = talk.hear(&(framed(&[&qsd(&of, "A", "ok")]) + &lie));
        assert_eq!(said[..2], [joined("A"), data("A", &quote("A", "ok"))]);
        assert!(failure(&said).contains("packet"), "{}", failure(&said));
    }
    let (mut talk, of) = asked(&["A"]);
    let inner = format!(r#"{{"m":"qsd","p":["{of}",{{"n":"A","s":"ok","v":{}}}]}}"#, deep());
    assert!(failure(&tell(&mut talk, &[&inner])).contains("JSON"));
    for strange in ["qs_xxxxxxxxxxxx", "cs_HkkyfdFBmlYf", "cs_"] {
        let said = tell(&mut talk, &[&qsd(strange, "A", "ok")]);
        assert!(failure(&said).contains("somebody else's"));
    }
    let words = r#"{"m":"protocol_error","p":["unknown session"]}"#;
    assert!(failure(&tell(&mut talk, &[words])).ends_with(": unknown session"));
}

#[test]
fn what_is_none_of_its_words_is_counted() {
    let (mut talk, of) = asked(&["A"]);
    let at = |m: &str, rest: &str| format!(r#"{{"m":"{m}","p":["{of}"{rest}]}}"#);
    for bad in [
        "{}".to_owned(),
        r#"{"m":"du","p":[]}"#.into(),
        r#"{"m":"du","p":[7]}"#.into(),
        r#"{"m":"notice","p":["hello"]}"#.into(),
        at("du", ""),
        at("qsd", ""),
        at("qsd", ",7"),
        at("qsd", r#",{"n":"A"}"#),
        at("qsd", r#",{"n":7,"s":"ok"}"#),
        at("quote_completed", ""),
        at("quote_completed", r#","B""#),
    ] {
        assert_eq!(tell(&mut talk, &[&bad]), [unroutable(&bad)], "{bad}");
    }
    assert_eq!(talk.hear(""), [unroutable("")]);
    let binary = Message::binary(&b"~m~"[..]);
    talk.session.receive(&binary, &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [Utterance::Unroutable(binary)]);
}

#[test]
fn a_command_of_the_programs_is_framed_and_anything_else_is_not_sent() {
    let (mut talk, _) = asked(&["A"]);
    let name = "A".try_into().unwrap();
    let command = r#"{"m":"quote_fast_symbols","p":["é🚀"]}"#;
    talk.session.send(&name, command.into(), &mut talk.said.cx(talk.now));
    assert_eq!(talk.said.take(), [push(&framed(&[command]))]);
    for bad in ["", "{}", "~h~1"] {
        talk.session.send(&name, bad.into(), &mut talk.said.cx(talk.now));
        assert_eq!(talk.said.take(), [], "{bad}");
    }
}

/// Something that a server may say of sessions `quotes` and `chart`, or a lie.
fn lie(quotes: String, chart: String) -> impl Strategy<Value = String> {
    let of = prop_oneof![4 => Just(quotes), 4 => Just(chart), 1 => Just("nobody".to_owned()), 1 => Just("qs_éé".to_owned())];
    let method = prop_oneof![
        4 => Just("qsd"), 2 => Just("quote_completed"), 1 => Just("critical_error"),
        2 => Just("timescale_update"), 1 => Just("series_completed"), 1 => Just("series_error"),
        1 => Just("symbol_error"), 1 => Just("series_loading"), 1 => Just("du"),
    ];
    let rest = prop_oneof![
        4 => prop_oneof!["A", "B"].prop_flat_map(|name| prop_oneof![6 => Just("ok"), 1 => Just("error")].prop_map(move |state| quote(&name, state))),
        2 => prop_oneof![Just(r#""A""#.to_owned()), Just(r#""sds_1""#.to_owned()), Just(r#""sds_sym_1""#.to_owned())],
        2 => Just(r#"{"sds_1":{"s":["🚀~m~"]}}"#.to_owned()),
        1 => r#"[\[\]{}":,a1\\]{0,12}"#,
    ];
    let packet = (of, method, rest)
        .prop_map(|(of, m, rest)| format!(r#"{{"m":"{m}","p":["{of}",{rest}]}}"#));
    prop_oneof![20 => packet, 1 => Just("~h~1".to_owned()), 1 => Just(HELLO.to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(seed in prop::collection::vec(any::<prop::sample::Index>(), 0..48), lies in {
        let (mut talk, quotes) = asked(&["A", "B"]);
        let chart = session(&commands(&talk.ask(7, r#"{"symbol":"A","resolution":"1"}"#).unwrap())[0]);
        prop::collection::vec(lie(quotes, chart), 1..32)
    }) {
        let (mut talk, _) = asked(&["A", "B"]);
        let _ = talk.ask(7, r#"{"symbol":"A","resolution":"1"}"#);
        let mut open = HashSet::new();
        for (at, lie) in lies.iter().enumerate() {
            if !check(tell(&mut talk, &[lie]), &mut open)? {
                break;
            }
            match seed.get(at).map(|index| index.index(8)) {
                Some(0) => {
                    open.remove("A");
                    let said = talk.leave("A");
                    prop_assert!(check(said, &mut open)?);
                }
                Some(1) => {
                    let said = talk.join(&["A"]);
                    prop_assert!(check(said, &mut open)?);
                }
                Some(2) => drop(talk.cancel(7)),
                Some(3) => drop(talk.ask(7, r#"{"symbol":"A","resolution":"1"}"#)),
                _ => {}
            }
        }
    }

    /// However packets are put into frames, the same is said.
    #[test]
    fn packets_mean_the_same_in_any_frames(cuts in prop::collection::vec(any::<bool>(), 12)) {
        let (mut one, of) = asked(&["A", "B"]);
        let (mut other, _) = asked(&["A", "B"]);
        let packets: Vec<_> = (0..12).map(|n| match n % 3 {
            0 => qsd(&of, "A", "ok"),
            1 => format!("~h~{n}"),
            _ => format!(r#"{{"m":"qsd","p":["{of}",{{"n":"B","s":"ok","v":{{"d":"é🚀~m~{n}~m~"}}}}]}}"#),
        }).collect();
        let expected: Vec<_> = packets.iter().flat_map(|packet| tell(&mut one, &[packet])).collect();
        let (mut said, mut frame) = (Vec::new(), Vec::new());
        for (packet, cut) in packets.iter().zip(cuts) {
            frame.push(packet.as_str());
            if cut {
                said.extend(tell(&mut other, &std::mem::take(&mut frame)));
            }
        }
        if !frame.is_empty() {
            said.extend(tell(&mut other, &frame));
        }
        prop_assert_eq!(said, expected);
    }
}
