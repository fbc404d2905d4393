//! Where the identifications of packets begin: nobody knows who has seen none.

mod network;

use network::*;
use protocols::sim::{Faults, Sim};
use protocols::{Kinds, Participants};

/// Of a packet of version 4, and of two fragmented datagrams of version 6, sent one after the other.
fn identifications(host: Host) -> (u16, u32, u32) {
    let mut host = host.meet();
    let four = host.open("udp", "192.0.2.1", (1000, 2000));
    host.push(four, b"short");
    let frame = host.sent().remove(0);
    let first = u16::from_be_bytes([frame[18], frame[19]]);
    let six = host.open("udp", "2001:db8::1", (1000, 2000));
    let mut next = || {
        host.push(six, &[1; 2000]);
        let frames = host.sent();
        let of = |frame: &Vec<u8>| {
            assert_eq!(frame[20], 44, "a fragment header follows");
            u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
        };
        assert_eq!((frames.len(), of(&frames[0])), (2, of(&frames[1])));
        of(&frames[0])
    };
    (first, next(), next())
}

#[test]
fn they_begin_by_the_seed_and_count_on() {
    let (four, six, next) = identifications(Host::with_seed(2, 7));
    assert_eq!(identifications(Host::with_seed(2, 7)), (four, six, next));
    assert_eq!(next, six.wrapping_add(1));
    for seed in 8..12 {
        let other = identifications(Host::with_seed(2, seed));
        assert!(other.0 != four && other.1 != six, "{other:?}");
    }
}

#[test]
fn without_a_seed_they_begin_anew_each_time() {
    let (one, other) = (identifications(Host::new(2)), identifications(Host::new(2)));
    assert_ne!(one, other);
}

#[test]
fn the_faults_of_a_seed_are_the_same_whatever_the_hosts_choose() {
    // As they came before hosts chose anything.
    const CAME: &[u8] = &[1, 3, 5, 6, 16, 22, 23, 30, 32, 34];
    for others in 0..3 {
        let mut sim = Sim::new(7);
        let kinds = Kinds::standard();
        for _ in 0..others {
            sim.host("wire = device", &kinds).expect("a stack");
        }
        let [one, other] = [(); 2].map(|()| sim.host("tag: wire\nwire = device", &kinds));
        let (one, other) = (one.expect("a stack"), other.expect("a stack"));
        let faults = Faults { loss: 0.7, ..Faults::default() };
        sim.link((one, "wire"), (other, "wire"), faults).expect("both have a device");
        sim.graph(other).listen("tag", Participants::default()).expect("it listens");
        let session = sim.graph(one).open("tag", Participants::default()).expect("it opens");
        (0..40u8).for_each(|number| assert!(sim.push(one, session, &[number])));
        sim.run(1000);
        let came: Vec<u8> = sim.take_received(other).into_iter().flat_map(|(_, b)| b).collect();
        assert_eq!(came, CAME);
    }
}
