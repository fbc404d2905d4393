//! Any bytes as the arguments of a service's method: no value, or one that comes back when it is written.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rpc_fastpath::service::{Encoded, Form, Plain};

/// Lengths, tags, text that need not be any, what is borrowed, and what takes no bytes.
type Value<'a> = (
    &'a str,
    Vec<Option<(u16, String)>>,
    BTreeMap<u8, Vec<()>>,
    Result<char, (bool, i64)>,
    &'a [u8],
);

/// The bytes of a cell in a slot.
const CELL: usize = 48;

fuzz_target!(|bytes: &[u8]| {
    if let Some(value) = <Encoded as Form<Value<'_>>>::read(bytes) {
        come_back(&value);
    }
    if let Some((cell, rest)) = bytes.split_first_chunk::<CELL>() {
        for spilled in [None, Some(rest)] {
            if let Some(value) = <Encoded<CELL> as Form<Value<'_>>>::unpack(cell, spilled) {
                come_back(&value);
            }
        }
    }
    // Plain data has a length, and nothing else to be wrong.
    let plain = <Plain as Form<[u32; 3]>>::read(bytes);
    assert_eq!(plain.is_some(), bytes.len() == 12);
});

fn come_back(value: &Value<'_>) {
    let mut bytes = Vec::new();
    <Encoded as Form<Value<'_>>>::write(value, &mut bytes).expect("it was read");
    let again = <Encoded as Form<Value<'_>>>::read(&bytes);
    // Elements without bytes are bounded by the bytes that there are, which may be fewer now: keys that came twice
    // are written once.
    let without_bytes: usize = value.2.values().map(Vec::len).sum();
    assert!(again.as_ref() == Some(value) || again.is_none() && without_bytes > 1000);
}
