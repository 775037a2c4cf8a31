//! The transport over byte streams that a fuzzer writes. Built only with `--cfg fuzzing`.
//!
//! From the stream on it is the code of real sockets: tunnel, handshake, frames and close.

use std::collections::VecDeque;
use std::sync::Mutex;

use rustls::pki_types::CertificateDer;

use super::scripted::{Script, ScriptedStream};
use super::stream::Stream;
use super::tungstenite::{Opening, Tungstenite, TungsteniteSocket};
use super::{Transport, TransportError, certificate};
use crate::protocol::{DisconnectReason, Request, Response};

/// Reads what a server's certificate says of itself.
pub fn read_certificate(der: &[u8]) {
    let der = CertificateDer::from(der);
    let _ = certificate::not_after(&der);
    let _ = certificate::names(&der);
}

/// The transport that says one script after the other, and then nothing more.
#[derive(Debug)]
pub struct Scripts {
    scripts: Mutex<VecDeque<Script>>,
    tungstenite: Tungstenite,
}

impl Scripts {
    /// Sockets of `tungstenite` that say `scripts`.
    pub fn new(tungstenite: Tungstenite, scripts: impl IntoIterator<Item = Script>) -> Self {
        Self { scripts: Mutex::new(scripts.into_iter().collect()), tungstenite }
    }
}

impl Transport for Scripts {
    type Socket = TungsteniteSocket;

    async fn connect(
        &self,
        request: &Request,
    ) -> Result<(TungsteniteSocket, Response), TransportError> {
        let script = self.scripts.lock().ok().and_then(|mut scripts| scripts.pop_front());
        let script = script.ok_or_else(|| TransportError::new(DisconnectReason::Ended))?;
        let mut stream = Stream::Scripted(Box::new(ScriptedStream::new(script)));
        if let Some(proxy) = self.tungstenite.proxy_for(request.url())? {
            proxy.open_scripted(&mut stream, request.url()).await?;
        }
        self.tungstenite.upgrade(&Opening::of(request)?, stream).await
    }
}
