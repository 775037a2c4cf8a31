//! `cargo run --release --example record_and_replay`: records two seconds of an exchange that loses its
//! sockets on the way, and plays them to a bot: as fast as possible, and twice the same. Needs no
//! network: the exchange is wsmux's own.

use std::{error::Error, path::Path, process::ExitCode, time::Duration};

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};
use wsmux::record::{Recorder, RecorderOptions, Replay};
use wsmux::{StreamError, Text, WsManager, test_util::MockExchange};

const NAMES: [&str; 2] = ["btcusdt@trade", "ethusdt@trade"];

/// A bot: what it does depends on all that it reads. It knows nothing of recordings.
async fn bot(manager: WsManager) -> Result<Ran, Box<dyn Error>> {
    let start = Instant::now();
    let mut streams = manager.subscribe_all::<Text>(NAMES)?;
    let mut ran = Ran::default();
    while let Some((name, item)) = streams.recv().await {
        match item {
            Ok(trade) => {
                ran.messages += 1;
                let bytes = trade.bytes().map(u64::from).sum::<u64>() + start.elapsed().as_secs();
                ran.position = ran.position.rotate_left(7) ^ bytes;
                if ran.messages % 100 == 0 {
                    sleep(Duration::from_millis(50)).await; // It places an order.
                }
            }
            Err(StreamError::Gap(_)) => ran.gaps += 1,
            Err(notice) => println!("{name}: {notice}"),
        }
    }
    ran.seconds = start.elapsed().as_secs_f64();
    Ok(ran)
}

#[derive(Debug, Default, PartialEq)]
struct Ran {
    gaps: u64,
    messages: u64,
    position: u64,
    seconds: f64,
}

async fn record(file: &Path) -> Result<(), Box<dyn Error>> {
    let exchange = MockExchange::builder().rate(2000).start().await?;
    let manager = WsManager::connect(&exchange.url())?;
    let recorder = Recorder::create(file, RecorderOptions::default()).await?;
    for name in NAMES {
        recorder.record(manager.subscribe::<Text>(name)?)?;
    }
    sleep(Duration::from_millis(500)).await;
    exchange.drop_sockets();
    sleep(Duration::from_millis(1500)).await;
    println!("recorded {}", recorder.finish().await?);
    Ok(())
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("wsmux-example-{}.rec", std::process::id()));
    Builder::new_multi_thread().enable_all().build()?.block_on(record(&file))?;
    let replay = || {
        let replay = Replay::open(&file)?.lossless();
        let messages = replay.recording().messages();
        // The clock is paused: time moves when the bot has nothing to do.
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let ran = runtime.block_on(async {
            let manager = WsManager::builder(replay.protocol()).transport(replay).build()?;
            bot(manager).await
        })?;
        println!("{ran:?}");
        Ok::<_, Box<dyn Error>>((messages - ran.messages, ran))
    };
    let runs = (replay()?, replay()?);
    std::fs::remove_file(&file)?;
    let ((lost, ran), same) = (&runs.0, runs.0 == runs.1);
    let Ran { messages, gaps, .. } = ran;
    println!("record_and_replay: {messages} messages, {gaps} gaps, {lost} lost, same: {same}");
    Ok(if *lost == 0 && same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
