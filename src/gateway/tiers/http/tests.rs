use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::gateway::auth::Identity;
use crate::gateway::fetch::tests::Server;
use crate::gateway::tiers::{Tier, Tiers};

/// A server that knows who is of which tier, and writes down what it is asked.
struct Users {
    asked: Arc<Mutex<Vec<usize>>>,
    connections: Arc<Mutex<HashSet<SocketAddr>>>,
    server: Server,
}

impl Users {
    /// Everybody is `gold` whose name ends with a digit that is even.
    async fn start() -> Self {
        Self::saying(|users| {
            let tier = |user: &str| user.ends_with(['0', '2', '4', '6', '8']).then_some("gold");
            let tiers: HashMap<_, _> = users.iter().map(|user| (*user, tier(user))).collect();
            json!({ "tiers": tiers }).to_string().into_response()
        })
        .await
    }

    async fn saying(answer: impl Fn(&[&str]) -> Response + Clone + Send + Sync + 'static) -> Self {
        let (asked, connections) =
            (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<HashSet<_>>>::default());
        let (log, peers) = (Arc::clone(&asked), Arc::clone(&connections));
        let asks = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, question: String| async move {
            let question: Value = serde_json::from_str(&question).unwrap();
            let users = question["users"].as_array().unwrap();
            let users: Vec<_> = users.iter().map(|user| user.as_str().unwrap()).collect();
            log.lock().unwrap().push(users.len());
            peers.lock().unwrap().insert(peer);
            answer(&users)
        };
        let server = Server::start(Router::new().route("/asked", post(asks))).await;
        Self { asked, connections, server }
    }

    fn tiers(&self) -> HttpTiers {
        HttpTiers::new(self.server.fetch().build().unwrap())
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }
}

fn names(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// One that makes each mistake there is: it asks for each user alone, takes whatever it reads, however long,
/// for an answer, and goes where it is sent.
struct Careless(String);

impl TierSource for Careless {
    fn look_up<'a>(
        &'a self,
        users: &'a [Arc<str>],
    ) -> BoxFuture<'a, Result<TiersByUser, TierError>> {
        Box::pin(async move {
            let mut tiers = TiersByUser::new();
            for user in users {
                let answer = said(&self.0, user).await;
                let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
                let answer = match location {
                    Some(to) => said(to, user).await,
                    None => answer,
                };
                let body = answer.split_once("\r\n\r\n").unwrap().1;
                let body: Value = serde_json::from_str(body).map_err(TierError::new)?;
                let found = body["tiers"].as_object().unwrap().iter();
                tiers.extend(found.map(|(user, tier)| {
                    (Arc::from(&**user), Arc::from(tier.as_str().unwrap_or_default()))
                }));
            }
            Ok(tiers)
        })
    }
}

