//! Any pieces of messages, late and early: put together right, or refused, and always given back.
#![no_main]

use std::time::Duration;

use fuzz::{Bytes, graph};
use libfuzzer_sys::fuzz_target;
use protocols::layers::fragment::Header;
use protocols::{Instant, Participants};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let text = "fragment(max=64, memory=4096, messages=4): wire\nwire = device";
    let mut graph = graph(text);
    let wire = graph.node("wire").expect("it is there");
    let session = graph.open("fragment", Participants::default()).expect("it opens");
    let mut now = Instant(0);
    for _ in 0..200 {
        if !input.more() {
            break;
        }
        if input.below(16) == 0 {
            now = now + Duration::from_millis(input.below(200) as u64);
            graph.poll(now);
            continue;
        }
        // Mostly near what is right, so that the later checks are reached. What a byte is, is known
        // from its message and place.
        let header = Header {
            message: input.below(6) as u32,
            offset: input.below(40) as u32,
            total: if input.below(8) == 0 { input.word() as u32 } else { 40 },
        };
        let mut frame = header.encode().to_vec();
        frame.truncate(if input.below(32) == 0 { input.below(12) } else { 12 });
        let len = input.below(41);
        frame.extend(
            (0..len).map(|at| ((header.message * 64 + header.offset) as u8).wrapping_add(at as u8)),
        );
        let message = graph.pool().message(0, frame.len(), |room| room.copy_from_slice(&frame));
        let Ok(message) = message else { break };
        graph.receive(now, wire, message);
        while let Some(delivery) = graph.received() {
            let bytes = delivery.message.to_vec().expect("nobody revokes");
            assert!(bytes.len() <= 64);
            let first = bytes.first().copied().unwrap_or(0);
            assert!(bytes.iter().zip(0u8..).all(|(byte, at)| *byte == first.wrapping_add(at)));
        }
        assert!(graph.pool().total() - graph.pool().free() <= 4096 / 512);
    }
    graph.close(now, session);
    assert_eq!(graph.pool().free(), graph.pool().total());
});
