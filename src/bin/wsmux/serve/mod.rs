//! `wsmux serve`: streams for everybody else.
//!
//! - What it prints on stdout is where it can be reached, one line each. It is ready when the last of
//!   these lines is there.
//! - SIGTERM and Ctrl-C: it is not ready any more, accepts nobody, closes its clients with 1001 over
//!   `drain`, and ends with 0. A second one ends it at once.
//! - SIGHUP: reads the configuration again. One that makes no sense is told of, and changes nothing.

mod batch;
mod config;
mod doors;
mod fetch;
mod state;
mod upstream;

use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use wsmux::WsManager;
use wsmux::gateway::listen::{ListenConfig, listen};
use wsmux::gateway::{Gateway, GatewayBuilder, GatewayConfig, Ops, SlowClient};

use self::batch::Batches;
use self::config::{File, Slow};
use self::doors::Doors;
use crate::args::{Serve, Speaks};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

/// Over how long clients are closed.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Serve) -> Result<Exit, Failure> {
    let mut signals = Signals::new().map_err(|e| Failure::io("cannot wait for signals", &e))?;
    let mut hangups = Hangups::new()?;
    let file = read(&args)?;
    let exchange = if args.demo { Some(upstream::demo().await?) } else { None };
    let url = exchange.as_ref().map(|exchange| exchange.url());
    let url = url.or_else(|| args.upstream.clone()).or_else(|| file.upstream.clone());
    let Some(url) = url else {
        return Err(Failure::usage("where do the streams come from?")
            .hint("`--upstream wss://…`, or `--demo` for an exchange that needs no network"));
    };
    let names = file.limits.names.unwrap_or(512);
    let manager = upstream::manager(&url, speaks(&args, &file)?, names)?;
    let serving = Serving::start(&args, &file, manager).await?;
    loop {
        tokio::select! {
            () = signals.recv() => break,
            () = hangups.recv() => serving.reload(&args),
        }
    }
    let drain = file.drain.map_or(DRAIN, |drain| drain.0);
    tokio::select! {
        () = serving.end(drain) => {}
        () = signals.recv() => {}
    }
    Ok(Exit::Done)
}

fn read(args: &Serve) -> Result<File, Failure> {
    args.config.as_deref().map_or_else(|| Ok(File::default()), File::read)
}

fn anonymous(args: &Serve) -> bool {
    args.anonymous || args.demo
}

fn speaks(args: &Serve, file: &File) -> Result<Speaks, Failure> {
    use clap::ValueEnum as _;

    match (args.protocol, &file.protocol) {
        _ if args.demo => Ok(Speaks::Direct),
        (Some(speaks), _) => Ok(speaks),
        (None, Some(name)) => Speaks::from_str(name, false).map_err(|_| {
            let all = Speaks::value_variants().iter().filter_map(Speaks::to_possible_value);
            let all: Vec<_> = all.map(|one| format!("`{}`", one.get_name())).collect();
            config::wrong(format!("`protocol` is none of {}", all.join(", ")))
        }),
        (None, None) => Ok(Speaks::Direct),
    }
}

/// What runs.
struct Serving {
    batches: Option<Batches>,
    doors: Doors,
    gateway: Gateway,
    ops: Ops,
    state: Option<state::Keeper>,
    stop: watch::Sender<Stage>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What has ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stage {
    Serving,
    Draining,
    Over,
}

impl Serving {
    async fn start(args: &Serve, file: &File, manager: WsManager) -> Result<Self, Failure> {
        let doors = Doors::new(file, anonymous(args))?;
        let batches = Batches::of(file)?;
        let path = args.state.as_ref().or(file.state.as_ref());
        let kept = path.cloned().map(state::Kept::open).transpose()?;
        let mut gateway = gateway(file, manager, &doors, kept.as_ref());
        if let Some(batches) = &batches {
            gateway = batches.offer(gateway);
        }
        let gateway = gateway.build();
        let mut ops = Ops::new(gateway.clone()).entrance(doors.entrance.clone());
        if let Some(token) = &file.operator {
            ops = ops.token(token.read()?);
        }
        let address = args.listen.or(file.listen);
        let public = bind("--listen", address.unwrap_or(([127, 0, 0, 1], 8080).into())).await?;
        let admin = match args.admin.or(file.admin) {
            Some(address) => Some(bind("--admin", address).await?),
            None => None,
        };
        let (stop, stage) = watch::channel(Stage::Serving);
        let mut lines = lines(&public, admin.as_ref(), args.demo);
        let place = match admin {
            Some(_) => Operators::Apart,
            None if args.demo => Operators::WithClients,
            None => Operators::Nowhere,
        };
        let (router, operators) = routers(&gateway, &doors, &ops, place);
        let mut tasks = vec![serve(public, router, stage.clone(), Stage::Draining)];
        tasks.extend(admin.map(|admin| serve(admin, operators, stage, Stage::Over)));
        let state = match kept {
            Some(kept) => Some(state::Keeper::start(kept, &gateway).await),
            None => None,
        };
        ops.set_ready(true);
        lines.push_str("ready\n");
        // Where nobody reads it, it serves all the same.
        let _ = std::io::stdout().write_all(lines.as_bytes());
        Ok(Self { batches, doors, gateway, ops, state, stop, tasks })
    }

