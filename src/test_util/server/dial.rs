//! From a TCP connection to a WebSocket, or to whatever else the script answers.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use percent_encoding::percent_decode_str;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, read_request};
use super::conn::{Asked, Conn};
use super::io::{Glance, Io, reset};
use super::peer::Peer;
use super::registry::Registry;
use super::tasks::Tasks;
use super::watched::Watched;
use super::work::Work;

/// What runs a socket.
pub(super) type Handler = Arc<dyn Fn(Peer) -> BoxFuture<'static, ()> + Send + Sync>;

/// What answers a dial by its number.
pub(super) type ByNumber = Arc<dyn Fn(usize) -> Option<Answer> + Send + Sync>;

/// What all dials share.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) script: Watched<Script>,
    pub(super) tasks: Tasks,
    pub(super) tls: Option<TlsAcceptor>,
}

/// What to do with dials.
#[derive(Default)]
pub(super) struct Script {
    /// For the next dials, in order.
    pub(super) next: VecDeque<Answer>,
    /// For any, by its number.
    pub(super) by_number: Option<ByNumber>,
    pub(super) answers: HashMap<String, Answer>,
    pub(super) handlers: HashMap<String, Handler>,
}

/// What `routes` has for a path: a route is exact, or ends in `/` and holds all beneath it. The
/// longest wins.
fn find<'a, T>(routes: &'a HashMap<String, T>, path: &str) -> Option<&'a T> {
    let beneath = path.match_indices('/').map(|(at, _)| &path[..=at]);
    routes.get(path).or_else(|| beneath.rev().find_map(|prefix| routes.get(prefix)))
}

impl Shared {
    /// Accepts dials for as long as it is polled.
    pub(super) async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Such as too many open files: let some be closed.
                tokio::task::yield_now().await;
                continue;
            };
            let number = self.registry.dial();
            let answer = self.script.change(|script| {
                let by_number = || script.by_number.as_ref().and_then(|answer| answer(number));
                script.next.pop_front().or_else(by_number)
            });
            if matches!(answer, Some(Answer::Refuse)) {
                reset(&tcp);
                continue;
            }
            let shared = Arc::clone(&self);
            self.tasks.spawn(async move {
                // A dial that fails is the client's to notice.
                let _ = shared.serve(tcp, answer).await;
            });
        }
    }

    async fn serve(&self, tcp: TcpStream, answer: Option<Answer>) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let mut io: Box<dyn Io> = match &self.tls {
            Some(tls) => Box::new(tls.accept(tcp).await?),
            None => Box::new(tcp),
        };
        let (request, early) = read_request(&mut io).await?;
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        self.registry.dialled(target.to_owned());
        let asked = Asked {
            path: percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned(),
            query: request.uri().query().map(Into::into),
            headers: request.headers().clone(),
        };
        let routed = self.script.read(|script| {
            (
                find(&script.answers, &asked.path).cloned(),
                find(&script.handlers, &asked.path).cloned(),
            )
        });
        let answer = answer.or(routed.0).unwrap_or_default();
        let Some((mut io, rest)) = answer.give(io, &request).await? else { return Ok(()) };
        let counter = Arc::downgrade(&self.registry);
        let (conn, queues) = Conn::new(asked, self.registry.next_id(), counter);
        let work = Work::new(&conn, early, queues);
        let glance = Glance::new(io.tcp());
        // Counted before the client can know of it.
        if !self.registry.open(&conn, &glance).await {
            return Ok(());
        }
        drop(glance);
        // Called before the client can know that it is in: a feed misses nothing from then on.
        let handled = routed.1.map(|handler| handler(Peer(Arc::clone(&conn))));
        io.write_all(&rest).await?;
        io.flush().await?;
        match handled {
            Some(handled) => drop(self.tasks.spawn(handled)),
            None => self.registry.offer(conn),
        }
        work.run(io).await;
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("registry", &self.registry).finish_non_exhaustive()
    }
}
