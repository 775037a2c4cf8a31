//! `wsmux serve` whose tiers another server tells.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use tokio::net::TcpListener;

use super::serve::{Gateway, Temporary, ask};
use super::*;

const KEY: &str = "canary-key-of-ann-0123456789";
const SECRET: &str = "Bearer canary-secret";

/// What such a server was asked, and in which words it answers.
#[derive(Clone, Default)]
struct Users {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Users {
    /// Its address.
    async fn start(&self, answer: &'static str) -> String {
        let asked = Arc::clone(&self.asked);
        let route = post(move |headers: HeaderMap, question: String| async move {
            let secret = headers.get("authorization").map(|value| value.to_str().unwrap());
            asked.lock().unwrap().push(format!("{} {question}", secret.unwrap_or("none")));
            answer
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/tiers", listener.local_addr().unwrap());
        let router = Router::new().route("/tiers", route);
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn config(tiers: &str) -> String {
    format!(
        "[[auth.api_keys]]\nuser = \"ann\"\nkey = {{ env = \"ANN\" }}\n\
         [tiers]\nlowest = \"free\"\n[tiers.tier.free]\npatterns = [\"btc*\"]\n[tiers.tier.gold]\n{tiers}"
    )
}

fn told_by(url: &str) -> String {
    config(&format!("[tiers.http]\nurl = \"{url}\"\nsecret = {{ env = \"USERS\" }}\n"))
}

/// Whether the user may read what only the better tier may.
async fn is_gold(gateway: &Gateway) -> bool {
    let bearer = format!("authorization: Bearer {KEY}\r\n");
    let status = async |name: &str| {
        ask(&gateway.at, "GET", &format!("/snapshot/{name}@trade"), &bearer).await.0
    };
    assert_eq!(status("btcusdt").await, 200);
    status("ethusdt").await == 200
}

#[tokio::test]
async fn tiers_come_from_another_server_and_from_yet_another_after_sighup() {
    let users = Users::default();
    let good = users.start(r#"{"tiers":{"ann":"gold"}}"#).await;
    let bad = users.start("canary-words").await;
    let file = Temporary::new("tiers", &told_by(&good));
    let mut command =
        command(&["serve", "--demo", "-vvv", "--listen", "127.0.0.1:0", "--config", file.path()]);
    command.env("ANN", KEY).env("USERS", SECRET);
    let mut gateway = Gateway::spawn(command).await;
    assert!(is_gold(&gateway).await);
    let asked = users.asked();
    let question = format!("{SECRET} {{\"users\":[\"ann\"]}}");
    assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == question), "{asked:?}");

    let mut stderr = BufReader::new(gateway.program.child.stderr.take().unwrap());
    let mut said = String::new();
    for (text, end) in [
        (config("[tiers.users]\nann = \"gold\"\n"), "the configuration stays what it was\n"),
        (told_by("http://192.0.2.1/"), "the configuration stays what it was\n"),
        (told_by(&bad), "the configuration was read again\n"),
    ] {
        assert!(is_gold(&gateway).await, "{text}");
        std::fs::write(file.path(), text).unwrap();
        gateway.program.signal(Signal::HUP);
        while !said.ends_with(end) {
            assert_ne!(within(stderr.read_line(&mut said)).await.unwrap(), 0, "{said}");
        }
        said.push('\n');
    }
    users.asked();
    assert!(!is_gold(&gateway).await, "who is not known is of the lowest");
    assert!(!users.asked().is_empty());
    gateway.program.signal(Signal::TERM);
    within(stderr.read_to_string(&mut said)).await.unwrap();
    assert!(said.contains("`http:` on another machine"), "{said}");
    assert!(said.contains("tiers cannot be looked up"), "{said}");
    for secret in [KEY, "canary"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_server_for_tiers_that_makes_no_sense_is_refused_at_the_start() {
    for (tiers, why) in [
        ("[tiers.http]\nurl = \"ftp://canary/\"\n", "the address is of no use"),
        ("[tiers.http]\nurl = \"http://192.0.2.1/?canary\"\n", "`http:` on another machine"),
        (
            "[tiers.http]\nurl = \"https://a/\"\nsecret = { env = \"NO_SUCH_VARIABLE\" }\n",
            "NO_SUCH_VARIABLE is not set",
        ),
        ("[tiers.http]\nurl = \"https://a/\"\nca = \"/no/such/file\"\n", "cannot read"),
        ("[tiers.http]\nurl = \"https://a/\"\n[tiers.users]\nann = \"gold\"\n", "[tiers.users]"),
    ] {
        let text =
            config(tiers).replace("key = { env = \"ANN\" }", &format!("sha256 = \"{:064}\"", 0));
        let file = Temporary::new("no-tiers", &text);
        let ran =
            run(&["serve", "--demo", "--listen", "127.0.0.1:0", "--config", file.path()]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
        assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
    }
}
