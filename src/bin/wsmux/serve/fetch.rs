//! Servers that are asked over HTTP, from the configuration to what asks them.

use std::fs;

use wsmux::gateway::fetch::{Fetch, FetchError};

use super::config::{Server, wrong};
use crate::exit::Failure;

/// The server that stands in this place of the configuration.
pub(super) fn server(config: &Server, place: &str) -> Result<Fetch, Failure> {
    // Without the address: there may be a key in it.
    let unusable = |e: FetchError| wrong(place).cause(&e);
    let mut server = Fetch::builder(&config.url).map_err(unusable)?.plain(config.plain);
    if let Some(secret) = &config.secret {
        let name = config.header.as_deref().unwrap_or("authorization");
        server = server.secret_header(name, &secret.read()?).map_err(unusable)?;
    }
    if let Some(path) = &config.ca {
        let shown = path.display();
        let pem =
            fs::read(path).map_err(|e| wrong(format!("{place}: cannot read {shown}")).cause(&e))?;
        server = server.add_root_pem(&pem).map_err(unusable)?;
    }
    if let Some(timeout) = config.timeout {
        server = server.timeout(timeout.0);
    }
    server.build().map_err(unusable)
}
