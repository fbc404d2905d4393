//! Two hosts over a link that loses, doubles, reorders and spoils frames, in virtual time.

use std::time::Duration;

use protocols::sim::{Faults, HostId, Sim};
use protocols::{Kinds, Participants, Session};

fn stack(number: u8) -> String {
    format!(
        "udp: ipv4 ipv6
         icmp: ipv4 ipv6
         ipv4(address=192.0.2.{number}/24): arp
         arp(mac=02:00:00:00:00:0{number}, address=192.0.2.{number}): ether
         ipv6(mac=02:00:00:00:00:0{number}, address=2001:db8::{number}/64): ether
         ether(mac=02:00:00:00:00:0{number}): wire
         wire = device(mtu=1514)"
    )
}

fn world(seed: u64, faults: Faults) -> (Sim, HostId, HostId) {
    let mut sim = Sim::new(seed);
    let a = sim.host(&stack(1), &Kinds::standard()).expect("it is a stack");
    let b = sim.host(&stack(2), &Kinds::standard()).expect("so is this");
    sim.link((a, "wire"), (b, "wire"), faults).expect("both have a wire");
    (sim, a, b)
}

fn open(sim: &mut Sim, host: HostId, node: &str, remote: &str) -> Session {
    let mut who = Participants::default();
    who.remote.network = Some(remote.parse().expect("an address"));
    who.remote.port = Some(7);
    who.local.port = Some(1000);
    sim.graph(host).open(node, who).expect("it opens")
}

/// What message `number` says, so that every byte of it is known.
fn content(number: usize) -> Vec<u8> {
    let len = [10, 1400, 1473, 8192, 3000][number % 5];
    (0..len).map(|at| (number * 37 + at * 11 / 3) as u8).collect()
}

/// Sends messages over both versions, spaced, and says how many came as they were. None may come
/// that was not sent so.
fn deliver(seed: u64, faults: Faults) -> (usize, u64) {
    let (mut sim, a, b) = world(seed, faults);
    let mut who = Participants::default();
    who.local.port = Some(7);
    sim.graph(b).listen("udp", who).expect("nobody else listens");
    let sessions = ["192.0.2.2", "2001:db8::2"].map(|to| open(&mut sim, a, "udp", to));
    for number in 0..40 {
        sim.push(a, sessions[number % 2], &content(number));
        sim.run_for(Duration::from_millis(200), 10_000);
    }
    sim.run_for(Duration::from_secs(3600), 100_000);
    let came = sim.take_received(b);
    for (_, payload) in &came {
        assert!(
            (0..40).any(|number| content(number) == *payload),
            "seed {seed}: it was never sent"
        );
    }
    assert_eq!((sim.buffers_in_use(a), sim.buffers_in_use(b)), (0, 0), "seed {seed}");
    (came.len(), sim.trace())
}

#[test]
fn a_good_link_loses_nothing() {
    let faults = Faults { mtu: 1514, ..Faults::default() };
    assert_eq!(deliver(1, faults).0, 40);
}

#[test]
fn what_comes_over_a_bad_link_is_what_was_sent_and_a_seed_repeats_it() {
    let faults = Faults {
        loss: 0.05,
        burst: 0.01,
        duplicate: 0.1,
        corrupt: 0.05,
        jitter: Duration::from_millis(3),
        mtu: 1514,
        ..Faults::default()
    };
    let mut all = 0;
    for seed in 0..20 {
        let (came, trace) = deliver(seed, faults);
        assert_eq!(deliver(seed, faults), (came, trace));
        all += came;
    }
    assert!((400..800).contains(&all), "{all} of 800, copies counted");
}

#[test]
fn a_host_behind_a_dead_link_is_given_up_and_found_again() {
    let (mut sim, a, _) = world(3, Faults { loss: 1.0, mtu: 1514, ..Faults::default() });
    let session = open(&mut sim, a, "icmp", "2001:db8::2");
    for _ in 0..100 {
        sim.push(a, session, b"anybody?");
        sim.run_for(Duration::from_secs(1), 1000);
    }
    assert!(sim.take_received(a).is_empty());
    let mut dropped = 0;
    sim.graph(a).statistics(|node, what, count| {
        if (node, what) == ("ipv6", "dropped: Unresolved") {
            dropped = count;
        }
    });
    sim.run_for(Duration::from_secs(3600), 1000);
    assert!(dropped > 90, "{dropped}");
    assert_eq!(sim.buffers_in_use(a), 0);
}

#[test]
fn other_layers_can_stand_between() {
    let stack = |number: u8| {
        format!(
            "udp: above4 above6
             icmp: ipv4 ipv6
             above4 = tag(number=5): ipv4
             above6 = tag(number=6): ipv6
             ipv4(address=192.0.2.{number}/24): between
             between = tag(number=7): arp
             arp(mac=02:00:00:00:00:0{number}, address=192.0.2.{number}): ether
             ipv6(mac=02:00:00:00:00:0{number}, address=2001:db8::{number}/64): below
             below = checksum: ether
             ether(mac=02:00:00:00:00:0{number}): wire
             wire = device(mtu=1514)"
        )
    };
    let mut sim = Sim::new(1);
    let a = sim.host(&stack(1), &Kinds::standard()).expect("it is a stack");
    let b = sim.host(&stack(2), &Kinds::standard()).expect("so is this");
    let faults = Faults { mtu: 1514, ..Faults::default() };
    sim.link((a, "wire"), (b, "wire"), faults).expect("both have a wire");
    let mut who = Participants::default();
    who.local.port = Some(7);
    sim.graph(b).listen("udp", who).expect("nobody else listens");
    for address in ["192.0.2.2", "2001:db8::2"] {
        for node in ["udp", "icmp"] {
            let session = open(&mut sim, a, node, address);
            for number in 0..5 {
                sim.push(a, session, &content(number));
                sim.run_for(Duration::from_secs(1), 10_000);
            }
            let host = if node == "udp" { b } else { a };
            let came: Vec<Vec<u8>> =
                sim.take_received(host).into_iter().map(|(_, payload)| payload).collect();
            assert!(came == (0..5).map(content).collect::<Vec<_>>(), "{node} {address}");
        }
    }
    assert_eq!(sim.graph(a).all_drops() + sim.graph(b).all_drops(), 0);
}
