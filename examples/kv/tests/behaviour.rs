//! What a store does for its clients, over each transport.

mod support;

use kv::client::{Client, GetError, get, open, put};
use kv::load::{Calls, Load, Mix, Pace, Workload, WorkloadOptions, drive, fill};
use kv::service::{INLINE, MAX_PAGE, PAGE_BYTES, Short};
use kv::store::{ENTRY, Limits, MAX_KEY, PutError};
use rpc_fastpath::service::{Nearest, Outcome};
use serde_bytes::Bytes;
use support::{Running, address, start, udp};
use unet::{Address, Wait};

use std::time::Duration;

const MEMORY: usize = 1 << 20;
const LARGEST: usize = 300_000;
const LIMITS: Limits = Limits { value: LARGEST, memory: MEMORY };

fn opened(address: &Address) -> Client {
    open(std::slice::from_ref(address), Wait::Adaptive, 16).expect("opened")
}

/// A server at an address where LRPC leads to it, and a client of it.
fn by_lrpc(address: &Address) -> (Running, Client) {
    let running = start(std::slice::from_ref(address), LIMITS, false);
    let store = opened(address);
    assert!(matches!(store.caller(), Nearest::Local(_)));
    (running, store)
}

/// The same where channels do.
fn by_channel(address: &Address) -> (Running, Client) {
    let running = start(std::slice::from_ref(address), LIMITS, true);
    let store = opened(address);
    assert!(matches!(store.caller(), Nearest::Remote(_)));
    (running, store)
}

#[test]
fn over_lrpc_it_does_what_it_says() {
    let (_running, store) = by_lrpc(&address("behaviour"));
    does_what_it_says(&store);
}

#[test]
fn over_channels_of_shared_memory_it_does_what_it_says() {
    let (_running, store) = by_channel(&address("channels"));
    does_what_it_says(&store);
}

#[test]
fn over_udp_it_does_what_it_says() {
    let (_running, store) = by_channel(&udp());
    does_what_it_says(&store);
}

#[test]
fn over_a_simulated_network_that_loses_it_does_what_it_says() {
    let network = format!("sim:kv-{}@10.0.0.2:9000", std::process::id());
    let lossy = format!("{network}?loss=0.01&duplicate=0.01&seed=7");
    let (_running, store) = by_channel(&lossy.parse().expect("an address"));
    does_what_it_says(&store);
}

#[test]
fn a_load_finds_what_it_has_put_over_lrpc_and_over_channels() {
    let address = address("load");
    let (running, store) = by_lrpc(&address);
    bears_a_load(&store);
    drop((running, store));
    for address in [address, udp()] {
        let (_running, store) = by_channel(&address);
        bears_a_load(&store);
    }
}

#[test]
fn all_addresses_lead_to_one_store() {
    let addresses = [address("one"), address("same"), udp()];
    let _running = start(&addresses, LIMITS, false);
    let [one, same, distant] = addresses.map(|address| opened(&address));
    assert_eq!(put(&one, b"key", b"value"), Outcome::Executed(Ok(1)));
    assert_eq!(get(&same, b"key"), Outcome::Executed(Ok(b"value".to_vec())));
    assert_eq!(get(&distant, b"key"), Outcome::Executed(Ok(b"value".to_vec())));
}

fn does_what_it_says(store: &Client) {
    values_of_every_size_come_back(store);
    what_is_too_large_is_refused_and_changes_nothing(store);
    scans_are_in_order_and_bounded(store);
    a_full_store_says_so_and_serves_on(store);
}

fn values_of_every_size_come_back(store: &Client) {
    let mut revision = 0;
    for len in [0, 1, 40, 46, 47, 100, INLINE - 1, INLINE, INLINE + 1, 4096, 70_000, LARGEST] {
        let value: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        for key in [&b""[..], b"key", &[b'k'; MAX_KEY]] {
            revision += 1;
            assert_eq!(put(store, key, &value), Outcome::Executed(Ok(revision)), "{len}");
            assert_eq!(get(store, key), Outcome::Executed(Ok(value.clone())), "{len}");
            // A value that is short has no buffer, and one that is long is not copied to be read.
            let is_short =
                matches!(store.get(Bytes::new(key)), Outcome::Executed(Err(Short::Value(_))));
            assert_eq!(is_short, len <= INLINE, "{len}");
            revision += 1;
            assert_eq!(store.delete(Bytes::new(key)), Outcome::Executed(Some(revision)));
            assert_eq!(get(store, key), Outcome::Executed(Err(GetError::Missing)));
            assert_eq!(store.delete(Bytes::new(key)), Outcome::Executed(None));
        }
    }
    let usage = store.usage().executed().expect("it is told");
    assert_eq!((usage.keys, usage.bytes, usage.revision), (0, 0, revision));
}