    /// Reads the configuration again.
    fn reload(&self, args: &Serve) {
        match read(args).and_then(|file| self.take(&file, args)) {
            Ok(()) => tell("the configuration was read again\n"),
            Err(failure) => {
                failure.told();
                tell("the configuration stays what it was\n");
            }
        }
    }

    /// Nothing is changed where it fails.
    fn take(&self, file: &File, args: &Serve) -> Result<(), Failure> {
        let checked = Batches::check(self.batches.as_ref(), file)?;
        self.doors.reload(file, anonymous(args))?;
        if let (Some(batches), Some(checked)) = (&self.batches, checked) {
            batches.take(checked);
        }
        Ok(())
    }

    async fn end(self, drain: Duration) {
        self.ops.set_ready(false);
        if let Some(state) = &self.state {
            state.save(&self.gateway).await;
        }
        let _ = self.stop.send(Stage::Draining);
        self.gateway.drain(drain).await;
        self.gateway.manager().shutdown().await;
        if let Some(batches) = &self.batches {
            batches.end().await;
        }
        let _ = self.stop.send(Stage::Over);
        for task in self.tasks {
            let _ = task.await;
        }
    }
}

/// Where what operators see is served.
#[derive(Clone, Copy, Debug)]
enum Operators {
    Apart,
    Nowhere,
    WithClients,
}

/// What clients and operators find. The dashboard shows everybody's streams: where operators have a place of
/// their own, it is there, and with it what its pages read from. A demo has nothing to hide.
fn routers(gateway: &Gateway, doors: &Doors, ops: &Ops, operators: Operators) -> (Router, Router) {
    let clients = gateway.router().merge(doors.entrance.router());
    match operators {
        Operators::Apart => {
            let admin = ops.admin().merge(clients.clone()).merge(gateway.pages());
            (clients.merge(ops.public()), admin)
        }
        Operators::Nowhere => {
            (clients.merge(ops.public()).merge(gateway.pages()), Router::default())
        }
        Operators::WithClients => {
            (clients.merge(ops.admin()).merge(gateway.pages()), Router::default())
        }
    }
}

fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn gateway(
    file: &File,
    manager: WsManager,
    doors: &Doors,
    kept: Option<&state::Kept>,
) -> GatewayBuilder {
    let builder = Gateway::builder(manager.clone())
        .config(gateway_config(file))
        .doors(doors.entrance.clone())
        .names(doors.names(manager));
    match kept.and_then(state::Kept::positions) {
        Some(positions) => builder.ids_after(positions),
        None => builder,
    }
}

fn gateway_config(file: &File) -> GatewayConfig {
    let limits = &file.limits;
    let mut config = GatewayConfig::default();
    config.max_message = limits.max_message.unwrap_or(config.max_message);
    config.names_per_client = limits.names_per_client.unwrap_or(config.names_per_client);
    if let Some(batch) = &file.batch {
        config.batches = batch.at_once.unwrap_or(config.batches);
        config.batch_requests = batch.requests.unwrap_or(config.batch_requests);
    }
    config.queue_bytes = limits.queue_bytes.unwrap_or(config.queue_bytes);
    config.slow = match limits.slow {
        Slow::Conflate => SlowClient::Conflate,
        Slow::Disconnect => SlowClient::Disconnect,
        Slow::DropOldest => SlowClient::DropOldest,
    };
    config
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|e| Failure::listen(option, address, &e))
}

fn serve(
    listener: TcpListener,
    router: Router,
    mut stage: watch::Receiver<Stage>,
    until: Stage,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(listen(listener, router, ListenConfig::default(), async move {
        let _ = stage.wait_for(|stage| *stage >= until).await;
    }))
}

/// Where it can be reached.
fn lines(public: &TcpListener, admin: Option<&TcpListener>, demo: bool) -> String {
    let shown = |listener: &TcpListener| {
        listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
    };
    let mut text = format!("clients http://{}\n", shown(public));
    if let Some(operators) = admin.or(demo.then_some(public)) {
        text += &format!("operators http://{}\n", shown(operators));
    }
    text += &format!("dashboard http://{}/\n", shown(admin.unwrap_or(public)));
    if demo {
        let at = shown(public);
        for url in [
            "ws://{}/ws/btcusdt@trade",
            "http://{}/sse/btcusdt@trade",
            "http://{}/snapshot/btcusdt@trade",
            "http://{}/metrics",
        ] {
            text += &format!("try {}\n", url.replace("{}", &at));
        }
    }
    text
}

/// SIGHUP, where there is one.
struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    #[cfg(unix)]
    fn new() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};

        let signal = signal(SignalKind::hangup());
        Ok(Self { signal: signal.map_err(|e| Failure::io("cannot wait for SIGHUP", &e))? })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, Failure> {
        Ok(Self {})
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        pending().await
    }
}
