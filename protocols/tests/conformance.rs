//! What every linear layer must do, whatever else it does.

mod one_host;

use std::time::Duration;

use one_host::Host;
use proptest::prelude::*;

/// Each layer of this crate that can stand between any two others.
const LAYERS: [&str; 7] = [
    "tag(number=5)",
    "sequencing",
    "fragment",
    "checksum",
    "generation",
    "fault",
    "fault(delay=1ms)",
];

fn host(layer: &str) -> Host {
    Host::new(&format!("it = {layer}: wire\nwire = device(mtu=200)"), "it")
}

/// Everything that comes out when time passes.
fn frames(host: &mut Host) -> Vec<Vec<u8>> {
    host.pass(Duration::from_millis(1));
    host.frames()
}

#[test]
fn what_one_side_pushes_the_other_pops_in_order_and_unchanged() {
    for layer in LAYERS {
        let (mut one, mut other) = (host(layer), host(layer));
        let messages: Vec<Vec<u8>> = (0..50).map(|len| vec![len; usize::from(len) * 3]).collect();
        for message in &messages {
            one.push(message);
        }
        for frame in frames(&mut one) {
            other.receive(&frame);
        }
        other.pass(Duration::from_millis(1));
        assert_eq!(other.deliveries(), messages, "{layer}");
        assert_eq!(one.graph.all_drops() + other.graph.all_drops(), 0, "{layer}");
    }
}

#[test]
fn the_headroom_and_the_length_that_are_offered_are_enough() {
    for layer in LAYERS {
        let mut one = host(layer);
        let below = one.graph.below(one.session).expect("it is open");
        let len = below.max_message.min(1000);
        let message = one.graph.pool().message(below.headroom, len, |room| room.fill(1));
        let in_use = one.buffers_in_use();
        let message = message.expect("a buffer is left");
        one.graph.push(one.now, one.session, message).expect("it is open");
        one.pass(Duration::from_millis(1));
        let frames: Vec<_> = std::iter::from_fn(|| one.graph.transmitted(one.wire)).collect();
        assert!(frames.iter().all(|frame| frame.len() <= 200), "{layer}");
        let payload: usize = frames.iter().map(|frame| frame.len()).sum();
        assert!(payload >= len + frames.len() * below.headroom, "{layer}");
        if let [frame] = &frames[..] {
            assert_eq!((frame.len(), frame.parts().len()), (200, 1), "{layer}: in one buffer");
            assert_eq!(one.buffers_in_use(), in_use, "{layer}: no other buffer");
        }
        assert_eq!(one.graph.all_drops(), 0, "{layer}");
    }
}

#[test]
fn without_headroom_a_header_gets_a_buffer_of_its_own_and_no_payload_moves() {
    for layer in LAYERS {
        let mut one = host(layer);
        let message = one.graph.pool().message(0, 100, |room| room.fill(9));
        let message = message.expect("a buffer is left");
        // Somebody else shares it, so nothing can be written before it either.
        let shared = message.clone();
        one.graph.push(one.now, one.session, message).expect("it is open");
        let frames = frames(&mut one);
        assert_eq!(frames.len(), 1, "{layer}");
        assert!(frames[0].ends_with(&[9; 100]), "{layer}");
        assert_eq!(one.graph.pool().copied(), 0, "{layer}");
        assert_eq!(shared.to_vec().expect("it can be read"), [9; 100], "{layer}");
    }
}

#[test]
fn a_closed_session_holds_no_buffer_and_wants_no_time() {
    for layer in LAYERS {
        let mut one = host(layer);
        for number in 0..10u8 {
            one.push(&[number; 300][..100]);
            one.receive(&[0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 99, 1]);
        }
        let session = one.session;
        assert!(one.graph.close(one.now, session), "{layer}");
        one.frames();
        one.deliveries();
        assert_eq!(one.buffers_in_use(), 0, "{layer}");
        one.pass(Duration::from_secs(1));
        assert_eq!(one.graph.next_wake(), None, "{layer}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_up_is_delivered_held_or_counted(
        which in 0..LAYERS.len(),
        sent in prop::collection::vec(prop::collection::vec(0u8..3, 0..20), 1..20),
    ) {
        let mut one = host(LAYERS[which]);
        for frame in &sent {
            one.receive(frame);
        }
        one.pass(Duration::from_secs(1));
        let delivered = one.deliveries().len() as u64;
        prop_assert!(delivered + one.graph.all_drops() <= sent.len() as u64);
        let session = one.session;
        one.graph.close(one.now, session);
        one.deliveries();
        prop_assert_eq!(one.buffers_in_use(), 0);
    }
}
