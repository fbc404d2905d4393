//! Layers come and go in the stacks of hosts that talk.

mod network;

use network::*;
use protocols::{Kinds, Session};

/// Carries frames to and fro until nobody has any.
fn settle(hosts: &mut [Host; 2]) {
    for _round in 0..100 {
        let mut quiet = true;
        for from in 0..2 {
            for frame in hosts[from].sent() {
                quiet = false;
                let frame = hosts[1 - from].message(&frame);
                let Host { graph, now, device, .. } = &mut hosts[1 - from];
                graph.receive(*now, *device, frame);
            }
        }
        if quiet {
            return;
        }
    }
    panic!("the hosts never fall silent");
}

/// One message in each session, and its answer.
fn exchange(hosts: &mut [Host; 2], sessions: &[Session]) {
    for session in sessions {
        hosts[1].push(*session, format!("{session:?}").as_bytes());
    }
    settle(hosts);
    while let Some(asked) = hosts[0].graph.received() {
        let now = hosts[0].now;
        let answered =
            hosts[0].graph.push_to(now, asked.session, asked.message, &asked.participants);
        answered.expect("it is open");
    }
    settle(hosts);
    assert_eq!(hosts[1].delivered().len(), sessions.len());
}

fn remove(hosts: &mut [Host; 2], sessions: &[Session], place: usize) {
    for host in 0..2 {
        let now = hosts[host].now;
        hosts[host].graph.remove(now, &format!("extra{place}")).expect("it is there");
        exchange(hosts, sessions);
    }
}

#[test]
fn every_edge_can_change_under_sessions_that_share_what_is_below() {
    let kinds = Kinds::standard();
    let mut hosts = [Host::new(1), Host::new(2)];
    hosts[0].listen(7);
    let mut sessions = Vec::new();
    for address in ["192.0.2.1", "2001:db8::1"] {
        sessions.push(hosts[1].open("icmp", address, (77, 0)));
        for client in 0..3 {
            sessions.push(hosts[1].open("udp", address, (10_000 + client, 7)));
            exchange(&mut hosts, &sessions);
        }
    }
    let description = hosts[0].graph.description();
    let edges: Vec<(String, String)> = description
        .nodes
        .iter()
        .flat_map(|node| node.lowers().map(|lower| (node.name().to_owned(), lower.to_owned())))
        .collect();
    for round in 0..4 {
        for (place, (upper, lower)) in edges.iter().enumerate() {
            for host in 0..2 {
                let layer = format!("extra{place} = fault: {lower}").parse().expect("it is a node");
                let now = hosts[host].now;
                hosts[host].graph.insert(now, Some(upper), &layer, &kinds).expect("it can come");
                exchange(&mut hosts, &sessions);
            }
            if round % 2 == 0 {
                remove(&mut hosts, &sessions, place);
            }
        }
        // Sessions that begin now share what was put in.
        sessions.push(hosts[1].open("udp", "192.0.2.1", (20_000 + round, 7)));
        sessions.push(hosts[1].open("udp", "2001:db8::1", (20_000 + round, 7)));
        exchange(&mut hosts, &sessions);
        if round % 2 == 1 {
            (0..edges.len()).for_each(|place| remove(&mut hosts, &sessions, place));
        }
    }
    assert_eq!(hosts[0].graph.all_drops() + hosts[1].graph.all_drops(), 0);
    assert_eq!(hosts[0].graph.description(), description);
    for session in sessions {
        let now = hosts[1].now;
        assert!(hosts[1].graph.close(now, session));
    }
}
