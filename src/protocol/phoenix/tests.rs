//! The sessions alone, driven by arithmetic: acknowledgements and data in any order, and lies.

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::message::Message;
use crate::protocol::{Transcript, Utterance, Verdict};

/// A session, and what it said.
struct Talk {
    now: Instant,
    said: Transcript,
    session: Box<dyn Session>,
}

impl Talk {
    fn with(protocol: &impl Protocol, said: Transcript) -> Self {
        let name = StreamName::try_from("t").unwrap();
        let lane = protocol.lane(&name).unwrap();
        let session = protocol.session(&Dial::first(&lane, &[]));
        let mut talk = Self { now: Instant::now(), said, session };
        talk.session.open(&mut talk.said.cx(talk.now));
        assert_eq!(talk.said.take(), [Utterance::Ready]);
        talk
    }

    fn phoenix() -> Self {
        Self::with(&Phoenix::new("ws://h/socket/websocket").unwrap(), Transcript::default())
    }

    fn supabase(token: &str) -> Self {
        let channel = SupabaseChannel::default().changes("todos", Changes::of("public", "todos"));
        let supabase = Supabase::new("ws://h", "key").unwrap().channel("room", channel);
        Self::with(&supabase, Transcript::default().token(token))
    }

    fn join(&mut self, names: &[&str]) -> Vec<Utterance> {
        let names: Vec<_> = names.iter().map(|name| StreamName::try_from(*name).unwrap()).collect();
        self.session.join(&names, &mut self.said.cx(self.now));
        self.said.take()
    }

    fn leave(&mut self, name: &str) -> Vec<Utterance> {
        self.session.leave(&[name.try_into().unwrap()], &mut self.said.cx(self.now));
        self.said.take()
    }

    fn hear(&mut self, text: &str) -> Vec<Utterance> {
        self.session.receive(&text.into(), &mut self.said.cx(self.now));
        self.said.take()
    }

    fn at(&mut self, after: Duration) -> Vec<Utterance> {
        self.now += after;
        self.session.tick(&mut self.said.cx(self.now));
        self.said.take()
    }
}

fn push(text: &str) -> Utterance {
    Utterance::Push(text.into())
}

fn joined(name: &str) -> Utterance {
    Utterance::Joined(name.into())
}

fn ended(name: &str) -> Utterance {
    Utterance::Ended(name.into())
}

fn data(name: &str, text: &str) -> Utterance {
    Utterance::Data(Some(name.into()), text.into())
}

const OK: &str = r#"["1","1","t","phx_reply",{"status":"ok","response":{}}]"#;

