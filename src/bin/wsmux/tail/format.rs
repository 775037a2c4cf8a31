//! How messages and notices look.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use tokio::time::Instant;
use wsmux::{CloseReason, Gap, Message, Status};

use super::escape::{armoured, compact_json, escaped, json_string};
use super::time::{Clock, Stamp};
use super::writer::Chunk;
use crate::args::Format;
use crate::exit::{ERROR, ended};

const BAD: Style = AnsiColor::Yellow.on_default().bold();
const NAME: Style = AnsiColor::Cyan.on_default();
const QUIET: Style = Style::new().dimmed();

/// How many bytes of a binary message are shown to people.
const SHOWN: usize = 64;

/// What is no message.
#[derive(Debug)]
pub(super) enum Notice<'a> {
    Closed(&'a CloseReason),
    /// As a recording has it.
    Ended {
        label: &'a str,
        words: &'a str,
    },
    Gap(&'a Gap),
    Status(&'a Status),
}

/// Prints in one format. Colours are put where they are wanted only, not taken out again later: that
/// would take longer than all the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Printer {
    colours: bool,
    format: Format,
}

impl Printer {
    /// With colours if stdout wants them.
    pub(super) fn new(format: Format) -> Self {
        let colours = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { colours, format }
    }

    pub(super) fn message(self, chunk: &mut Chunk, name: &str, at: SystemTime, message: &Message) {
        let out = &mut chunk.stdout;
        match self.format {
            Format::Pretty => {
                let head = head(name, at, self.colours);
                line(out, format_args!("{head}{}", pretty(message)));
            }
            Format::Json => {
                let (kind, payload) = payload(message);
                let (name, at) = (json_string(name), Stamp(at));
                line(
                    out,
                    format_args!(
                        r#"{{"name":{name},"received":"{at}","type":"{kind}","payload":{payload}}}"#
                    ),
                );
            }
            Format::Raw => {
                out.extend(message.as_bytes());
                out.push(b'\n');
            }
        }
    }

    pub(super) fn notice(self, chunk: &mut Chunk, name: &str, at: SystemTime, notice: &Notice<'_>) {
        let text = notice.text();
        let pretty = |colours: bool| {
            let style = painted(notice.style(), colours);
            format!("{}{style}-- {}{style:#}", head(name, at, colours), escaped(&text))
        };
        match self.format {
            Format::Pretty => line(&mut chunk.stdout, pretty(self.colours)),
            // Whether stderr wants colours is its own affair.
            Format::Raw => line(&mut chunk.stderr, pretty(true)),
            Format::Json => {
                let mut object = notice.json();
                object["name"] = name.into();
                object["time"] = Stamp(at).to_string().into();
                object["text"] = (&*text).into();
                line(&mut chunk.stdout, armoured(&object.to_string()));
            }
        }
    }

    /// What was counted, as one line.
    pub(super) fn stats(self, chunk: &mut Chunk, text: &str, mut json: Value) {
        match self.format {
            Format::Pretty | Format::Raw => line(&mut chunk.stderr, text),
            Format::Json => {
                json["notice"] = "stats".into();
                json["time"] = Stamp(SystemTime::now()).to_string().into();
                line(&mut chunk.stdout, json);
            }
        }
    }
}

fn line(out: &mut Vec<u8>, line: impl Display) {
    // Writing to memory does not fail.
    let _ = writeln!(out, "{line}");
}

fn head(name: &str, at: SystemTime, colours: bool) -> String {
    let (quiet, bright) = (painted(QUIET, colours), painted(NAME, colours));
    format!("{quiet}{}{quiet:#}  {bright}{}{bright:#}  ", Clock(at), escaped(name))
}

fn painted(style: Style, colours: bool) -> Style {
    if colours { style } else { Style::new() }
}

fn pretty(message: &Message) -> String {
    match message {
        Message::Text(text) => {
            compact_json(text).unwrap_or_else(|| escaped(text.as_str()).into_owned())
        }
        Message::Binary(bytes) => json_object(bytes).unwrap_or_else(|| {
            let more = if bytes.len() > SHOWN { "…" } else { "" };
            let start = HEXLOWER.encode(&bytes[..bytes.len().min(SHOWN)]);
            format!("<{} bytes> {start}{more}", bytes.len())
        }),
    }
}

/// The kind of a payload, and the payload as JSON.
fn payload(message: &Message) -> (&'static str, String) {
    match message {
        Message::Text(text) => match compact_json(text) {
            Some(json) => ("json", json),
            None => ("text", json_string(text)),
        },
        Message::Binary(bytes) => match json_object(bytes) {
            Some(json) => ("json", json),
            None => ("binary", format!("\"{}\"", BASE64.encode(bytes))),
        },
    }
}

/// Some servers send JSON in binary messages. A number or the like may be anything, though.
fn json_object(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.trim_start().starts_with(['{', '[']) { compact_json(text) } else { None }
}

impl Notice<'_> {
    fn text(&self) -> String {
        match self {
            Self::Closed(reason) => format!("closed: {}", ended(reason)),
            Self::Ended { words, .. } => format!("closed: {words}"),
            Self::Gap(gap) => gap.to_string(),
            Self::Status(status) => status.to_string(),
        }
    }

    fn style(&self) -> Style {
        match self {
            Self::Closed(_) | Self::Ended { .. } => ERROR,
            Self::Gap(_) | Self::Status(Status::BackingOff { .. }) => BAD,
            Self::Status(_) => QUIET,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Closed(reason) => json!({ "notice": "closed", "reason": reason.label() }),
            Self::Ended { label, .. } => json!({ "notice": "closed", "reason": label }),
            Self::Gap(Gap::Lagged { missed }) => {
                json!({ "notice": "gap", "gap": "lagged", "missed": missed })
            }
            Self::Gap(Gap::Reconnected { down_for, reason }) => json!({
                "notice": "gap",
                "gap": "reconnected",
                "down_for_ms": ms(*down_for),
                "reason": reason.label(),
            }),
            Self::Gap(Gap::Sequence { missed }) => {
                json!({ "notice": "gap", "gap": "sequence", "missed": missed })
            }
            Self::Gap(_) => json!({ "notice": "gap" }),
            Self::Status(Status::BackingOff { attempt, delay, error }) => json!({
                "notice": "status",
                "status": "backing_off",
                "attempt": attempt,
                "delay_ms": ms(*delay),
                "reason": error.reason().label(),
            }),
            Self::Status(Status::Connecting { attempt }) => {
                json!({ "notice": "status", "status": "connecting", "attempt": attempt })
            }
            Self::Status(Status::Joining) => json!({ "notice": "status", "status": "joining" }),
            Self::Status(Status::Open) => json!({ "notice": "status", "status": "open" }),
            Self::Status(Status::Waiting { position, until }) => json!({
                "notice": "status",
                "status": "waiting",
                "position": position,
                "wait_ms": until.map(|until| ms(until.saturating_duration_since(Instant::now()))),
            }),
            Self::Status(_) => json!({ "notice": "status" }),
        }
    }
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

#[cfg(test)]
mod tests {
    use wsmux::DisconnectReason;

    use super::*;

    fn printer(format: Format) -> Printer {
        Printer { colours: true, format }
    }

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn shown(format: Format, message: impl Into<Message>) -> String {
        let mut chunk = Chunk::default();
        printer(format).message(&mut chunk, "x\u{202e}", AT, &message.into());
        assert!(chunk.stderr.is_empty());
        anstream::adapter::strip_bytes(&chunk.stdout).into_vec().escape_ascii().to_string()
    }

    #[test]
    fn pretty_is_one_line_that_steers_nothing() {
        let start = r"00:00:00.000  x\\u{202e}  ";
        let pretty = |message: Message| shown(Format::Pretty, message);
        assert_eq!(
            pretty("a\x1b]0;b\x07\n".into()),
            format!(r"{start}a\\u{{1b}}]0;b\\u{{7}}\\n\n")
        );
        assert_eq!(pretty("{ \"a\": 1.0 }".into()), format!(r#"{start}{{\"a\":1.0}}\n"#));
        assert_eq!(pretty(vec![0, 255].into()), format!(r"{start}<2 bytes> 00ff\n"));
        assert!(pretty(vec![1; 65].into()).contains(r"01\xe2\x80\xa6"), "cut");
    }

    #[test]
    fn json_lines_hold_the_message_and_its_kind() {
        let read = |message: Message| {
            let mut chunk = Chunk::default();
            printer(Format::Json).message(&mut chunk, "x\u{9b}\"", AT, &message);
            assert_eq!(chunk.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
            let value: Value = serde_json::from_slice(&chunk.stdout).unwrap();
            assert_eq!(
                (&value["name"], &value["received"]),
                (&"x\u{9b}\"".into(), &"1970-01-01T00:00:00.000000Z".into())
            );
            (value["type"].as_str().unwrap().to_owned(), value["payload"].clone())
        };
        assert_eq!(read("{\"a\":[1]}".into()), ("json".into(), json!({"a": [1]})));
        assert_eq!(read("plain\n\u{9b}".into()), ("text".into(), json!("plain\n\u{9b}")));
        assert_eq!(read("7".into()), ("json".into(), json!(7)));
        assert_eq!(read(b"7".to_vec().into()), ("binary".into(), json!("Nw==")));
        assert_eq!(read(b" [7]".to_vec().into()), ("json".into(), json!([7])));
        assert_eq!(read(vec![0xff].into()), ("binary".into(), json!("/w==")));
    }

    #[test]
    fn raw_is_the_payload_and_its_notices_are_elsewhere() {
        let mut chunk = Chunk::default();
        printer(Format::Raw).message(&mut chunk, "x", AT, &"a\x1b\n".into());
        assert_eq!(chunk.stdout, b"a\x1b\n\n");
        let mut chunk = Chunk::default();
        let gap = Gap::Lagged { missed: 3 };
        printer(Format::Raw).notice(&mut chunk, "x", AT, &Notice::Gap(&gap));
        assert!(chunk.stdout.is_empty() && !chunk.stderr.is_empty());
    }

    #[test]
    fn notices_are_objects_of_their_own() {
        let reason = DisconnectReason::closed(Some(1001), "bye\u{9b}\u{202e}");
        let gap = Gap::Reconnected { down_for: Duration::from_micros(1_234_567), reason };
        let mut chunk = Chunk::default();
        printer(Format::Json).notice(&mut chunk, "x", AT, &Notice::Gap(&gap));
        assert!(chunk.stdout.is_ascii(), "nothing that turns the writing");
        let value: Value = serde_json::from_slice(&chunk.stdout).unwrap();
        assert_eq!(value["notice"], "gap");
        assert_eq!((&value["gap"], &value["reason"]), (&json!("reconnected"), &json!("closed")));
        assert_eq!(value["down_for_ms"], 1234.6);
        assert!(value["text"].as_str().unwrap().contains("1001"), "{value}");
    }
}
