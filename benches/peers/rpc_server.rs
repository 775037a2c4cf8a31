//! A JSON-RPC server with one subscription, as `eth_subscribe` has it, in a process of its own.
//!
//! The path says how many notifications there are: `/COUNT/ANYTHING`. They are sent as fast as the
//! client takes them, once it has called `start`. Whatever is called with an id is answered with the id of
//! the subscription.

use std::env;
use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::thread;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, accept_hdr};

use crate::BYTES;
use crate::common::cpus;

const IS_SERVER: &str = "WSMUX_BENCH_RPC_SERVER";

/// Bytes handed to the kernel at once: enough that the writer outruns any reader.
const BLOCK: usize = 256 * 1024;

const BEFORE_RESULT: &str =
    r#"{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"0x1f","result":"#;
const AFTER_RESULT: &str = "}}";

/// Bytes of the `result` in a notification.
pub(crate) const RESULT_BYTES: usize = BYTES - BEFORE_RESULT.len() - AFTER_RESULT.len();

/// The method by which a client asks for the notifications.
pub(crate) const START: &str = "start";

/// The server's process. Dropping it ends it.
pub(crate) struct RpcServer {
    child: Child,
    alive: Option<ChildStdin>,
    port: u16,
}

impl RpcServer {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .env(IS_SERVER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { port: line.trim().parse().unwrap(), alive: child.stdin.take(), child }
    }

    /// The URL that streams of `count` notifications are under.
    pub(crate) fn base(&self, count: u64) -> String {
        format!("ws://127.0.0.1:{}/{count}", self.port)
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.child.wait();
    }
}

/// Becomes the server, if this process was started to be it.
pub(crate) fn serve_if_asked() {
    if env::var_os(IS_SERVER).is_none() {
        return;
    }
    cpus::pin_server();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            // It ends with an error when its client leaves.
            thread::spawn(move || drop(serve(tcp)));
        }
    });
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    process::exit(0);
}

/// What clients say.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
}

fn serve(tcp: TcpStream) -> Result<(), Box<dyn Error>> {
    tcp.set_nodelay(true)?;
    let mut count = None;
    #[expect(clippy::result_large_err, reason = "it is the library's")]
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        count = request.uri().path().split('/').nth(1).and_then(|count| count.parse().ok());
        Ok(response)
    };
    let mut socket = accept_hdr(tcp, note).map_err(|e| e.to_string())?;
    let count = count.ok_or("a path without a number")?;
    loop {
        let Message::Text(text) = socket.read()? else { continue };
        let call: Call<'_> = serde_json::from_str(&text)?;
        if let Some(id) = call.id {
            let reply = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"0x1f"}}"#);
            socket.send(Message::text(reply))?;
        }
        if call.method == START {
            flood(socket.get_mut(), count)?;
        }
    }
}

fn flood(tcp: &mut TcpStream, count: usize) -> Result<(), Box<dyn Error>> {
    let mut frame = Vec::new();
    Frame::message(notification(), OpCode::Data(Data::Text), true).format(&mut frame)?;
    let per_block = BLOCK / frame.len();
    let block = frame.repeat(per_block);
    let mut left = count;
    while left > 0 {
        let now = left.min(per_block);
        tcp.write_all(&block[..now * frame.len()])?;
        left -= now;
    }
    Ok(())
}

/// A notification of [`BYTES`] bytes.
fn notification() -> String {
    let begin = r#"{"e":"trade","p":"67012.01","q":"0.0012","x":""#;
    let end = "\"}";
    let fill = "a".repeat(RESULT_BYTES - begin.len() - end.len());
    format!("{BEFORE_RESULT}{begin}{fill}{end}{AFTER_RESULT}")
}
