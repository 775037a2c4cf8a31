//! `cargo run --release --example custom_protocol`: a protocol of one's own, two names on one socket.
//! The client says `+name` and `-name`, the server `=name` (joined), `name:value` and `beat`.

use wsmux::protocol::{Cx, Dial, DialError, Lane, Limits, Protocol, Request, Session, To};
use wsmux::test_util::{MockServer, Peer};
use wsmux::{InvalidName, Message, StreamName, WsManager, transport::Frame};

struct Lines(String);
impl Protocol for Lines {
    fn lane(&self, _: &StreamName) -> Result<Lane, InvalidName> {
        Ok(Lane::new("all")) // Any two names may share a socket.
    }
    fn request(&self, _: &Dial<'_>) -> Result<Request, DialError> {
        Ok(Request::new(&self.0)?)
    }
    fn session(&self, _: &Dial<'_>) -> Box<dyn Session> {
        Box::new(Talk)
    }
    fn limits(&self, _: &Lane) -> Limits {
        Limits::default().capacity(100)
    }
}

struct Talk;
impl Session for Talk {
    fn join(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.push(format!("+{name}")));
    }
    fn leave(&mut self, names: &[StreamName], cx: &mut Cx<'_>) {
        names.iter().for_each(|name| cx.push(format!("-{name}")));
    }
    fn receive(&mut self, message: &Message, cx: &mut Cx<'_>) {
        let text = message.as_text().unwrap_or_default();
        match (text.strip_prefix('='), text.split_once(':')) {
            (Some(name), _) => cx.joined(name),
            (None, Some((name, value))) => cx.data(To::Name(name), value.into()),
            (None, None) if text == "beat" => cx.alive(),
            (None, None) => cx.unroutable(message),
        }
    }
}
async fn serve(peer: Peer) {
    while let Some(frame) = peer.recv().await {
        let Frame::Data(line) = frame else { continue };
        let Some(name) = line.as_text().and_then(|text| text.strip_prefix('+')) else { continue };
        for line in ["=NAME", "NAME:1", "beat", "NAME:2"] {
            peer.send(line.replace("NAME", name)).await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = MockServer::builder().route("/", serve).start().await?;
    let manager = WsManager::new(Lines(server.url()));
    let (mut a, mut b) = (manager.subscribe::<u32>("a")?, manager.subscribe::<u32>("b")?);
    let sum = a.recv().await.ok_or("over")?? + b.recv().await.ok_or("over")??;
    println!("custom_protocol: 2 names, {} socket, sum {sum}", server.dials());
    Ok(())
}
