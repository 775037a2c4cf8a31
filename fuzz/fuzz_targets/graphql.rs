//! What a GraphQL server says: a name hears only what comes between its join and its end.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::{GraphqlWs, Operation};
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let graphql = GraphqlWs::new("ws://host").unwrap();
    let graphql = graphql.keep_alive(Duration::from_secs(20), Duration::from_secs(5));
    let names = ["a", "b"];
    let graphql = names.into_iter().fold(graphql, |graphql, name| {
        graphql.define(name, Operation::new(format!("subscription {{ {name} }}")))
    });
    talk(&graphql, &names, input);
});
