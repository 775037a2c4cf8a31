//! A defect that is there to be found: it shows that the fuzzer sees where it gets, and that the
//! script reports what it finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::transport::{Frame, Script};
use wsmux_fuzz::{read, run};

fuzz_target!(|frames: &[u8]| {
    let (frames, _) = run(read(Script::frames(frames)));
    let said = frames
        .iter()
        .any(|frame| matches!(frame, Frame::Data(m) if m.as_bytes().starts_with(b"no")));
    assert!(!said, "the planted defect");
});
