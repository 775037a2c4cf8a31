//! `docs/gateway/protocol.schema.json` and `batch.schema.json`, and as much of JSON Schema as it uses.

use std::sync::LazyLock;

use serde_json::Value;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../docs/gateway/protocol.schema.json");
    serde_json::from_str(text).expect("the schema is JSON")
});

static BATCH: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../docs/gateway/batch.schema.json");
    serde_json::from_str(text).expect("the schema is JSON")
});

/// Whether the gateway may say this.
pub(crate) fn is_servers(value: &Value) -> bool {
    holds(&SCHEMA, &SCHEMA["$defs"]["server"], value)
}

/// Whether the gateway may say this of a batch.
pub(crate) fn is_of_batch(value: &Value) -> bool {
    holds(&BATCH, &BATCH["$defs"]["event"], value)
}

/// Whether a client may post this as a batch.
pub(crate) fn is_posted(value: &Value) -> bool {
    holds(&BATCH, &BATCH["$defs"]["posted"], value)
}

/// Whether a client may say this.
pub(crate) fn is_clients(value: &Value) -> bool {
    holds(&SCHEMA, &SCHEMA["$defs"]["client"], value)
}

fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    schema.as_object().expect("a schema").iter().all(|(key, rule)| match key.as_str() {
        "$ref" => {
            let at = rule.as_str().and_then(|at| at.strip_prefix('#')).expect("a reference");
            holds(root, root.pointer(at).expect("what is referred to"), value)
        }
        "additionalProperties" => value
            .as_object()
            .is_none_or(|fields| fields.keys().all(|key| schema["properties"].get(key).is_some())),
        "const" => rule == value,
        "description" => true,
        "enum" => rule.as_array().unwrap().contains(value),
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| holds(root, rule, item)))
        }
        "minLength" => {
            value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap())
        }
        "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
        "oneOf" => {
            rule.as_array().unwrap().iter().filter(|one| holds(root, one, value)).count() == 1
        }
        "properties" => value.as_object().is_none_or(|fields| {
            let rules = rule.as_object().unwrap();
            fields
                .iter()
                .all(|(key, value)| rules.get(key).is_none_or(|rule| holds(root, rule, value)))
        }),
        "required" => {
            let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
            rule.as_array().unwrap().iter().all(has)
        }
        "type" => match rule {
            Value::Array(any) => any.iter().any(|one| is(one.as_str().unwrap(), value)),
            one => is(one.as_str().unwrap(), value),
        },
        other => panic!("the schema uses `{other}`, which is not checked"),
    })
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "array" => value.is_array(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        other => panic!("no kind of value: {other}"),
    }
}

#[test]
fn the_schema_refuses_what_is_never_said() {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for good in [
        r#"{"type":"ack","names":[]}"#,
        r#"{"type":"data","name":"a","data":null}"#,
        r#"{"type":"gap","name":"a","reason":"slow","missed":3}"#,
    ] {
        assert!(is_servers(&read(good)), "{good}");
    }
    for bad in [
        "1",
        "{}",
        r#"{"type":"ack","names":[""]}"#,
        r#"{"type":"ack","names":[],"id":[1]}"#,
        r#"{"type":"data","name":"a"}"#,
        r#"{"type":"data","name":"a","data":1,"text":"1"}"#,
        r#"{"type":"gap","name":"a","reason":"weather"}"#,
        r#"{"type":"gap","name":"a","reason":"slow","missed":-1}"#,
        r#"{"type":"subscribe","names":["a"]}"#,
    ] {
        assert!(!is_servers(&read(bad)), "{bad}");
    }
    assert!(is_clients(&read(r#"{"type":"subscribe","id":1,"names":["a"]}"#)));
    assert!(!is_clients(&read(r#"{"type":"subscribe"}"#)));
}

#[test]
fn the_schema_of_batches_refuses_what_is_never_said() {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for good in [
        r#"{"type":"asked","done":0,"failed":0,"total":1,"requests":[{"index":0,"name":"a"}]}"#,
        r#"{"type":"results","done":1,"failed":0,"total":1,"results":[{"index":0,"name":"a","data":null}]}"#,
        r#"{"type":"results","done":1,"failed":0,"total":1,"results":[{"index":0,"name":"a","parts":[]}]}"#,
        r#"{"type":"summary","done":1,"failed":0,"total":1,"reason":"complete"}"#,
    ] {
        assert!(is_of_batch(&read(good)), "{good}");
    }
    for bad in [
        r#"{"type":"asked","done":0,"failed":0,"total":1}"#,
        r#"{"type":"results","done":1,"failed":0,"total":1,"results":[{"index":0,"name":"a"}]}"#,
        r#"{"type":"results","done":1,"failed":0,"total":1,"results":[{"index":0,"name":"a","data":1,"text":"1"}]}"#,
        r#"{"type":"results","done":1,"failed":0,"total":1,"results":[{"index":0,"name":"a","error":{"code":"weather","message":""}}]}"#,
        r#"{"type":"summary","done":1,"failed":0,"total":1,"reason":"weather"}"#,
        r#"{"type":"summary","done":1,"failed":-1,"total":1,"reason":"complete"}"#,
    ] {
        assert!(!is_of_batch(&read(bad)), "{bad}");
    }
    assert!(is_posted(&read(r#"{"requests":["a",{"name":"b","params":{}}]}"#)));
    assert!(!is_posted(&read(r#"{"requests":[{"params":1}]}"#)));
}
