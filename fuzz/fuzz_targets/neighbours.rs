//! Any frames to who answers for an address that no kernel knows: it sends only answers and questions that can be, few
//! at a time, and answers afterwards as before.
#![no_main]

use fuzz::Bytes;
use fuzz::network::{ALL, THEM, THEM4, US, US4, arp, ether, ipv4, sum};
use libfuzzer_sys::fuzz_target;
use unet::device::{Neighbours, Routes};

/// More are not there after one frame.
const FEW: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    let mut host = Neighbours::new(US, US4.into(), 24, None).expect("a host's");
    let mut input = Bytes(bytes);
    while input.more() {
        let frame = next(&mut input);
        host.hear(&frame);
        for said in all(&mut host) {
            check(&said, &frame);
        }
        host.maintain().expect("nothing fails");
    }
    // Those that came in time to be limited are over.
    let mut host = Neighbours::new(US, US4.into(), 24, None).expect("a host's");
    host.hear(&ether(ALL, THEM, [8, 6], &padded(arp(1, THEM, THEM4, US4))));
    let answers = all(&mut host);
    assert!(answers.iter().any(|said| said.starts_with(&ether(
        THEM,
        US,
        [8, 6],
        &arp(2, US, US4, THEM4)
    ))));
});

fn all(host: &mut Neighbours) -> Vec<Vec<u8>> {
    let said: Vec<_> = std::iter::from_fn(|| host.say()).take(FEW + 1).collect();
    assert!(said.len() <= FEW, "one frame is answered {} times", said.len());
    said
}

/// What is said is from this host, and of a ping it is the answer.
fn check(said: &[u8], heard: &[u8]) {
    assert!(said.len() >= 42 && said[6..12] == US);
    match said[12..14] {
        [8, 6] => assert_eq!(said[28..32], US4),
        [8, 0] => {
            assert!(said.len() <= heard.len());
            let total = usize::from(u16::from_be_bytes([said[16], said[17]]));
            assert_eq!(said.len(), 14 + total);
            assert_eq!((sum(&said[14..34]), sum(&said[34..])), ([0, 0], [0, 0]));
            assert_eq!((&said[26..30], &said[30..34]), (&US4[..], &heard[26..30]));
            assert_eq!((said[34], &said[38..]), (0, &heard[38..said.len()]));
        }
        _ => panic!("{said:?}"),
    }
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().max(46), 0);
    bytes
}

/// A frame that gets as far as its first byte says: the headers up to there are right.
fn next(input: &mut Bytes) -> Vec<u8> {
    let [kind, len, a, b] = input.take();
    let mut payload: Vec<u8> =
        (0..len).map_while(|_| input.more().then(|| input.take::<1>()[0])).collect();
    match kind % 5 {
        0 => payload,
        1 => ether(US, THEM, [8, 6], &payload),
        2 => ether(ALL, THEM, [8, 6], &padded(arp(a % 4, THEM, [192, 0, 2, b], US4))),
        3 => ether(US, THEM, [8, 0], &ipv4([1, 17][usize::from(a % 2)], [b & 0x7f, a], &payload)),
        _ => {
            payload.resize(payload.len().max(8), 0);
            payload[0] = [8, 0, 13, 3][usize::from(a % 4)];
            payload[1..4].fill(0);
            let right = sum(&payload);
            payload[2..4].copy_from_slice(&right);
            let packet = ipv4(1, [0, 0], &payload);
            ether(US, THEM, [8, 0], &if b % 2 == 0 { padded(packet) } else { packet })
        }
    }
}
