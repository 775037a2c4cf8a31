//! Plain HTTP, by hand: responses, and streams of events as they come.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::{schema, soon};

pub(crate) struct Response {
    body: BufReader<TcpStream>,
    headers: Vec<(String, String)>,
    pub(crate) status: u16,
}

/// An event, as `EventSource` would see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Event {
    pub(crate) data: String,
    pub(crate) id: String,
    pub(crate) kind: String,
}

/// As 1.0, so that a body ends with its connection.
pub(crate) async fn get(addr: SocketAddr, path: &str, header: &str) -> Response {
    ask(addr, &format!("GET {path} HTTP/1.0\r\nHost: test\r\n{header}\r\n")).await
}

/// The same, with JSON.
pub(crate) async fn post(addr: SocketAddr, path: &str, json: &str) -> Response {
    let head = format!("POST {path} HTTP/1.0\r\nHost: test\r\nContent-Type: application/json\r\n");
    ask(addr, &format!("{head}Content-Length: {}\r\n\r\n{json}", json.len())).await
}

async fn ask(addr: SocketAddr, request: &str) -> Response {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut body = BufReader::new(socket);
    let status = line(&mut body).await.expect("a status")[9..12].parse().unwrap();
    let mut headers = Vec::new();
    while let Some(header) = line(&mut body).await.filter(|line| !line.is_empty()) {
        let (name, value) = header.split_once(": ").unwrap();
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    Response { body, headers, status }
}

/// The next line; `None` at the end.
async fn line(body: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    if soon(body.read_line(&mut line)).await.ok()? == 0 {
        return None;
    }
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    pub(crate) fn body_mut(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.body
    }

    pub(crate) async fn text(mut self) -> String {
        let mut text = String::new();
        soon(self.body.read_to_string(&mut text)).await.unwrap();
        text
    }

    /// The next line that is a comment.
    pub(crate) async fn comment(&mut self) -> String {
        loop {
            let line = line(&mut self.body).await.expect("a comment, not the end");
            if let Some(comment) = line.strip_prefix(':') {
                return comment.trim().to_owned();
            }
        }
    }

    /// The next event; `None` at the end. What the gateway says of itself is in the schema.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        let (mut event, mut has_data) = (Event::default(), false);
        loop {
            let line = line(&mut self.body).await?;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() && has_data => break,
                "data" => {
                    if std::mem::replace(&mut has_data, true) {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                "event" => event.kind = value.to_owned(),
                "id" => event.id = value.to_owned(),
                "" | "retry" => {}
                other => panic!("no field: {other}"),
            }
        }
        if matches!(&*event.kind, "asked" | "results" | "summary") {
            assert!(schema::is_of_batch(&event.json()), "the schema does not know {event:?}");
        } else if !matches!(&*event.kind, "" | "base64") {
            assert!(schema::is_servers(&event.json()), "the schema does not know {event:?}");
        }
        Some(event)
    }

    /// The next event that is no status.
    pub(crate) async fn news(&mut self) -> Event {
        loop {
            let event = self.event().await.expect("an event, not the end");
            if event.kind != "status" {
                return event;
            }
        }
    }

    /// Waits until a name is open.
    pub(crate) async fn opened(&mut self) {
        while self.event().await.expect("a status").json()["status"] != "open" {}
    }
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}
