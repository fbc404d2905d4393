//! Layers come and go under traffic.

use std::time::Duration;

use protocols::description::NodeDescription;
use protocols::random::Random;
use protocols::sim::{Faults, HostId, Sim};
use protocols::{ChangeError, Instant, Kinds, Participants, Session};

const STACK: &str =
    "top = tag(number=1): place\nplace = generation: sequencing\nsequencing: wire\nwire = device";

struct Pair {
    sim: Sim,
    hosts: [HostId; 2],
    sessions: [Session; 2],
    sent: [u32; 2],
    arrived: [u32; 2],
    random: Random,
}

impl Pair {
    /// Two hosts that talk already.
    fn new(seed: u64, faults: Faults) -> Self {
        let mut sim = Sim::new(seed);
        let hosts = [(); 2].map(|()| sim.host(STACK, &Kinds::standard()).expect("it is a stack"));
        sim.link((hosts[0], "wire"), (hosts[1], "wire"), faults).expect("both have a device");
        sim.graph(hosts[1]).listen("top", Participants::default()).expect("it listens");
        let session = sim.graph(hosts[0]).open("top", Participants::default()).expect("it opens");
        assert!(sim.push(hosts[0], session, &0u32.to_be_bytes()));
        sim.run(1000);
        let other = sim.take_received(hosts[1])[0].0;
        let random = Random::new(seed);
        Self { sim, hosts, sessions: [session, other], sent: [1, 0], arrived: [1, 0], random }
    }

    /// One message each way, and some time.
    fn talk(&mut self) {
        for side in 0..2 {
            let bytes = self.sent[side].to_be_bytes();
            assert!(
                self.sim.push(self.hosts[side], self.sessions[side], &bytes),
                "a buffer is left"
            );
            self.sent[side] += 1;
        }
        let time = Duration::from_micros(self.random.below(8));
        self.sim.run_for(time, 10_000);
        self.check();
    }

    /// What has arrived is what was sent, each in its turn.
    fn check(&mut self) {
        for side in 0..2 {
            for (_, bytes) in self.sim.take_received(self.hosts[side]) {
                assert_eq!(bytes, self.arrived[1 - side].to_be_bytes(), "in order, none missing");
                self.arrived[1 - side] += 1;
            }
        }
    }

    fn end(&mut self) {
        assert!(self.sim.run(100_000) < 100_000, "it comes to an end");
        self.check();
        assert_eq!(self.arrived, self.sent, "nothing is lost");
        for host in self.hosts {
            assert_eq!(self.sim.graph(host).all_drops(), 0);
            assert_eq!(self.sim.buffers_in_use(host), 0);
        }
    }
}

fn node(name: &str, kind: &str, over: &str) -> NodeDescription {
    let node = NodeDescription::new(name).and_then(|node| node.of(kind)?.over(over));
    node.expect("they are names")
}

#[test]
fn layers_without_a_header_come_and_go_on_one_side_and_nothing_is_lost_repeated_or_overtaken() {
    let mut pair = Pair::new(1, Faults::default());
    let kinds = Kinds::standard();
    // Each holds what passes it for longer than it stays, half of the time.
    let delay = |name: &str, over: &str| {
        node(name, "fault", over).with("delay", "20us").expect("it is an option")
    };
    let mut there = [[false; 3]; 2];
    let places = [
        ("upper", Some("top"), "place"),
        ("lower", Some("sequencing"), "wire"),
        ("first", None, "top"),
    ];
    for _ in 0..3000 {
        pair.talk();
        let (side, which) = (pair.random.below(2) as usize, pair.random.below(3) as usize);
        let (now, (name, upper, over)) = (pair.sim.now(), places[which]);
        let graph = pair.sim.graph(pair.hosts[side]);
        if there[side][which] {
            graph.remove(now, name).expect("it is there");
        } else {
            graph.insert(now, upper, &delay(name, over), &kinds).expect("it can come");
        }
        there[side][which] ^= true;
    }
    pair.end();
}

#[test]
fn layers_with_a_header_come_and_go_on_both_sides_in_step() {
    for seed in 0..5 {
        let mut pair = Pair::new(seed, Faults::default());
        let changes = change_in_step(&mut pair, 3000);
        assert!(changes > 300, "{changes} changes");
        pair.end();
    }
}

#[test]
fn changes_in_step_lose_nothing_over_a_link_that_reorders_and_repeats() {
    for seed in 0..5 {
        let jitter = Duration::from_micros(30);
        let mut pair = Pair::new(seed, Faults { jitter, ..Faults::default() });
        let changes = change_in_step(&mut pair, 3000);
        assert!(changes > 100, "{changes} changes");
        pair.end();
    }
}

