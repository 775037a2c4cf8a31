//! What pools have counted, as text for Prometheus, behind that of their managers.
//!
//! A manager's own text is [`WsManager::prometheus`]: what a pool counts is none of its business, and a text
//! behind another is valid where they have no metric in common.
//!
//! # Invariants
//!
//! 1. The series of a pool are a fixed number: labels are the manager's and those of closed sets.
//! 2. One text has each metric once. Pools whose managers have one label are added up.
//! 3. Each count is there from the start, at zero.

use std::sync::Arc;

use metrics::{Key, Label};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};

#[cfg(feature = "cache")]
use super::cache::CacheStats;
use super::counts::PoolStats;
use super::pool::RequestPool;
use crate::manager::{WsManager, prometheus as managers_text};

/// The counts of the pools of one label.
struct Counted<'a> {
    #[cfg(feature = "cache")]
    cache: Option<CacheStats>,
    label: &'a str,
    pool: PoolStats,
}

/// A value, and the label that it has beside the manager's.
type Sample = (Option<(&'static str, &'static str)>, u64);

struct Family {
    help: &'static str,
    kind: &'static str,
    name: &'static str,
    /// `None` where there is nothing to be counted.
    read: fn(&Counted<'_>) -> Option<Vec<Sample>>,
}

/// What `managers` and `pools` have counted, as one text: see [`RequestPool::prometheus`]. The managers are
/// those beside the pools' own, whose counts are in it as well.
///
/// ```
/// use wsmux::WsManager;
/// use wsmux::protocol::Direct;
/// use wsmux::requests::RequestPool;
///
/// let feed = WsManager::builder(Direct::new("wss://feed.example")?).label("feed").build()?;
/// let charts = RequestPool::builder(Direct::new("wss://charts.example")?, "ws");
/// let charts = charts.manager(|manager| manager.label("charts")).build()?;
///
/// let text = wsmux::requests::prometheus([&feed], [&charts]);
/// assert!(text.contains("ws_manager_readers{manager=\"feed\"} 0"));
/// assert!(text.contains("ws_request_pool_in_flight{manager=\"charts\"} 0"));
/// # Ok::<(), wsmux::BuildError>(())
/// ```
#[must_use]
pub fn prometheus<'a>(
    managers: impl IntoIterator<Item = &'a WsManager>,
    pools: impl IntoIterator<Item = &'a RequestPool>,
) -> String {
    let mut distinct: Vec<&RequestPool> = Vec::new();
    for pool in pools {
        if !distinct.iter().any(|other| Arc::ptr_eq(&other.shared, &pool.shared)) {
            distinct.push(pool);
        }
    }
    let own = distinct.iter().map(|pool| pool.manager());
    let mut text = managers_text(managers.into_iter().chain(own));
    let counted = by_label(&distinct);
    FAMILIES.iter().for_each(|family| family.write(&mut text, &counted));
    text
}

impl RequestPool {
    /// What [`stats`](Self::stats) and the cache's return, as text for Prometheus behind that of its
    /// [manager](Self::manager). Needs no recorder.
    ///
    /// Answer a scrape with it as `text/plain; version=0.0.4`. A program with several pools, or with
    /// managers beside them, writes [`prometheus`](fn@prometheus) instead: one such text behind another
    /// is not valid. A pool has 19 series of its own at most, whatever it is asked.
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    #[must_use]
    pub fn prometheus(&self) -> String {
        prometheus([], [self])
    }
}

fn by_label<'a>(pools: &[&'a RequestPool]) -> Vec<Counted<'a>> {
    let mut counted: Vec<Counted<'a>> = Vec::new();
    for pool in pools {
        let more = Counted {
            #[cfg(feature = "cache")]
            cache: pool.cache_stats(),
            label: pool.manager().label(),
            pool: pool.stats(),
        };
        match counted.iter_mut().find(|sum| sum.label == more.label) {
            Some(sum) => sum.add(&more),
            None => counted.push(more),
        }
    }
    counted
}

impl Counted<'_> {
    fn add(&mut self, more: &Self) {
        self.pool.add(&more.pool);
        #[cfg(feature = "cache")]
        if let Some(more) = &more.cache {
            self.cache.get_or_insert_default().add(more);
        }
    }
}

