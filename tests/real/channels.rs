//! The mocks of channels against the clients that their users have: npm's `phoenix` and
//! `@supabase/realtime-js`. What a mock gets wrong, they would not take.

use rustix::process::Signal;
use serde_json::json;
use wsmux::test_util::{Mock, MockPhoenix, MockSupabase, Service};

use crate::node::script;

fn no_faults<S: Service>(mock: &Mock<S>) {
    assert_eq!(mock.faults(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn phoenix_js_talks_to_the_mock() {
    let mock = Mock::on_port(MockPhoenix::default()).await.unwrap();
    mock.tell(|phoenix, _| phoenix.reject("room:2", "unmatched topic"));
    let url = format!("{}/socket", mock.url());
    let Some(mut client) = script("clients/phoenix.mjs", "phoenix", &[&url]) else { return };
    client.says("pushed").await;
    assert_eq!(mock.tell(|phoenix, _| phoenix.joins())[0], ("room:1".into(), json!({"since": 17})));
    let pushes = mock.tell(|phoenix, _| phoenix.pushes().to_vec());
    assert_eq!(pushes, [("room:1".into(), "shout".into(), json!({"x": 1}))]);
    mock.tell(|phoenix, out| phoenix.publish("room:1", "news", &json!({"n": "é😀"}), out));
    assert_eq!(client.says("news").await, r#"news {"n":"é😀"}"#);
    mock.tell(|phoenix, out| phoenix.publish_binary("room:1", "news", &[1, 2, 3], out));
    assert_eq!(client.says("news").await, "news 3");
    client.says("heartbeat answered").await;
    mock.tell(|phoenix, out| phoenix.crash("room:1", out));
    client.says("crashed").await;
    client.says("pushed").await;
    mock.drop_all();
    client.says("pushed").await;
    assert_eq!(mock.opened(), 2);
    client.signal(Signal::TERM);
    client.says("left").await;
    mock.until_sockets(0).await;
    no_faults(&mock);
}

#[tokio::test(flavor = "multi_thread")]
async fn realtime_js_talks_to_the_mock() {
    let mock = Mock::on_port(MockSupabase::default()).await.unwrap();
    let url = format!("{}/realtime/v1", mock.url());
    let Some(mut client) = script("clients/supabase.mjs", "@supabase/realtime-js", &[&url]) else {
        return;
    };
    client.says("status SUBSCRIBED").await;
    client.says("system ok Subscribed to PostgreSQL").await;
    client.says(r#"broadcast {"own":1}"#).await;
    let joins = mock.tell(|supabase, _| supabase.phoenix().joins());
    assert_eq!(joins[0].0, "realtime:room");
    mock.tell(|supabase, out| {
        supabase.change("INSERT", "todos", &json!({"id": 1}), out);
        supabase.broadcast("room", "cursor", &json!({"x": 2}), out);
    });
    client.says(r#"change INSERT {"id":1}"#).await;
    client.says(r#"broadcast {"x":2}"#).await;
    client.signal(Signal::TERM);
    mock.until_sockets(0).await;
    no_faults(&mock);
}
