//! The framing of `TFRecord`: length, checksum, data, checksum.
//!
//! What is read is not believed before its checksum has been seen, and no more memory is taken than
//! there are bytes.

use std::io::{self, Read};

use bytes::Bytes;

use super::reading::ReadError;

/// Bytes of a record before its data, and behind it.
pub(super) const HEAD: usize = 12;
pub(super) const TAIL: usize = 4;

/// Taken at once for a record that says it is long.
const CHUNK: usize = 256 << 10;

/// Appends `fill`'s data as one record.
pub(super) fn write(
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let start = out.len();
    out.extend([0; HEAD]);
    if let Err(e) = fill(out) {
        out.truncate(start);
        return Err(e);
    }
    let data = start + HEAD;
    let len = ((out.len() - data) as u64).to_le_bytes();
    let crc = masked(&out[data..]).to_le_bytes();
    out[start..start + 8].copy_from_slice(&len);
    out[start + 8..data].copy_from_slice(&masked(&len).to_le_bytes());
    out.extend(crc);
    Ok(())
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Reads the record that begins at `at`, with at most `max` bytes of data; `None` at the end.
pub(super) fn read(from: &mut impl Read, at: u64, max: usize) -> Result<Option<Bytes>, ReadError> {
    let head = up_to(from, HEAD)?;
    if head.is_empty() {
        return Ok(None);
    }
    let Some((len, crc)) = head.split_first_chunk::<8>().filter(|(_, crc)| crc.len() == 4) else {
        return Err(ReadError::Torn { at });
    };
    if *crc != masked(len).to_le_bytes() {
        let is_zero = head.iter().all(|byte| *byte == 0) && is_zero_to_the_end(from)?;
        return Err(if is_zero { ReadError::Torn { at } } else { ReadError::Corrupt { at } });
    }
    let len = u64::from_le_bytes(*len);
    let Some(wanted) = usize::try_from(len).ok().filter(|len| *len <= max) else {
        return Err(ReadError::TooLarge { at, len, max });
    };
    let mut data = up_to(from, wanted + TAIL)?;
    if data.len() < wanted + TAIL {
        return Err(ReadError::Torn { at });
    }
    let crc = data.split_off(wanted);
    if crc != masked(&data).to_le_bytes() {
        // The last one may have been on its way to the disk.
        let is_last = up_to(from, 1)?.is_empty();
        return Err(if is_last { ReadError::Torn { at } } else { ReadError::Corrupt { at } });
    }
    Ok(Some(data.into()))
}

/// Reads `len` bytes, or all that there are.
fn up_to(from: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len.min(CHUNK));
    from.take(len as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_zero_to_the_end(from: &mut impl Read) -> io::Result<bool> {
    loop {
        let bytes = up_to(from, CHUNK)?;
        if bytes.is_empty() {
            return Ok(true);
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn framed(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, |out| {
            out.extend(data);
            Ok(())
        })
        .unwrap();
        out
    }

    /// Against twenty lines of Python, which check the value that CRC-32C's catalogue gives.
    #[test]
    fn the_framing_is_that_of_tfrecord() {
        assert_eq!(HEXLOWER.encode(&framed(b"abc")), "0300000000000000b099490e6162636e57f121");
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        let mut lie = u64::MAX.to_le_bytes().to_vec();
        lie.extend(masked(&lie).to_le_bytes());
        let read_it = |max| read(&mut &lie[..], 7, max).unwrap_err();
        assert!(matches!(read_it(10), ReadError::TooLarge { at: 7, len: u64::MAX, max: 10 }));
        let mut long = (1_u64 << 30).to_le_bytes().to_vec();
        long.extend(masked(&long).to_le_bytes());
        long.extend([0; 100]);
        let torn = read(&mut &long[..], 0, 1 << 30).unwrap_err();
        assert!(matches!(torn, ReadError::Torn { at: 0 }), "and it ends at once: {torn}");
    }

    #[test]
    fn zeros_to_the_end_are_a_torn_one_and_other_bytes_are_damage() {
        let mut bytes = vec![0; 100_000];
        assert!(matches!(read(&mut &bytes[..], 0, 10), Err(ReadError::Torn { .. })));
        bytes[99_999] = 1;
        assert!(matches!(read(&mut &bytes[..], 0, 10), Err(ReadError::Corrupt { .. })));
        let mut two = [framed(b"first"), framed(b"second")].concat();
        two[13] ^= 1;
        assert!(matches!(read(&mut &two[..], 0, 10), Err(ReadError::Corrupt { .. })));
        let last = two.split_off(21);
        let mut flipped = last.clone();
        flipped[13] ^= 1;
        assert!(matches!(read(&mut &flipped[..], 0, 10), Err(ReadError::Torn { .. })));
        assert_eq!(read(&mut &last[..], 0, 10).unwrap().unwrap(), "second");
    }
}
