//! Any frames to a whole host: it sends only frames that can be, holds no more than its bounds, and
//! answers afterwards as before.
#![no_main]

use std::time::Duration;

use fuzz::Bytes;
use fuzz::network::{ALL, Host, THEM, THEM4, US, US4, arp, ether, ipv4, ipv6, sum, sum_ipv6};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut host = Host::new();
    let mut input = Bytes(bytes);
    // As many as the input has; each takes a byte at least.
    while input.more() {
        let frame = next(&mut input);
        for sent in host.exchange(&frame) {
            assert!((14..=1514).contains(&sent.len()));
            assert_eq!(sent[6..12], US);
            if sent[12..14] == [8, 0] {
                assert_eq!(sum(&sent[14..34]), [0, 0]);
            }
        }
        host.pass(Duration::from_millis(u64::from(frame.len() as u32)));
    }
    host.pass(Duration::from_secs(3600));
    assert_eq!(host.held(), 0);
    let answers = host.exchange(&ether(ALL, THEM, [8, 6], &arp(1, THEM, THEM4, US4)));
    assert_eq!(answers, [ether(THEM, US, [8, 6], &arp(2, US, US4, THEM4))]);
});

/// A frame that gets as far as its first byte says: the headers up to there are right.
fn next(input: &mut Bytes) -> Vec<u8> {
    let [kind, len, a, b] = input.take();
    let mut payload: Vec<u8> =
        (0..len).map_while(|_| input.more().then(|| input.take::<1>()[0])).collect();
    match kind % 8 {
        0 => payload,
        1 => ether(US, THEM, [8, 6], &payload),
        2 => ether(US, THEM, [8, 0], &payload),
        3 => ether(US, THEM, [0x86, 0xdd], &payload),
        4 => ether(
            US,
            THEM,
            [8, 0],
            &ipv4([1, 17][usize::from(a % 2)], [b & 0x3f, a & 0xfc], &payload),
        ),
        5 => ether(US, THEM, [0x86, 0xdd], &ipv6(a % 61, 64, &payload)),
        6 => ether(US, THEM, [0x86, 0xdd], &ipv6(44, 64, &payload)),
        _ => {
            payload.resize(payload.len().max(8), 0);
            payload[0] = [128, 129, 133, 134, 135, 136, 137, 1][usize::from(a % 8)];
            payload[1..4].fill(0);
            sum_ipv6(58, 2, &mut payload);
            ether(US, THEM, [0x86, 0xdd], &ipv6(58, [64, 255][usize::from(b % 2)], &payload))
        }
    }
}
