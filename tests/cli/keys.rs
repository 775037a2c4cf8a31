//! `wsmux serve` whose tokens are signed by keys that their issuer publishes.

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::serve::{Gateway, Temporary, ask};
use super::*;

/// A set with one key, and a token of `ann` for `gateway` that was made with it by `openssl`, good until 2100.
const KEYS: &str = concat!(
    r#"{"keys":[{"kty":"RSA","use":"sig","e":"AQAB","n":"xgb_Os7OPfkw2qLW96N30tByaRVZp6TUf5R511o1bzMasTqzGGD0"#,
    "xjeidFeld6Gu2u7pQ7Q2UdpDYE42ZrSLMlyivIy0GuVx3a0npF4smjUeiBK9fPFnOMQU5DxwEc5y-o8IVpoyIS2CQm2295ybVna1sSSv",
    "KvDPiv_UvxYB4kXTwPuDdKdSDx2RgxPB4ed0VYlTuRHBbAHIwi6zaDMFfZwhO4gutkAuF8is2xkvS0tZySUfxnB-BcMT9GgUOfMkuBBt",
    "LwwRqLI7DLrB7RtBY_OmxdkHimkBRtmno30BPJxBAOQ7iwL8rRiSAANaMqk_Vqik97HveQ15hYW0zmdD9Q\"}]}",
);
const TOKEN: &str = concat!(
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJhdWQiOiJnYXRld2F5IiwiZXhwIjo0MTA",
    "yNDQ0ODAwfQ.GYmtdkccIzmdD9wyjYOvxN6ExGTo3FY8SQFNPHhW5ouifj0CaDnvO5kONVNUlzuk66osB0Naujkh",
    "4LmgcF7x42e4xC5g0C3WdENvRzfjUWi8YXOaljXiyh1q9CWPE3issCns2xdHT4LYbx_CMtBn3y5cMdnj8YZ1YsyG",
    "I0dOavEfEUi4kjkmJlHGLDDnEm3I6YeI0rAU_KouLg3DRj18HlUtc9ADtCcXAHTvvpp8MYjVX1vh1MLLY_Xk0TAc",
    "z5rSXW_fHzNzNrpfchwTxqjeNblh4gtVsywHQSw_fVl1g2jwethjc_KHPJPEYXbqO9-gn7ttfI901_vxaIfeaTMt",
    "Cg",
);

fn config(algorithm: &str, keys: &str) -> String {
    format!("[auth.jwt]\naudience = \"gateway\"\nalgorithms = [\"{algorithm}\"]\n{keys}\n")
}

async fn status(gateway: &Gateway) -> u16 {
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    ask(&gateway.at, "GET", "/snapshot/btcusdt@trade", &bearer).await.0
}

#[tokio::test]
async fn tokens_are_good_by_keys_of_a_server_and_of_a_file() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let router = Router::new().route("/keys", get(async || KEYS));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let file = Temporary::new("jwks", KEYS);
    let server = format!("[auth.jwt.jwks]\nurl = \"{url}\"");
    let in_file = format!("jwks_file = \"{}\"", file.path());
    for (algorithm, keys, expected) in
        [("RS256", &server, 200), ("RS256", &in_file, 200), ("RS512", &server, 401)]
    {
        let config = Temporary::new("keys-of-others", &config(algorithm, keys));
        let gateway = Gateway::start(&["--demo", "--config", config.path()]).await;
        assert_eq!(status(&gateway).await, expected, "{algorithm} {keys}");
        gateway.program.signal(Signal::HUP);
        assert_eq!(status(&gateway).await, expected, "{algorithm} {keys}");
    }
}

#[tokio::test]
async fn published_keys_that_make_no_sense_are_refused_at_the_start() {
    let other = "jwks_file = \"/no/such/file\"".to_owned();
    let secret = Temporary::new("jwks-of-secrets", r#"{"keys":[{"kty":"oct","k":"canary"}]}"#);
    let symmetric = format!("jwks_file = \"{}\"", secret.path());
    for (algorithm, keys, why) in [
        ("RS256", &*symmetric, "no key of the set"),
        ("HS256", &symmetric, "algorithms with public keys"),
        ("canary", &symmetric, "none of the algorithms"),
        ("RS256", &*other, "cannot read"),
        ("RS256", "", "[auth.jwt] has no keys"),
        ("HS256", "[auth.jwt.jwks]\nurl = \"https://a/\"", "algorithms with public keys"),
        ("RS256", "[auth.jwt.jwks]\nurl = \"http://192.0.2.1/\"", "`http:` on another machine"),
    ] {
        let config = Temporary::new("bad-keys-of-others", &config(algorithm, keys));
        let ran =
            run(&["serve", "--upstream", "ws://127.0.0.1:1/", "--config", config.path()]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    }
}
