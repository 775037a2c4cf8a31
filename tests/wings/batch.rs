//! Many requests at once: how many, in which order, and what is said of them.

use futures::StreamExt as _;
use tokio::time::Instant;
use wsmux::test_util::{Mock, Out};

use super::{Found, MS, built, check, finds};
use crate::asker::{Asked, Desk};
use crate::requests::PoolConfig;
use crate::requests::defect::Defect;

const COUNT: usize = 60;
const GROUP: usize = 5;

/// Each takes a time of its own, and each seventh is refused.
fn answer(asked: &Asked<'_>, out: &mut Out) -> Instant {
    let number: u32 = asked.body.parse().unwrap();
    let takes = MS * (10 + number * 37 % 100);
    let answer = match number % 7 {
        3 => format!("-{} no", asked.id),
        _ => asked.reply(asked.body),
    };
    out.send_after(takes, asked.socket, answer);
    out.now() + takes
}

async fn run(in_order: bool) -> Found {
    let (most, seen) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), Vec::new());
    let (mut ends, told): (Vec<Instant>, _) = (seen, most.clone());
    let desk = Desk::new(move |asked, out| {
        let now = out.now();
        ends.retain(|end| *end > now);
        ends.push(answer(asked, out));
        told.fetch_max(ends.len(), std::sync::atomic::Ordering::Relaxed);
    });
    let (_mock, transport) = Mock::in_memory(desk);
    let config = PoolConfig::default().fixed_batch(GROUP);
    let pool = built(transport, config).build().map_err(|e| e.to_string())?;
    let batch = pool.batch((0..COUNT).map(|n| n.to_string()));
    let mut batch = if in_order { batch.in_order() } else { batch };
    let (mut indices, mut failed) = (Vec::new(), 0);
    while let Some(item) = batch.next().await {
        indices.push(item.index);
        failed += usize::from(item.outcome.is_err());
        let own = item.outcome.as_ref().ok().and_then(|r| r.message()).and_then(|m| m.as_text());
        if own.is_some_and(|own| own != item.index.to_string()) {
            return Err(format!("{} has another's reply", item.index));
        }
        let progress = item.progress;
        if (progress.done, progress.failed, progress.total) != (indices.len(), failed, COUNT) {
            return Err(format!("{progress:?} after {} and {failed} failures", indices.len()));
        }
    }
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    if most > GROUP {
        return Err(format!("{most} are in flight at once"));
    }
    if in_order && !indices.is_sorted() {
        return Err(format!("out of order: {indices:?}"));
    }
    indices.sort_unstable();
    match indices == (0..COUNT).collect::<Vec<_>>() {
        true => Ok(()),
        false => Err(format!("not each once: {indices:?}")),
    }
}

#[test]
fn a_batch_keeps_its_group_its_order_and_its_books_and_each_mistake_is_found() {
    let both = |defect| {
        check(defect, async || run(false).await)?;
        check(defect, async || run(true).await)
    };
    finds(&[Defect::BatchIsOneGroup, Defect::FailureIsNotCounted, Defect::OrderIsLost], both);
}
