//! Fragments of one honest datagram, cut and ordered in any way: what is put together is the truth.
#![no_main]

use fuzz::Bytes;
use fuzz::network::{Host, THEM, US, ether, ipv4, ipv6};
use libfuzzer_sys::fuzz_target;

/// The longest datagram here.
const LONGEST: usize = 8000;

fuzz_target!(|bytes: &[u8]| {
    let mut host = Host::new();
    let mut input = Bytes(bytes);
    let [version, high, low] = input.take();
    let len = usize::from(u16::from_be_bytes([high, low])) % LONGEST + 8;
    let version6 = version % 2 == 1;
    let whole = datagram(len, version6);
    while input.more() {
        let [at, pieces, other] = input.take();
        let offset = usize::from(at) * 32 % len.next_multiple_of(8);
        let end = (offset + (usize::from(pieces) + 1) * 8).min(len).min(offset + 1400);
        // Now and then a lie about where it ends.
        let more = (end < len) != (other == 255);
        if !more || (end - offset) % 8 == 0 {
            host.exchange(&fragment(version6, offset, more, &whole[offset..end]));
        }
    }
    for payload in host.delivered() {
        // A lie about the end makes a shorter datagram, which UDP refuses by its length.
        assert_eq!(payload, whole[8..]);
    }
});

/// UDP from port 9 to port 7; its bytes follow from their places.
fn datagram(len: usize, version6: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at * 31 / 7) as u8).collect();
    let length = (len as u16).to_be_bytes();
    bytes[..8].copy_from_slice(&[0, 9, 0, 7, length[0], length[1], 0, 0]);
    if version6 {
        fuzz::network::sum_ipv6(17, 6, &mut bytes);
    }
    bytes
}

fn fragment(version6: bool, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    if version6 {
        let place = (offset as u16 | u16::from(more)).to_be_bytes();
        let header = [17, 0, place[0], place[1], 1, 2, 3, 4];
        return ether(US, THEM, [0x86, 0xdd], &ipv6(44, 64, &[&header[..], payload].concat()));
    }
    let place = ((offset as u16 / 8) | (u16::from(more) << 13)).to_be_bytes();
    ether(US, THEM, [8, 0], &ipv4(17, place, payload))
}
