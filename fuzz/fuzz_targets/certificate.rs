//! A server's certificate, as it is read for who has to mend it.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|der: &[u8]| wsmux::transport::read_certificate(der));
