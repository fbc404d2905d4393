//! Two hosts on one wire, joined by hand; and one on a wire of nonsense.

mod network;

use network::*;
use proptest::prelude::*;
use protocols::Participants;

/// Carries frames to and fro until nobody has any; how many there were.
fn settle(hosts: &mut [Host; 2]) -> usize {
    let mut carried = 0;
    for _round in 0..100 {
        let mut quiet = true;
        for from in 0..2 {
            for frame in hosts[from].sent() {
                quiet = false;
                carried += 1;
                let frame = hosts[1 - from].message(&frame);
                let Host { graph, now, device, .. } = &mut hosts[1 - from];
                graph.receive(*now, *device, frame);
            }
        }
        if quiet {
            return carried;
        }
    }
    panic!("the hosts never fall silent");
}

#[test]
fn they_ping_each_other_over_both_versions() {
    for (address, other) in [("192.0.2.1", 0), ("2001:db8::1", 1), ("fe80::ff:fe00:1", 2)] {
        let mut hosts = [Host::new(1), Host::new(2)];
        let session = hosts[1].open("icmp", address, (77, 0));
        for (round, len) in [0, 56, 1400, 8192, 60_000].into_iter().enumerate() {
            let data: Vec<u8> = (0..len).map(|at| (at * 5) as u8).collect();
            hosts[1].push(session, &data);
            settle(&mut hosts);
            let came = hosts[1].delivered();
            let [(payload, who)] = &came[..] else { panic!("one reply, {other}: {}", came.len()) };
            assert!(*payload == data, "{address} {len}");
            assert_eq!(who.remote.port, Some(round as u16 + 1));
        }
        assert_eq!(hosts[0].graph.all_drops() + hosts[1].graph.all_drops(), 0);
        assert_eq!(hosts[1].graph.pool().copied(), 0);
    }
}

#[test]
fn a_server_answers_many_clients_over_one_session_of_each_version() {
    let mut hosts = [Host::new(1), Host::new(2)];
    hosts[0].listen(7);
    let mut sessions = Vec::new();
    for client in 0..50 {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let session = hosts[1].open("udp", address, (10_000 + client, 7));
            hosts[1].push(session, &client.to_be_bytes());
            sessions.push((session, client));
            // One after the other: a few at most wait for a neighbour.
            settle(&mut hosts);
        }
    }
    let mut asked = Vec::new();
    while let Some(delivery) = hosts[0].graph.received() {
        asked.push(delivery.session);
        let now = hosts[0].now;
        let answered =
            hosts[0].graph.push_to(now, delivery.session, delivery.message, &delivery.participants);
        answered.expect("it is open");
        settle(&mut hosts);
    }
    assert_eq!(asked.len(), 100);
    asked.sort_by_key(|session| format!("{session:?}"));
    asked.dedup();
    assert_eq!(asked.len(), 2, "one for each version");
    let mut answers = 0;
    while let Some(delivery) = hosts[1].graph.received() {
        let client = sessions.iter().find(|(session, _)| *session == delivery.session);
        let client = client.expect("it is one of them").1;
        assert_eq!(delivery.message.to_vec().expect("ours"), client.to_be_bytes());
        answers += 1;
    }
    assert_eq!(answers, 100);
}

#[test]
fn a_closed_session_is_forgotten_in_every_layer_and_can_be_opened_again() {
    let mut hosts = [Host::new(1), Host::new(2)];
    for _round in 0..3 {
        let session = hosts[1].open("udp", "192.0.2.1", (1000, 2000));
        hosts[1].push(session, b"x");
        settle(&mut hosts);
        let now = hosts[1].now;
        assert!(hosts[1].graph.close(now, session));
        assert_eq!(hosts[1].count("udp", "sessions"), 0);
    }
    assert_eq!(hosts[0].count("udp", "dropped: NoSession"), 3);
    assert_eq!(hosts[1].count("icmp", "destination_unreachable"), 3);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let mut host = Host::new(2);
    let mut who = Participants::default();
    who.remote.network = Some("224.0.0.1".parse().expect("an address"));
    for (local, remote, wanted) in [
        (None, Some(1), "local port"),
        (Some(1), None, "remote port"),
        (Some(1), Some(1), "nothing leads"),
    ] {
        (who.local.port, who.remote.port) = (local, remote);
        let refused = host.graph.open("udp", who).expect_err("it cannot be");
        assert!(refused.to_string().contains(wanted), "{refused}");
    }
    host.open("udp", "192.0.2.1", (1, 1));
    who.remote.network = Some("192.0.2.1".parse().expect("an address"));
    assert!(host.graph.open("udp", who).is_err(), "it is open");
}

/// A frame that gets far: of a right header, with something changed behind it.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop::collection::vec(any::<u8>(), 0..200);
    (payload, 0u8..6, any::<u8>(), any::<(u16, bool)>()).prop_map(|(payload, kind, n, place)| {
        match kind {
            0 => ether(US, THEM, 0x0806, &payload),
            1 => ether(US, THEM, 0x0800, &payload),
            2 => {
                let place = (usize::from(place.0) & !7, place.1, u16::from(n % 4));
                ether(
                    US,
                    THEM,
                    0x0800,
                    &ipv4_piece(THEM4, US4, [1, 17][n as usize % 2], place, &payload),
                )
            }
            3 => ether(US, THEM, 0x86dd, &ipv6(global(1), global(2), n % 61, 64, &payload)),
            4 => ether(US, THEM, 0x86dd, &ipv6(global(1), global(2), 44, 64, &payload)),
            _ => {
                let mut message = payload;
                message.resize(message.len().max(24), 0);
                message[0] = 133 + n % 6;
                message[1..4].fill(0);
                let message = summed(&global(1), &global(2), 58, 2, &message);
                ether(US, THEM, 0x86dd, &ipv6(global(1), global(2), 58, 255, &message))
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nonsense_neither_panics_nor_stays(
        frames in prop::collection::vec(
            prop_oneof![prop::collection::vec(any::<u8>(), 0..200), nearly_right()], 1..60),
    ) {
        let mut host = Host::acquainted(2);
        host.listen(7);
        for frame in &frames {
            for sent in host.exchange(frame) {
                prop_assert!((14..=1514).contains(&sent.len()));
            }
        }
        host.pass(std::time::Duration::from_secs(3600));
        prop_assert_eq!(host.count("ipv4", "unfinished_bytes"), 0);
        prop_assert_eq!(host.count("ipv6", "unfinished_bytes"), 0);
        host.delivered();
        // Afterwards it is as well as before.
        let answered = host.exchange(&arp(1, THEM, THEM4, [0; 6], US4));
        prop_assert_eq!(answered, [arp(2, US, US4, THEM, THEM4)]);
    }
}
