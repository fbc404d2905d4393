//! Steady state allocates nothing, in any layer.

mod network;

use allocation_counter::measure;
use network::*;

/// What a host sends for a frame, and how often it allocated meanwhile.
fn count(host: &mut Host, frame: &[u8]) -> (usize, u64) {
    let message = host.message(frame);
    let mut sent = 0;
    let info = measure(|| {
        host.graph.receive(host.now, host.device, message);
        while let Some(frame) = host.graph.transmitted(host.device) {
            sent += 1;
            drop(frame);
        }
    });
    (sent, info.count_total)
}

#[test]
fn answering_pings_and_datagrams_allocates_nothing() {
    let mut host = Host::acquainted(2);
    let pings = [
        ether(US, THEM, 0x0800, &ipv4(THEM4, US4, 1, &echo(8, &[1; 56]))),
        ping6(THEM, global(1), global(2), &[1; 56]),
        ether(US, THEM, 0x0800, &ipv4(THEM4, US4, 17, &udp(&THEM4, &US4, (9, 99), b"closed"))),
        arp(1, THEM, THEM4, [0; 6], US4),
    ];
    for frame in &pings {
        for round in 0..10 {
            let (sent, allocations) = count(&mut host, frame);
            assert_eq!(sent, 1);
            assert!(round < 3 || allocations == 0, "{allocations} in round {round}: {frame:?}");
        }
    }
}

#[test]
fn an_echo_server_and_its_client_allocate_nothing() {
    let mut host = Host::acquainted(2);
    host.listen(7);
    let client = host.open("udp", "2001:db8::1", (1000, 2000));
    let frame = ether(US, THEM, 0x0800, &ipv4(THEM4, US4, 17, &udp(&THEM4, &US4, (9, 7), b"x")));
    for round in 0..10 {
        let message = host.message(&frame);
        let question = host.message(b"question");
        let mut sent = 0;
        let info = measure(|| {
            let Host { graph, device, now, .. } = &mut host;
            graph.receive(*now, *device, message);
            let delivery = graph.received().expect("it is for us");
            let answer =
                graph.push_to(*now, delivery.session, delivery.message, &delivery.participants);
            answer.expect("it is open");
            graph.push(*now, client, question).expect("it is open");
            while let Some(frame) = graph.transmitted(*device) {
                sent += 1;
                drop(frame);
            }
        });
        assert_eq!(sent, 2);
        assert!(round < 3 || info.count_total == 0, "{} in round {round}", info.count_total);
    }
}
