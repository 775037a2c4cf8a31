//! A feed that comes later: for visitors who are sent what others were sent a while ago.
//!
//! What is held is bounded in bytes. Beyond, the oldest gives way to a gap that counts it.

use std::collections::VecDeque;
use std::time::Duration;

use async_stream::stream;
use futures::stream::StreamExt as _;
use tokio::time::{Instant, sleep_until};

use super::news::{Feed, News};
use crate::error::{Gap, StreamError};
use crate::message::Message;

/// What is held of a name, in bytes: what the crate keeps of a stream by default.
const HELD: usize = 16 << 20;

/// All that comes on `feed`, and its end, each `delay` later.
pub(super) fn delayed(feed: Feed, delay: Duration) -> Feed {
    within(feed, delay, HELD)
}

fn within(mut feed: Feed, delay: Duration, limit: usize) -> Feed {
    Box::pin(stream! {
        let mut held = Held::default();
        let mut has_ended = false;
        while !(has_ended && held.news.is_empty()) {
            tokio::select! {
                biased;
                () = until(held.due()) => {
                    for news in held.take() {
                        yield news;
                    }
                }
                news = feed.next(), if !has_ended => match news {
                    Some(news) => held.put(news, Instant::now() + delay, limit),
                    None => has_ended = true,
                },
            }
        }
    })
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// How many messages gave way before the oldest that is here.
    missed: u64,
    news: VecDeque<(Instant, News)>,
}

impl Held {
    fn due(&self) -> Option<Instant> {
        self.news.front().map(|(due, _)| *due)
    }

    fn put(&mut self, news: News, due: Instant, limit: usize) {
        self.bytes += len(&news);
        self.news.push_back((due, news));
        // The newest stays, however long it is.
        while self.bytes > limit && self.news.len() > 1 {
            if let Some((_, oldest)) = self.news.pop_front() {
                self.bytes -= len(&oldest);
                self.missed += messages(&oldest);
            }
        }
    }

    /// The oldest, after what is to be told before it.
    fn take(&mut self) -> impl Iterator<Item = News> + use<> {
        let missed = std::mem::take(&mut self.missed);
        let gap = Err(StreamError::Gap(Gap::Lagged { missed }));
        let gap = (missed > 0).then(|| News::Batch(vec![gap]));
        let news = self.news.pop_front().map(|(_, news)| news);
        self.bytes -= news.as_ref().map_or(0, len);
        gap.into_iter().chain(news)
    }
}

fn len(news: &News) -> usize {
    match news {
        News::Batch(batch) => batch.iter().flatten().map(Message::len).sum(),
        News::Status(_) => 0,
    }
}

fn messages(news: &News) -> u64 {
    match news {
        News::Batch(batch) => batch.iter().flatten().count() as u64,
        News::Status(_) => 0,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A number each second, from 0 on.
    fn numbers(count: u64) -> Feed {
        Box::pin(stream::iter(0..count).then(|number| async move {
            tokio::time::sleep(SECOND).await;
            News::Batch(vec![Ok(number.to_string().into())])
        }))
    }

    fn text(news: &News) -> String {
        match news {
            News::Batch(batch) => match &batch[0] {
                Ok(message) => message.as_text().unwrap().to_owned(),
                Err(notice) => notice.to_string(),
            },
            News::Status(status) => (*status).to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_of_it_comes_later_in_its_order_and_so_does_the_end() {
        let begun = Instant::now();
        let mut feed = delayed(numbers(3), 10 * SECOND);
        for number in 0..3_u32 {
            assert_eq!(text(&feed.next().await.unwrap()), number.to_string());
            assert_eq!(begun.elapsed().as_secs(), u64::from(number) + 11);
        }
        assert!(feed.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_to_hold_is_told_as_a_gap_in_its_place() {
        let mut feed = within(numbers(10), 60 * SECOND, 4);
        assert!(text(&feed.next().await.unwrap()).contains("missed 6"));
        for number in 6..10 {
            assert_eq!(text(&feed.next().await.unwrap()), number.to_string());
        }
        assert!(feed.next().await.is_none());
    }
}
