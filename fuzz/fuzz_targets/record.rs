//! A recording: bytes as they are, or in frames whose checksums are right, which no fuzzer finds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsmux::record::{Item, ReadError, Recording, Records};

/// The largest record: small, so that a fuzzer finds its bound.
const MAX_RECORD: usize = 1000;

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let file = if how % 2 == 0 { bytes.to_vec() } else { framed(bytes) };
    let len = u64::try_from(file.len()).unwrap();
    let mut records = Records::new(&file[..]).max_record(MAX_RECORD);
    let (mut messages, mut failed) = (0, false);
    while let Some(record) = records.next() {
        assert!(!failed, "an error is the last");
        match record {
            Ok(record) => messages += u64::from(matches!(record.item, Item::Message(_))),
            Err(
                ReadError::Corrupt { at }
                | ReadError::Invalid { at, .. }
                | ReadError::TooLarge { at, .. }
                | ReadError::Torn { at },
            ) => {
                failed = true;
                assert_eq!(at, records.position(), "what is before it has been read");
            }
            Err(_) => failed = true,
        }
        assert!(records.position() <= len);
    }
    assert!(records.next().is_none());
    if let Ok(recording) = Recording::from_bytes(file) {
        assert!(recording.messages() >= messages, "a larger record may be read there");
    }
});

/// Each byte is a length, and that many bytes follow as one record.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some((len, rest)) = bytes.split_first() {
        let (data, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let len = u64::try_from(data.len()).unwrap().to_le_bytes();
        file.extend_from_slice(&len);
        file.extend_from_slice(&masked(&len));
        file.extend_from_slice(data);
        file.extend_from_slice(&masked(data));
        bytes = rest;
    }
    file
}

fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