/// Traffic of so many messages, and as many changes as there is time for.
fn change_in_step(pair: &mut Pair, messages: u32) -> u32 {
    let kinds = Kinds::standard();
    let header = [
        node("extra", "tag", "place").with("number", 77).expect("it is an option"),
        node("extra", "checksum", "place"),
        node("extra", "sequencing", "place"),
        node("extra", "fragment", "place"),
    ];
    let (mut there, mut changes) = (false, 0);
    for _ in 0..messages {
        pair.talk();
        if pair.hosts.iter().any(|host| pair.sim.graph(*host).is_changing()) {
            continue;
        }
        let now = pair.sim.now();
        let begins = pair.random.below(2) as usize;
        let (begin, expect) = (pair.hosts[begins], pair.hosts[1 - begins]);
        let layer = &header[pair.random.below(4) as usize];
        if there {
            pair.sim.graph(expect).expect_remove(now, "extra").expect("it is there");
            pair.sim.graph(begin).begin_remove(now, "extra").expect("it is there");
        } else {
            let upper = Some("top");
            pair.sim.graph(expect).expect_insert(now, upper, layer, &kinds).expect("it can come");
            pair.sim.graph(begin).begin_insert(now, upper, layer, &kinds).expect("it can come");
        }
        there = !there;
        changes += 1;
    }
    changes
}

#[test]
fn what_was_changed_is_shown_and_new_sessions_follow_it() {
    let mut sim = Sim::new(0);
    let host = sim.host("top = tag: low\nlow = tag: wire\nwire = loopback", &Kinds::standard());
    let host = host.expect("it is a stack");
    let graph = sim.graph(host);
    let old = graph.open("top", Participants::default()).expect("it opens");
    let (now, kinds) = (Instant(0), Kinds::standard());
    let before = graph.below(old).expect("it is open");
    let checksum = node("checksum", "checksum", "low");
    graph.insert(now, Some("top"), &checksum, &kinds).expect("it can come");
    assert_eq!(graph.route(old), ["top", "checksum", "low", "wire"]);
    let after = graph.below(old).expect("it is open");
    assert_eq!(after.headroom, before.headroom + 4);
    assert!(graph.to_string().contains("top = tag: checksum\n"));
    assert!(graph.to_string().contains("checksum: low\n"));
    graph.remove(now, "checksum").expect("it is there");
    assert_eq!(graph.below(old), Some(before));
    assert_eq!(graph.to_string(), "top = tag: low\nlow = tag: wire\nwire = loopback\n");
    assert!(graph.close(now, old));
    graph.insert(now, Some("top"), &checksum, &kinds).expect("it can come without sessions");
    let new = graph.open("top", Participants::default()).expect("it opens");
    assert_eq!(graph.route(new), ["top", "checksum", "low", "wire"]);
}

#[test]
fn a_change_that_cannot_be_is_refused_and_changes_nothing() {
    let mut pair = Pair::new(2, Faults::default());
    let (kinds, now) = (Kinds::standard(), pair.sim.now());
    let graph = pair.sim.graph(pair.hosts[0]);
    let text = graph.to_string();
    let mut insert = |upper, layer: NodeDescription| {
        graph.insert(now, upper, &layer, &kinds).expect_err("it cannot be")
    };
    assert!(matches!(insert(Some("top"), node("x", "tag", "wire")), ChangeError::NoEdge { .. }));
    assert!(matches!(insert(Some("nobody"), node("x", "tag", "wire")), ChangeError::NoNode(_)));
    let over_nothing = NodeDescription::new("tag").expect("it is a name");
    assert!(matches!(insert(Some("top"), over_nothing), ChangeError::NotLinear(_)));
    assert!(matches!(insert(Some("top"), node("x", "nothing", "place")), ChangeError::Build(_)));
    assert!(matches!(insert(Some("top"), node("wire", "tag", "place")), ChangeError::Build(_)));
    assert!(matches!(graph.remove(now, "wire"), Err(ChangeError::NotLinear(_))));
    let layer = node("x", "tag", "sequencing");
    let begun = graph.begin_insert(now, Some("place"), &layer, &kinds);
    assert_eq!(begun, Err(ChangeError::NoGeneration));
    graph.expect_insert(now, Some("top"), &node("x", "tag", "place"), &kinds).expect("it can");
    let again = graph.expect_insert(now, Some("top"), &node("y", "tag", "place"), &kinds);
    assert_eq!(again, Err(ChangeError::Busy));
    assert!(graph.is_changing());
    assert!(graph.to_string().starts_with(&text));
}