fn what_is_too_large_is_refused_and_changes_nothing(store: &Client) {
    let before = store.usage();
    let long = [b'k'; MAX_KEY + 1];
    for value in [&[][..], &[0; INLINE + 1]] {
        assert_eq!(put(store, &long, value), Outcome::Executed(Err(PutError::KeyTooLong)));
    }
    let too_large = PutError::ValueTooLarge { largest: LARGEST as u64 };
    let value = vec![0; LARGEST + 1];
    assert_eq!(put(store, b"key", &value), Outcome::Executed(Err(too_large)));
    // A client that sends all of it with the call finds the same limit.
    let inline = store.put(Bytes::new(b"key"), Bytes::new(&value));
    assert_eq!(inline, Outcome::Executed(Err(too_large)));
    assert_eq!(get(store, &long), Outcome::Executed(Err(GetError::Missing)));
    assert_eq!(store.usage(), before);
}

fn scans_are_in_order_and_bounded(store: &Client) {
    let name = |number: usize| format!("{number:05}").into_bytes();
    let keys = MAX_PAGE + 200;
    for number in (0..keys).rev() {
        let value = if number % 100 == 0 { vec![1; INLINE + 1] } else { vec![2; 20] };
        assert!(matches!(put(store, &name(number), &value), Outcome::Executed(Ok(_))));
    }
    let (mut from, mut seen) = (Vec::new(), 0);
    loop {
        let page = store.scan(Bytes::new(&from), u32::MAX).executed().expect("a page");
        assert!((1..=MAX_PAGE).contains(&page.entries.len()));
        let short = |entry: &kv::service::Entry| entry.value.as_ref().map_or(0, |v| v.len());
        let bytes: usize = page.entries.iter().map(|entry| entry.key.len() + short(entry)).sum();
        assert!(bytes <= PAGE_BYTES);
        for entry in page.entries {
            assert_eq!(*entry.key, name(seen));
            let len = if seen % 100 == 0 { INLINE + 1 } else { 20 };
            assert_eq!((entry.len, entry.value.is_some()), (len as u64, len <= INLINE));
            seen += 1;
        }
        let Some(next) = page.next else { break };
        from = next.into_vec();
    }
    assert_eq!(seen, keys);
    let page = store.scan(Bytes::new(b"00500x"), 2).executed().expect("a page");
    let found: Vec<_> = page.entries.iter().map(|entry| entry.key.to_vec()).collect();
    assert_eq!((found, page.next), (vec![name(501), name(502)], Some(name(503).into())));
    let page = store.scan(Bytes::new(b"x"), 2).executed().expect("a page");
    assert_eq!(page, kv::service::Page::default());
    for number in 0..keys {
        assert!(matches!(store.delete(Bytes::new(&name(number))), Outcome::Executed(Some(_))));
    }
}

fn a_full_store_says_so_and_serves_on(store: &Client) {
    let value = vec![7; 100_000];
    let fit = MEMORY / (value.len() + ENTRY + 1);
    for number in 0..fit {
        assert!(matches!(put(store, &[number as u8], &value), Outcome::Executed(Ok(_))));
    }
    assert_eq!(put(store, b"x", &value), Outcome::Executed(Err(PutError::Full)));
    assert_eq!(get(store, b"x"), Outcome::Executed(Err(GetError::Missing)));
    assert!(matches!(store.delete(Bytes::new(&[0])), Outcome::Executed(Some(_))));
    assert!(matches!(put(store, b"x", &value), Outcome::Executed(Ok(_))));
    assert_eq!(get(store, b"x"), Outcome::Executed(Ok(value)));
}

/// Both loops, with values that travel in either way. The load itself checks what it gets.
fn bears_a_load(store: &Client) {
    for (value, pace) in [(100, Pace::Closed), (2000, Pace::Closed), (100, Pace::Open(2000.0))] {
        let options = WorkloadOptions { mix: Mix::A, keys: 200, value, operations: 5000, seed: 3 };
        let workload = Workload::draw(options);
        let mut calls = Calls::new(store, value);
        fill(&mut calls, &workload, 16).expect("filled");
        let load = Load { window: 16, pace, duration: Duration::from_millis(100) };
        let measured = drive(&mut calls, &workload, load, 0).expect("driven");
        assert!(measured.done > 0, "{value}, {pace:?}: {}", measured.done);
        assert_eq!(measured.latency.len(), measured.done);
    }
}
