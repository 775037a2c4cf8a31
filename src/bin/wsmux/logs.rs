//! `-v`: what the library logs, on stderr. A server tells its warnings without it: nobody looks at it but
//! through them.
//!
//! Only what goes through `tracing` under the name `wsmux` is let through. tungstenite and rustls
//! write whole requests through the `log` crate, which nobody listens to here: a token must not end
//! up on a screen because somebody wanted to see more.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;

pub(crate) fn start(verbose: u8, is_server: bool) {
    let level = match verbose {
        0 if !is_server => return,
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = Targets::new().with_target("wsmux", level);
    let lines = layer().with_ansi(false).with_writer(io::stderr);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // Nobody else has set one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
