//! What layers hold for the order of their sessions is bounded in all of them together.

mod network;

use network::*;
use protocols::{Kinds, Reason};

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    ether(US, THEM, 0x0800, &ipv4(THEM4, US4, 17, &udp(&THEM4, &US4, (9, port), payload)))
}

#[test]
fn messages_of_all_sessions_count_against_one_bound() {
    for kind in ["sequencing", "generation"] {
        let mut host = Host::acquainted(2);
        for port in 0..10 {
            host.listen(port);
            host.exchange(&datagram(port, b"a session each"));
        }
        assert_eq!(host.delivered().len(), 10);
        let layer = format!("{kind}: udp").parse().expect("it is a node");
        let inserted = host.graph.insert(host.now, None, &layer, &Kinds::standard());
        let node = inserted.expect("it can come");
        for number in 0..100u32 {
            let ahead = if kind == "sequencing" { 1 + number / 10 } else { 1 };
            host.exchange(&datagram(number as u16 % 10, &ahead.to_be_bytes()));
        }
        assert!(host.delivered().is_empty());
        assert_eq!(host.graph.drops(node, Reason::QueueFull), 100 - 64, "{kind}");
        assert_eq!(host.count(kind, "held"), 64, "{kind}");
        // What is given up makes room.
        host.pass(std::time::Duration::from_secs(2));
        assert_eq!(host.count(kind, "held"), 0, "{kind}");
        host.delivered();
        assert_eq!(host.pool.total(), host.pool.free(), "{kind}");
    }
}

#[test]
fn a_message_far_ahead_costs_no_memory_for_those_before_it() {
    let mut host = Host::acquainted(2);
    host.listen(7);
    host.exchange(&datagram(7, b"a session"));
    let layer = "sequencing(window=65536): udp".parse().expect("it is a node");
    host.graph.insert(host.now, None, &layer, &Kinds::standard()).expect("it can come");
    let frame = datagram(7, &65_000u32.to_be_bytes());
    let info = allocation_counter::measure(|| drop(host.exchange(&frame)));
    assert_eq!(host.count("sequencing", "held"), 1);
    assert!(info.bytes_max < 16 << 10, "{} bytes", info.bytes_max);
}