/// All that a server says.
async fn said(url: &str, user: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let body = json!({ "users": [user] }).to_string();
    let request = format!(
        "POST /{path} HTTP/1.0\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What the source that is made for a server does wrong.
async fn faults<S: TierSource>(source: impl Fn(&Server) -> S) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let ann = names(&["ann"]);
    let good = r#"{"tiers":{"ann":"gold","uninvited":"gold"}}"#;

    let users = Users::start().await;
    source(&users.server).look_up(&names(&["a0", "b1", "c2"])).await.unwrap();
    if users.asked() != [3] {
        faults.push("asks for each alone");
    }

    let users = Users::saying(move |_| good.into_response()).await;
    if source(&users.server).look_up(&ann).await.unwrap().len() != 1 {
        faults.push("takes what it has not asked for");
    }

    let users =
        Users::saying(move |_| (StatusCode::INTERNAL_SERVER_ERROR, good).into_response()).await;
    if source(&users.server).look_up(&ann).await.is_ok() {
        faults.push("believes a failure");
    }

    let long = format!("{}{good}", " ".repeat(2 << 20));
    let users = Users::saying(move |_| long.clone().into_response()).await;
    if source(&users.server).look_up(&ann).await.is_ok() {
        faults.push("reads without end");
    }

    let elsewhere = Users::saying(move |_| good.into_response()).await;
    let to = elsewhere.server.url();
    let users = Users::saying(move |_| {
        (StatusCode::TEMPORARY_REDIRECT, [("location", &*to)]).into_response()
    })
    .await;
    let _ = source(&users.server).look_up(&ann).await;
    if !elsewhere.asked().is_empty() {
        faults.push("goes where it is sent");
    }
    faults
}

#[tokio::test]
async fn many_are_asked_for_at_once_and_only_a_whole_good_answer_counts() {
    let made = |server: &Server| HttpTiers::new(server.fetch().build().unwrap());
    assert_eq!(faults(made).await, [""; 0]);
}

#[tokio::test]
async fn a_source_that_makes_these_mistakes_is_found_out() {
    let found = faults(|server| Careless(server.url())).await;
    let all = [
        "asks for each alone",
        "takes what it has not asked for",
        "believes a failure",
        "reads without end",
        "goes where it is sent",
    ];
    assert_eq!(found, all);
}

#[tokio::test]
async fn whoever_is_not_named_or_is_null_is_unknown() {
    let users = Users::saying(|_| r#"{"tiers":{"ann":"gold","bob":null}}"#.into_response()).await;
    let found = users.tiers().look_up(&names(&["ann", "bob", "eve"])).await.unwrap();
    assert_eq!(found, HashMap::from([("ann".into(), "gold".into())]));
}

#[tokio::test]
async fn names_go_there_and_back_whatever_is_in_them() {
    let users = Users::saying(|users| {
        let all: HashMap<_, _> = users.iter().map(|user| (*user, user.len().to_string())).collect();
        json!({ "tiers": all }).to_string().into_response()
    })
    .await;
    let odd = names(&["a\"b", "\u{1f980}", "a\\\n", "{}", " ", "\u{0}"]);
    let found = users.tiers().look_up(&odd).await.unwrap();
    for name in &odd {
        assert_eq!(*found[name], *name.len().to_string(), "{name:?}");
    }
}

#[tokio::test]
async fn another_shape_is_no_answer() {
    let shapes =
        ["[]", "{}", r#"{"tiers":[]}"#, r#"{"tiers":{"ann":1}}"#, r#"{"ann":"gold"}"#, "null"];
    for shape in shapes {
        let users = Users::saying(move |_| shape.into_response()).await;
        assert!(users.tiers().look_up(&names(&["ann"])).await.is_err(), "{shape}");
        assert_eq!(users.asked(), [1], "nothing is asked twice");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let users = Users::start().await;
    let tiers = users.tiers();
    for _ in 0..20 {
        tiers.look_up(&names(&["ann"])).await.unwrap();
    }
    assert_eq!(users.asked().len(), 20);
    assert_eq!(users.connections.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn ten_thousand_users_cost_some_twenty_requests_and_none_once_they_are_there() {
    let users = Users::start().await;
    let tiers = Tiers::builder(Tier::new("lowest"))
        .tier(Tier::new("gold"))
        .source(users.tiers())
        .timeout(Duration::from_secs(60))
        .ttl(Duration::from_secs(3600))
        .build();
    let all: Vec<_> = (0..10_000).map(|n| Identity::new(&n.to_string()).unwrap()).collect();
    let members = join_all(all.iter().map(|user| tiers.member(user))).await;
    let asked = users.asked();
    assert_eq!(asked.iter().sum::<usize>(), 10_000, "each once");
    assert!(asked.len() <= 21, "{asked:?}");
    for (n, member) in members.iter().enumerate() {
        let expected = if n % 2 == 0 { "gold" } else { "lowest" };
        assert_eq!(&*member.tier().name, expected, "{n}");
    }
    join_all(all.iter().map(|user| tiers.member(user))).await;
    assert_eq!(users.asked().len(), asked.len(), "what is known is in memory");
    assert_eq!(tiers.failures(), 0);
}

#[tokio::test]
async fn another_server_is_asked_from_then_on() {
    let (old, new) = (Users::start().await, Users::start().await);
    let tiers = old.tiers();
    let clone = tiers.clone();
    tiers.look_up(&names(&["ann"])).await.unwrap();
    clone.replace(new.server.fetch().build().unwrap());
    tiers.look_up(&names(&["ann"])).await.unwrap();
    assert_eq!((old.asked().len(), new.asked().len()), (1, 1));
}
