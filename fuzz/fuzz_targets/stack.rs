//! Any frames into a stack of the layers: delivered or counted, and every buffer given back.
#![no_main]

use std::time::Duration;

use fuzz::{Bytes, graph};
use libfuzzer_sys::fuzz_target;
use protocols::{Instant, Participants};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Bytes(bytes);
    let text = "top = sequencing(window=16): generation\ngeneration(held=8): tag\n\
        tag: bottom\nbottom = sequencing(window=16, held=32): fragment\nfragment: wire\nwire = device";
    let mut graph = graph(text);
    let wire = graph.node("wire").expect("it is there");
    graph.listen("top", Participants::default()).expect("it listens");
    let mut now = Instant(0);
    let (mut frames, mut out) = (0u64, 0);
    let mut session = None;
    for _ in 0..300 {
        if !input.more() {
            break;
        }
        match input.below(8) {
            0 => {
                now = now + Duration::from_millis(input.below(60) as u64);
                graph.poll(now);
            }
            1 => {
                let frame: [u8; 48] = input.take();
                let message = graph.pool().message(0, 48, |room| room.copy_from_slice(&frame));
                let Ok(message) = message else { break };
                graph.receive(now, wire, message);
                frames += 1;
            }
            // Headers that are almost right.
            _ => {
                let words = [0, 0, 36, input.below(40), 0, 0, input.below(3), input.below(40)];
                let mut frame: Vec<u8> =
                    words.iter().flat_map(|w| (*w as u32).to_be_bytes()).collect();
                frame.resize(48, 7);
                let message = graph.pool().message(0, 48, |room| room.copy_from_slice(&frame));
                let Ok(message) = message else { break };
                graph.receive(now, wire, message);
                frames += 1;
            }
        }
        while let Some(delivery) = graph.received() {
            session = Some(delivery.session);
            out += 1;
        }
    }
    assert!(out <= frames);
    if let Some(session) = session {
        graph.close(now, session);
        while graph.received().is_some() {}
        assert_eq!(graph.pool().free(), graph.pool().total());
        graph.poll(now + Duration::from_secs(1));
        assert_eq!(graph.next_wake(), None);
    }
});
