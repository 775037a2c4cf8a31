//! What a server of channels says, in both of Phoenix's serializers and as Supabase: a name hears only
//! what comes between its join and its end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::protocol::{Changes, Phoenix, Supabase, SupabaseChannel};
use wsmux_fuzz::talk;

fuzz_target!(|input: &[u8]| {
    let phoenix = Phoenix::new("ws://host").unwrap();
    talk(&phoenix, &["t", "t#a", "u#*"], input);
    talk(&phoenix.v1(), &["t", "t#a", "u#*"], input);
    let channel = SupabaseChannel::default().changes("x", Changes::of("public", "x"));
    let supabase = Supabase::new("ws://host", "key").unwrap().channel("t", channel);
    talk(&supabase, &["t#changes:x", "t#presence", "u#broadcast:x"], input);
});
