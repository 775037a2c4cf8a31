//! The client that Autobahn's fuzzing server examines: an echo over the crate's own transport.
//!
//! The server has a path for each thing it is asked: how many cases there are, one case, the report.
//! `scripts/autobahn` starts it, and reads the report.

use std::env;
use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;
use wsmux::Message;
use wsmux::protocol::Request;
use wsmux::transport::{
    Frame, Frames, Socket, Transport as _, TransportError, Tungstenite, TungsteniteSocket,
};

/// The server.
const URL: &str = "WSMUX_AUTOBAHN_URL";
/// Who is examined, as the report names it: one that is not `wsmux` echoes something else.
const AGENT: &str = "WSMUX_AUTOBAHN_AGENT";

/// Far above what the slowest case takes, a thousand messages in slow pieces.
const LONGEST_CASE: Duration = Duration::from_secs(100);

struct Examined {
    agent: String,
    url: String,
}

impl Examined {
    /// Opens a path, and gives every data message to `answer`, until the server is done.
    async fn visit(
        &self,
        path: &str,
        mut answer: impl FnMut(Message) -> Option<Message>,
    ) -> Result<(), TransportError> {
        let request = Request::new(&format!("{}/{path}", self.url)).unwrap();
        // The largest cases are of 16 MiB, which the defaults let pass.
        let (mut socket, _) = Tungstenite::new().no_proxy().connect(&request).await?;
        // As much at once as the engine takes.
        let mut frames = Frames::with_budget(128, 64 << 10);
        loop {
            poll_fn(|cx| socket.poll_read(cx, &mut frames)).await?;
            let mut closing = false;
            for frame in frames.drain() {
                match frame {
                    Frame::Data(message) => {
                        if let Some(message) = answer(message) {
                            send(&mut socket, message).await?;
                        }
                    }
                    Frame::Close(_) => closing = true,
                    _ => {}
                }
            }
            if closing {
                return poll_fn(|cx| socket.poll_close(cx)).await;
            }
            // Answers to pings wait for a flush, and so does the server.
            poll_fn(|cx| socket.poll_flush(cx)).await?;
        }
    }

    async fn case_count(&self) -> usize {
        let mut count = None;
        self.visit("getCaseCount", |message| {
            count = message.as_text().and_then(|text| text.parse().ok());
            None
        })
        .await
        .unwrap();
        count.expect("the server says how many cases it has")
    }

    /// How a case ends is for the server to judge.
    async fn case(&self, case: usize) {
        let path = format!("runCase?case={case}&agent={}", self.agent);
        let echo = |message| Some(if self.agent == "wsmux" { message } else { wrong(message) });
        let run = timeout(LONGEST_CASE, self.visit(&path, echo)).await;
        let _ = run.unwrap_or_else(|_| panic!("case {case} does not end"));
    }
}

async fn send(socket: &mut TungsteniteSocket, message: Message) -> Result<(), TransportError> {
    socket.start_send(Frame::Data(message))?;
    poll_fn(|cx| socket.poll_flush(cx)).await
}

/// Another message.
fn wrong(message: Message) -> Message {
    match message {
        Message::Text(text) => Message::text(format!("{text}!")),
        Message::Binary(bytes) => Message::binary([&bytes[..], b"!"].concat()),
    }
}

#[tokio::test]
async fn autobahn_examines_a_client() {
    let Ok(url) = env::var(URL) else {
        return crate::skipped("is run by scripts/autobahn");
    };
    let agent = env::var(AGENT).unwrap_or_else(|_| "wsmux".to_owned());
    let examined = Examined { agent, url };
    for case in 1..=examined.case_count().await {
        examined.case(case).await;
    }
    let report = format!("updateReports?agent={}", examined.agent);
    examined.visit(&report, |_| None).await.unwrap();
}
