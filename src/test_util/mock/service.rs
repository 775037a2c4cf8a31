//! What a protocol's server does, in the server's words.

use tokio::time::Instant;

use super::dial::{Handshake, SocketId};
use super::out::Out;
use crate::message::Message;
use crate::test_util::server::Answer;
use crate::transport::Frame;

/// The server's side of a protocol, for all of a server's sockets.
pub trait Service: Send + 'static {
    /// How a dial is answered on a port. [`Answer::Accept`] by default; a protocol with a subprotocol
    /// adds its header.
    fn answer(&self) -> Answer {
        Answer::Accept
    }

    /// A socket has opened.
    fn open(&mut self, socket: SocketId, dial: &Handshake, out: &mut Out) {
        let _ = (socket, dial, out);
    }

    /// A client said `message`.
    fn receive(&mut self, socket: SocketId, message: &Message, out: &mut Out);

    /// A client sent a ping or a pong. Pings are answered without this.
    fn control(&mut self, socket: SocketId, frame: &Frame, out: &mut Out) {
        let _ = (socket, frame, out);
    }

    /// A socket has ended, whoever ended it.
    fn gone(&mut self, socket: SocketId) {
        let _ = socket;
    }

    /// When [`tick`](Self::tick) is to be called. Asked after every other call.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The [`deadline`](Self::deadline) has come.
    fn tick(&mut self, out: &mut Out) {
        let _ = out;
    }
}