impl Family {
    fn write(&self, text: &mut String, counted: &[Counted<'_>]) {
        let mut lines = String::new();
        for counted in counted {
            for (label, value) in (self.read)(counted).into_iter().flatten() {
                let labels = labels(counted.label, label);
                let no_more = None::<(&str, &str)>;
                write_metric_line(&mut lines, self.name, None, &labels, no_more, value, None);
            }
        }
        if lines.is_empty() {
            return; // No pool has a cache.
        }
        write_help_line(text, self.name, None, None, self.help);
        write_type_line(text, self.name, None, None, self.kind);
        text.push_str(&lines);
        text.push('\n');
    }
}

fn labels(manager: &str, more: Option<(&'static str, &'static str)>) -> LabelSet {
    // The library takes a backslash for one that escapes something.
    let mut labels = vec![Label::new("manager", manager.replace('\\', r"\\"))];
    labels.extend(more.map(|(name, value)| Label::new(name, value)));
    LabelSet::from_key_and_global(&Key::from_parts("", labels), &Default::default())
}

fn one(value: u64) -> Option<Vec<Sample>> {
    Some(vec![(None, value)])
}

static FAMILIES: &[Family] = &[
    Family {
        name: "ws_request_pool_requests_total",
        kind: "counter",
        help: "Requests that have ended, by how.",
        read: |counted| {
            let PoolStats { answered, failed, timed_out, unknown, unsent, .. } = counted.pool;
            let ended = [
                ("answered", answered),
                ("failed", failed),
                ("timed_out", timed_out),
                ("unknown", unknown),
                ("unsent", unsent),
            ];
            Some(ended.map(|(how, count)| (Some(("outcome", how)), count)).into())
        },
    },
    Family {
        name: "ws_request_pool_resent_total",
        kind: "counter",
        help: "Times that an idempotent request was made again.",
        read: |counted| one(counted.pool.resent),
    },
    Family {
        name: "ws_request_pool_moved_total",
        kind: "counter",
        help: "Times that a request went to another connection as its own failed.",
        read: |counted| one(counted.pool.moved),
    },
    Family {
        name: "ws_request_pool_in_flight",
        kind: "gauge",
        help: "Requests that are on a connection, or wait for it to open.",
        read: |counted| one(counted.pool.in_flight as u64),
    },
    Family {
        name: "ws_request_pool_waiting",
        kind: "gauge",
        help: "Requests that wait for a place, as all connections are full.",
        read: |counted| one(counted.pool.waiting),
    },
    Family {
        name: "ws_request_pool_connections",
        kind: "gauge",
        help: "Connections of the pool, by state.",
        read: |counted| {
            let states = [("open", counted.pool.open), ("opening", counted.pool.opening)];
            Some(states.map(|(state, count)| (Some(("state", state)), count as u64)).into())
        },
    },
    Family {
        name: "ws_request_pool_batch_size",
        kind: "gauge",
        help: "Requests of a batch that are in flight at once.",
        read: |counted| one(counted.pool.batch_size as u64),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_hits_total",
        kind: "counter",
        help: "Requests that were answered by what is kept.",
        read: |counted| one(counted.cache?.hits),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_joined_total",
        kind: "counter",
        help: "Requests that were answered by what another one was asking already.",
        read: |counted| one(counted.cache?.joined),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_misses_total",
        kind: "counter",
        help: "Requests of those that may be kept that the server was asked.",
        read: |counted| one(counted.cache?.misses),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_stale_total",
        kind: "counter",
        help: "Requests that failed and were answered by an old reply.",
        read: |counted| one(counted.cache?.stale),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_evictions_total",
        kind: "counter",
        help: "Replies that were given up for want of room.",
        read: |counted| one(counted.cache?.evicted),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_entries",
        kind: "gauge",
        help: "Replies that are kept.",
        read: |counted| one(counted.cache?.entries),
    },
    #[cfg(feature = "cache")]
    Family {
        name: "ws_request_cache_bytes",
        kind: "gauge",
        help: "What the replies that are kept weigh, in bytes.",
        read: |counted| one(counted.cache?.bytes),
    },
];