#[test]
fn a_topic_is_joined_once_for_all_its_names_and_left_with_the_last() {
    let mut talk = Talk::phoenix();
    assert_eq!(talk.join(&["t#a", "t"]), [push(r#"["1","1","t","phx_join",{}]"#)]);
    assert_eq!(talk.hear(OK), [joined("t#a"), joined("t")]);
    assert_eq!(talk.join(&["t#b"]), [joined("t#b")]);
    let frame = r#"[null,null,"t","a",{"x":[1]}]"#;
    assert_eq!(talk.hear(frame), [data("t#a", r#"{"x":[1]}"#), data("t", frame)]);
    assert_eq!((talk.leave("t"), talk.leave("t#a")), (vec![], vec![]));
    assert_eq!(talk.leave("t#b"), [push(r#"["1","2","t","phx_leave",{}]"#)]);
    assert_eq!(talk.hear(r#"["1","1","t","phx_close",{}]"#), []);
}

#[test]
fn what_an_earlier_join_brings_late_is_for_nobody() {
    let mut talk = Talk::phoenix();
    talk.join(&["t"]);
    talk.hear(OK);
    talk.leave("t");
    assert_eq!(talk.join(&["t"]), [push(r#"["3","3","t","phx_join",{}]"#)]);
    let late = [OK, r#"["1",null,"t","a",{}]"#, r#"["1","1","t","phx_close",{}]"#];
    late.iter().for_each(|late| assert_eq!(talk.hear(late), [], "{late}"));
    assert_eq!(talk.hear(&OK.replace("\"1\"", "\"3\"")), [joined("t")]);
    late.iter().for_each(|late| assert_eq!(talk.hear(late), [], "{late}"));
    assert_eq!(talk.hear(r#"["3",null,"t","a",{}]"#).len(), 1);
}

#[test]
fn a_channel_that_ends_ends_its_names_and_a_refused_one_rejects_them() {
    for event in ["phx_error", "phx_close"] {
        let mut talk = Talk::phoenix();
        talk.join(&["t#a", "t#b"]);
        talk.hear(OK);
        let end = format!(r#"["1","1","t","{event}",{{}}]"#);
        assert_eq!(talk.hear(&end), [ended("t#a"), ended("t#b")]);
        assert_eq!(talk.join(&["t#a"]), [push(r#"["2","2","t","phx_join",{}]"#)]);
    }
    let mut talk = Talk::phoenix();
    talk.join(&["t", "u"]);
    let no =
        r#"["1","1","t","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
    assert_eq!(talk.hear(no), [Utterance::Rejected("t".into(), "unmatched topic".into())]);
    assert_eq!(talk.hear(&OK.replace("\"1\"", "\"2\"").replace("\"t\"", "\"u\"")), [joined("u")]);
}

#[test]
fn data_before_the_reply_is_counted_and_reaches_nobody() {
    let mut talk = Talk::phoenix();
    talk.join(&["t"]);
    let early = r#"["1",null,"t","a",{}]"#;
    for text in [early, r#"[null,null,"other","a",{}]"#, "", "[]", "\u{1F600}"] {
        assert_eq!(talk.hear(text), [Utterance::Unroutable(text.into())], "{text}");
    }
    assert_eq!(talk.hear(OK), [joined("t")]);
    assert_eq!(talk.hear(early).len(), 1);
}

#[test]
fn a_heartbeat_that_is_not_answered_ends_the_socket() {
    let seconds = Duration::from_secs;
    let mut talk = Talk::phoenix();
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(30)));
    let beat = |number| push(&format!(r#"[null,"{number}","phoenix","heartbeat",{{}}]"#));
    assert_eq!(talk.at(seconds(30)), [beat(1)]);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(10)));
    talk.hear(r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    assert_eq!(talk.session.deadline(), Some(talk.now + seconds(30)));
    assert_eq!(talk.at(seconds(30)), [beat(2)]);
    // An answer to another than the last is none.
    talk.hear(r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#);
    assert!(matches!(talk.at(seconds(10))[..], [Utterance::Failed(Verdict::Retry, _)]));
    assert_eq!(talk.session.deadline(), None);
}

#[test]
fn what_the_program_sends_is_an_event_of_its_channel() {
    let mut talk = Talk::phoenix();
    talk.join(&["t#a", "t"]);
    talk.hear(OK);
    let mut send = |name: &str, message: Message| {
        talk.session.send(&name.try_into().unwrap(), message, &mut talk.said.cx(talk.now));
        talk.said.take()
    };
    assert_eq!(send("t#a", "7".into()), [push(r#"["1","2","t","a",7]"#)]);
    let whole = r#"{"event":"b\"","payload":[1]}"#;
    assert_eq!(send("t", whole.into()), [push(r#"["1","3","t","b\"",[1]]"#)]);
    for bad in ["", "{", "1],[", "nul"] {
        assert_eq!(send("t#a", bad.into()), [], "{bad}");
    }
    assert_eq!(send("t", "7".into()), []);
    let binary = Message::binary(&b"\x00\x01\x01\x01\x0119tax"[..]);
    assert_eq!(send("t#a", Message::binary(&b"x"[..])), [Utterance::Push(binary)]);
}

#[test]
fn the_token_is_said_where_it_is_to_be_said() {
    let phoenix = Phoenix::new("wss://h/s?x=1").unwrap();
    let phoenix = phoenix.params("t", r#" {"a":1}"#).unwrap().token_in_join("token");
    let mut talk = Talk::with(&phoenix, Transcript::default().token("can\"ary"));
    let said = talk.join(&["t", "u"]);
    assert_eq!(said[0], push(r#"["1","1","t","phx_join",{"token":"can\"ary","a":1}]"#));
    assert_eq!(said[1], push(r#"["2","2","u","phx_join",{"token":"can\"ary"}]"#));
    assert!(
        phoenix.clone().params("t", "[]").is_err() && phoenix.clone().params("t", "{").is_err()
    );
    let lane = Lane::new("channels");
    let token = "a?b".into();
    let dial = Dial { token: Some(&token), ..Dial::first(&lane, &[]) };
    let request = phoenix.token_in_subprotocol().request(&dial).unwrap();
    assert_eq!(request.subprotocols(), ["phoenix", "base64url.bearer.phx.YT9i"]);
    assert_eq!(request.url().target(), "/s?x=1&vsn=2.0.0");
}

#[test]
fn a_name_says_its_topic_and_event() {
    let phoenix = Phoenix::new("ws://h").unwrap();
    let lane = |name: &str| phoenix.lane(&name.try_into().unwrap()).is_ok();
    assert!(["a", "a#*", "a#b#*", "a#b", "a#b#c"].iter().all(|name| lane(name)));
    assert!(!["#", "#a", "a#", "phoenix", "phoenix#x"].iter().any(|name| lane(name)));
    let supabase = Supabase::new("https://p.supabase.co", "k").unwrap();
    let lane = |name: &str| supabase.lane(&name.try_into().unwrap()).is_ok();
    assert!(["a", "a#*", "a#presence", "a#broadcast:x"].iter().all(|name| lane(name)));
    assert!(!["a#broadcast", "a#changes:x", "a#x", "a#presence:x"].iter().any(|name| lane(name)));
}

const ROOM: &str = r#"["1","1","realtime:room","phx_reply",{"status":"ok","response":{"postgres_changes":[{"id":7,"table":"todos"}]}}]"#;
const FLOWS: &str = r#"["1",null,"realtime:room","system",{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL"}]"#;

fn system(status: &str, message: &str) -> String {
    FLOWS.replace("\"ok\"", &format!("\"{status}\"")).replace("Subscribed to PostgreSQL", message)
}

#[test]
fn a_name_of_changes_is_joined_when_they_flow() {
    let mut talk = Talk::supabase("jwt");
    let said = talk.join(&["room#changes:todos", "room#broadcast:x", "room#presence"]);
    let Utterance::Push(join) = &said[0] else { panic!("{said:?}") };
    let config = r#"{"config":{"broadcast":{"ack":false,"self":false},"presence":{"key":"","enabled":true},"postgres_changes":[{"event":"*","schema":"public","table":"todos"}],"private":false},"access_token":"jwt"}"#;
    assert_eq!(
        join.as_text().unwrap(),
        format!(r#"["1","1","realtime:room","phx_join",{config}]"#)
    );
    assert_eq!(talk.hear(ROOM), [joined("room#broadcast:x"), joined("room#presence")]);
    assert_eq!(talk.hear(FLOWS), [joined("room#changes:todos")]);
    assert_eq!(talk.hear(FLOWS), [], "it is joined once");
    let change = |id| {
        format!(
            r#"[null,null,"realtime:room","postgres_changes",{{"ids":[3,{id}],"data":{{"type":"INSERT"}}}}]"#
        )
    };
    assert_eq!(talk.hear(&change(7)), [data("room#changes:todos", r#"{"type":"INSERT"}"#)]);
    assert_eq!(talk.hear(&change(8)), []);
    let broadcast =
        r#"[null,null,"realtime:room","broadcast",{"type":"broadcast","event":"x","payload":[1]}]"#;
    assert_eq!(talk.hear(broadcast), [data("room#broadcast:x", "[1]")]);
    assert_eq!(talk.hear(&broadcast.replace("\"x\"", "\"y\"")), []);
    let mut hear = |bytes: &'static [u8]| {
        talk.session.receive(&Message::binary(bytes), &mut talk.said.cx(talk.now));
        talk.said.take()
    };
    assert_eq!(hear(b"\x04\x0d\x01\x02\x01realtime:roomx{}[2]"), [data("room#broadcast:x", "[2]")]);
    assert_eq!(hear(b"\x04\x0d\x01\x00\x00realtime:roomy\xff"), []);
    let state = r#"["1",null,"realtime:room","presence_state",{}]"#;
    assert_eq!(talk.hear(state), [data("room#presence", state)]);
}

#[test]
fn a_change_before_changes_flow_is_counted_and_reaches_nobody() {
    let mut talk = Talk::supabase("jwt");
    talk.join(&["room#changes:todos", "room"]);
    talk.hear(ROOM);
    let change = r#"[null,null,"realtime:room","postgres_changes",{"ids":[7],"data":{"n":1}}]"#;
    let counted = Utterance::Unroutable(change.into());
    assert_eq!(talk.hear(change), [data("room", change), counted]);
    talk.hear(FLOWS);
    let said = talk.hear(change);
    assert_eq!(said, [data("room#changes:todos", r#"{"n":1}"#), data("room", change)]);
}

#[test]
fn a_fresh_token_is_said_on_each_channel_and_a_key_is_none() {
    let mut talk = Talk::supabase("jwt");
    talk.join(&["room#presence", "hall#presence"]);
    let rotation = talk.session.rotate(&mut talk.said.cx(talk.now));
    assert_eq!(rotation, crate::protocol::Rotation::InPlace);
    let mut said: Vec<_> = talk.said.take().iter().map(|said| format!("{said:?}")).collect();
    said.sort();
    assert_eq!(said.len(), 2);
    assert!(
        said.iter().all(|said| said.contains(r#"\"access_token\",{\"access_token\":\"jwt\"}"#)),
        "{said:?}"
    );
    let mut key = Talk::supabase("sb_secret_x");
    assert!(!format!("{:?}", key.join(&["room#presence"])).contains("sb_secret"));
    assert_eq!(key.session.rotate(&mut key.said.cx(key.now)), crate::protocol::Rotation::Reconnect);
}

#[test]
fn what_the_server_says_about_a_channel_decides_what_becomes_of_it() {
    type Kind = fn(&Utterance) -> bool;
    let again: Kind = |said| matches!(said, Utterance::Ended(_));
    let for_good: Kind = |said| matches!(said, Utterance::Rejected(..));
    let token: Kind = |said| matches!(said, Utterance::Failed(Verdict::NewToken, _));
    for (reason, is_it) in [
        ("ClientJoinRateLimitReached: Too many joins per second", again),
        ("ChannelRateLimitReached: Too many channels", again),
        ("Unauthorized: You do not have permissions to read from this Channel topic", for_good),
        ("InvalidJWTToken: Token has expired 9 seconds ago", token),
    ] {
        let mut talk = Talk::supabase("jwt");
        talk.join(&["room#changes:todos"]);
        let no = format!(
            r#"["1","1","realtime:room","phx_reply",{{"status":"error","response":{{"reason":"{reason}"}}}}]"#
        );
        let said = talk.hear(&no);
        assert!(is_it(&said[0]) && said.len() == 1, "{said:?}");
        let mut talk = Talk::supabase("jwt");
        talk.join(&["room#changes:todos"]);
        talk.hear(ROOM);
        let said = talk.hear(&system("error", reason));
        assert!(
            matches!(&said[0], Utterance::Push(leave) if leave.as_text().unwrap().contains("phx_leave"))
        );
        assert!(is_it(&said[1]) && said.len() == 2, "{said:?}");
    }
}

#[test]
fn a_reply_that_does_not_name_the_changes_is_a_refusal() {
    for bad in [
        "",
        r#""postgres_changes":[]"#,
        r#""postgres_changes":[{"id":"x"}]"#,
        r#""postgres_changes":7"#,
    ] {
        let mut talk = Talk::supabase("jwt");
        talk.join(&["room#changes:todos"]);
        let reply = format!(
            r#"["1","1","realtime:room","phx_reply",{{"status":"ok","response":{{{bad}}}}}]"#
        );
        let said = talk.hear(&reply);
        assert!(matches!(&said[..], [Utterance::Push(_), Utterance::Rejected(..)]), "{said:?}");
    }
}

fn lie() -> impl Strategy<Value = String> {
    let reference = prop_oneof![
        Just("null".to_owned()),
        (0_u8..6).prop_map(|n| format!("\"{n}\"")),
        Just("7".to_owned()),
        Just("\"x\"".to_owned())
    ];
    let topic = prop_oneof![
        Just("t"),
        Just("realtime:room"),
        Just("realtime:hall"),
        Just("phoenix"),
        Just("other")
    ];
    let event = prop_oneof![
        Just("phx_reply"),
        Just("phx_close"),
        Just("phx_error"),
        Just("system"),
        Just("a"),
        Just("postgres_changes"),
        Just("broadcast"),
        Just("presence_state"),
    ];
    let payload = prop_oneof![
        Just(r#"{"status":"ok","response":{}}"#.to_owned()),
        Just(r#"{"status":"ok","response":{"postgres_changes":[{"id":7}]}}"#.to_owned()),
        Just(r#"{"status":"error","response":{"reason":"no"}}"#.to_owned()),
        Just(r#"{"status":"error","extension":"postgres_changes","message":"é"}"#.to_owned()),
        Just(r#"{"status":"ok","extension":"postgres_changes"}"#.to_owned()),
        Just(r#"{"ids":[7],"data":1,"event":"x","payload":2}"#.to_owned()),
        Just(format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000))),
        r#"[\[\]{}":,a1\\]{0,24}"#,
    ];
    (reference.clone(), reference, topic, event, payload)
        .prop_map(|(j, r, t, e, p)| format!(r#"[{j},{r},"{t}","{e}",{p}]"#))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a server says, in whatever order: no name hears anything before it is joined, nor after
    /// it has ended, and none is joined twice.
    #[test]
    fn a_name_hears_only_what_comes_between_its_join_and_its_end(lies in prop::collection::vec(lie(), 0..24), supabase: bool) {
        let names: &[&str] = if supabase {
            &["room#changes:todos", "room", "hall#broadcast:x", "hall#presence"]
        } else {
            &["t", "t#a", "other#system", "realtime:room"]
        };
        let mut talk = if supabase { Talk::supabase("jwt") } else { Talk::phoenix() };
        talk.join(names);
        let mut open = std::collections::HashSet::new();
        for lie in &lies {
            for said in talk.hear(lie) {
                match said {
                    Utterance::Joined(name) => prop_assert!(open.insert(name.clone()), "{name} twice"),
                    Utterance::Data(Some(name), _) => prop_assert!(open.contains(&name), "{name} early"),
                    Utterance::Ended(name) | Utterance::Rejected(name, _) => { open.remove(&name); }
                    Utterance::Unroutable(_) | Utterance::Push(_) => {}
                    Utterance::Failed(..) => break,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
