//! Whole stacks over links that lose, repeat, reorder and corrupt, for hundreds of seeds.

use std::time::Duration;

use protocols::random::Random;
use protocols::sim::{Faults, HostId, Sim};
use protocols::{Kinds, Participants, Reason, Session};

const STACK: &str = "\
sequencing(timeout=5ms): fragment
fragment(timeout=20ms): checksum
checksum: wire
wire = device(mtu=512)
";

const BAD: Faults = Faults {
    loss: 0.03,
    burst: 0.005,
    duplicate: 0.05,
    corrupt: 0.03,
    delay: Duration::from_micros(50),
    jitter: Duration::from_micros(200),
    mtu: 512,
};

struct Pair {
    sim: Sim,
    a: HostId,
    b: HostId,
    session: Session,
}

fn pair(seed: u64, stack: &str, top: &str, faults: Faults) -> Pair {
    let mut sim = Sim::new(seed);
    let a = sim.host(stack, &Kinds::standard()).expect("it is a stack");
    let b = sim.host(stack, &Kinds::standard()).expect("it is a stack");
    sim.link((a, "wire"), (b, "wire"), faults).expect("both have a device");
    sim.graph(b).listen(top, Participants::default()).expect("it listens");
    let session = sim.graph(a).open(top, Participants::default()).expect("it opens");
    Pair { sim, a, b, session }
}

/// A message that says which one it is, of any length up to several fragments.
fn numbered(number: u32, random: &mut Random) -> Vec<u8> {
    let len = match random.below(4) {
        0 => random.below(3000) as usize,
        _ => random.below(300) as usize,
    };
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|at| (at as u32).wrapping_mul(number.wrapping_add(17)) as u8));
    bytes
}

/// Sends messages both ways at chance times, and returns what was sent and what arrived.
#[allow(clippy::type_complexity)]
fn converse(pair: &mut Pair, seed: u64, count: u32) -> [(Vec<Vec<u8>>, Vec<Vec<u8>>); 2] {
    let mut random = Random::new(seed ^ 0xabcd);
    let mut ways: [(Vec<Vec<u8>>, Vec<Vec<u8>>); 2] = Default::default();
    let mut back = None;
    for number in 0..count {
        let bytes = numbered(number, &mut random);
        // Without a buffer it is not sent: back-pressure.
        if pair.sim.push(pair.a, pair.session, &bytes) {
            ways[0].0.push(bytes);
        }
        if let Some(back) = back {
            let bytes = numbered(number ^ 0x8000_0000, &mut random);
            if pair.sim.push(pair.b, back, &bytes) {
                ways[1].0.push(bytes);
            }
        }
        pair.sim.run_for(Duration::from_micros(random.below(150)), 10_000);
        for (session, bytes) in pair.sim.take_received(pair.b) {
            back = Some(session);
            ways[0].1.push(bytes);
        }
        ways[1].1.extend(pair.sim.take_received(pair.a).into_iter().map(|(_, bytes)| bytes));
    }
    assert!(pair.sim.run(1_000_000) < 1_000_000, "it comes to an end");
    ways[0].1.extend(pair.sim.take_received(pair.b).into_iter().map(|(_, bytes)| bytes));
    ways[1].1.extend(pair.sim.take_received(pair.a).into_iter().map(|(_, bytes)| bytes));
    ways
}

/// Whether `part` is `whole` with some left out: in order, unchanged, none twice.
fn is_subsequence(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|message| whole.any(|sent| sent == message))
}

#[test]
fn over_a_bad_link_what_arrives_is_in_order_unchanged_and_never_twice_for_hundreds_of_seeds() {
    let (mut sent, mut arrived, mut refused) = (0, 0, 0);
    for seed in 0..400 {
        let mut pair = pair(seed, STACK, "sequencing", BAD);
        for (sent_one_way, arrived_there) in converse(&mut pair, seed, 60) {
            assert!(is_subsequence(&arrived_there, &sent_one_way), "seed {seed}");
            sent += sent_one_way.len();
            arrived += arrived_there.len();
        }
        for host in [pair.a, pair.b] {
            assert_eq!(pair.sim.buffers_in_use(host), 0, "seed {seed}: all buffers are back");
            let checksum = pair.sim.graph(host).node("checksum").expect("it is there");
            refused += pair.sim.graph(host).drops(checksum, Reason::Checksum);
        }
    }
    // The link was bad, and still usable.
    assert!(refused > 1000, "{refused} were refused");
    assert!(arrived > sent / 2 && arrived < sent, "{arrived} of {sent} arrived");
}

#[test]
fn over_a_good_link_everything_arrives() {
    let faults = Faults { jitter: Duration::from_micros(100), mtu: 512, ..Faults::default() };
    for seed in 0..50 {
        let mut pair = pair(seed, STACK, "sequencing", faults);
        for (sent, arrived) in converse(&mut pair, seed, 60) {
            assert!(sent.len() > 50, "seed {seed}");
            assert_eq!(sent, arrived, "seed {seed}");
        }
        assert_eq!(pair.sim.graph(pair.a).all_drops() + pair.sim.graph(pair.b).all_drops(), 0);
    }
}

#[test]
fn a_seed_gives_the_same_run_again_and_another_seed_another_one() {
    let run = |seed| {
        let mut pair = pair(seed, STACK, "sequencing", BAD);
        let arrived = converse(&mut pair, 1, 60);
        (pair.sim.trace(), arrived)
    };
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let first = run(seed);
        assert_eq!(first, run(seed), "seed {seed}");
        traces.insert(first.0);
    }
    assert_eq!(traces.len(), 20);
}

#[test]
fn faults_in_the_graph_do_what_faults_of_the_link_do() {
    let stack = STACK.replace(
        "checksum: wire",
        "checksum: bad\nbad = fault(loss=0.05, burst=0.01, \
         duplicate=0.05, corrupt=0.05, delay=50us, jitter=200us, reorder=0.05, seed=9): wire",
    );
    for seed in 0..100 {
        let good = Faults { mtu: 512, ..Faults::default() };
        let mut pair = pair(seed, &stack, "sequencing", good);
        for (sent, arrived) in converse(&mut pair, seed, 60) {
            assert!(is_subsequence(&arrived, &sent), "seed {seed}");
            assert!(arrived.len() < sent.len() || sent.len() < 10);
        }
        for host in [pair.a, pair.b] {
            assert_eq!(pair.sim.buffers_in_use(host), 0, "seed {seed}");
        }
    }
}
