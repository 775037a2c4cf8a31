//! What is kept, against a model of it: what is asked, and what each is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use tokio::time::{self, Instant};
use wsmux::RequestError;
use wsmux::test_util::Mock;

use super::{Dice, Found, MS, SECOND, built, check, finds};
use crate::asker::Desk;
use crate::requests::defect::Defect;
use crate::requests::{CacheConfig, Call, PoolConfig};

const TTL: u32 = 300;
const STALE: u32 = 3600;

/// What the server does about the requests of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Does {
    Answers,
    Breaks,
    Fails,
}

/// What is known of a key: the number of the reply, and when it came.
type Model = BTreeMap<u64, (u64, Instant)>;

fn expected(
    model: &mut Model,
    key: u64,
    does: Does,
    number: u64,
    now: Instant,
) -> (usize, Result<u64, RequestError>) {
    let kept = model.get(&key).copied();
    let is_within = |most: u32| kept.filter(|(_, at)| now - *at < most * SECOND);
    if let Some((kept, _)) = is_within(TTL) {
        return (0, Ok(kept));
    }
    match does {
        Does::Answers => {
            model.insert(key, (number, now + 50 * MS));
            (1, Ok(number))
        }
        Does::Breaks => (1, is_within(STALE).map(|(kept, _)| kept).ok_or(RequestError::Unknown)),
        Does::Fails => (1, Err(RequestError::Failed("no".into()))),
    }
}

/// Several ask the same at once, again and again.
async fn run(seed: u64) -> Found {
    let what = Arc::new(Mutex::new((Does::Answers, 0)));
    let told = Arc::clone(&what);
    let desk = Desk::new(move |asked, out| match *told.lock().unwrap() {
        (Does::Answers, number) => {
            out.send_after(50 * MS, asked.socket, asked.reply(&format!("{number}")));
        }
        (Does::Breaks, _) => out.drop_socket(asked.socket),
        (Does::Fails, _) => out.send(asked.socket, format!("-{} no", asked.id)),
    });
    let (mock, transport) = Mock::in_memory(desk);
    let pool = built(transport, PoolConfig::default()).cache(CacheConfig::default());
    let pool = pool.build().map_err(|e| e.to_string())?;
    let (mut dice, mut model) = (Dice(seed), Model::new());
    for number in 0..60 {
        time::sleep(SECOND * dice.of(&[1, 20, 150, 299, 400, 4000])).await;
        let (key, asking) = (dice.below(3), dice.of(&[1, 2, 5]));
        let does = dice.of(&[Does::Answers, Does::Answers, Does::Breaks, Does::Fails]);
        *what.lock().unwrap() = (does, number);
        let before = mock.tell(|desk, _| desk.heard.len());
        let expected = expected(&mut model, key, does, number, Instant::now());
        let calls = (0..asking).map(|_| pool.request(Call::new(key.to_string()).cached()));
        let outcomes = join_all(calls).await;
        let heard = mock.tell(|desk, _| desk.heard.len()) - before;
        for outcome in outcomes {
            let read = |reply: wsmux::Reply| reply.message()?.as_text()?.parse::<u64>().ok();
            let outcome = outcome.map(|reply| read(reply).unwrap_or(u64::MAX));
            if (heard, &outcome) != (expected.0, &expected.1) {
                return Err(format!(
                    "step {number}: {heard} requests and {outcome:?}, not {expected:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Many replies of 10 kB.
async fn fill() -> Found {
    let desk = Desk::new(|asked, out| {
        out.send(asked.socket, asked.reply(&"x".repeat(10_000)));
    });
    let (_mock, transport) = Mock::in_memory(desk);
    let cache = CacheConfig::default();
    let most = cache.max_bytes;
    let pool = built(transport, PoolConfig::default()).cache(cache);
    let pool = pool.build().map_err(|e| e.to_string())?;
    for key in 0..200 {
        let reply = pool.request(Call::new(key.to_string()).cached()).await;
        reply.map_err(|e| e.to_string())?;
        let entries = pool.cache_stats().unwrap_or_default().entries;
        if entries * 10_000 > most {
            return Err(format!("{entries} replies of 10 kB are kept in {most} bytes"));
        }
    }
    Ok(())
}

fn all(defect: Option<Defect>) -> Found {
    check(defect, fill)?;
    (0..20).try_for_each(|seed| check(defect, async || run(seed).await))
}

#[test]
fn a_cache_answers_as_its_model_does_and_each_mistake_is_found() {
    finds(
        &[
            Defect::FlightsAreAlone,
            Defect::OldIsGiven,
            Defect::RefusalIsCovered,
            Defect::StaleForEver,
            Defect::WeightIsIgnored,
        ],
        all,
    );
}
