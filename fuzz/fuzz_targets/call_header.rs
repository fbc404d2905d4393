//! Any bytes as a call's header: refused, or what would be sent for what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rpc_fastpath::wire::{HEADER_BYTES, Offer, Packet, Terms, pack, span};

fuzz_target!(|bytes: &[u8]| {
    if let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        check(header);
        // Of a kind that there is, so that the fuzzer need not guess it.
        let mut known = *header;
        known[0] = known[0] & 0x80 | known[0] % 8;
        check(&known);
        if let Some(offer) = Offer::decode(body) {
            assert_eq!(offer.encode(), body);
        }
        if let Some(terms) = Terms::decode(body) {
            assert_eq!(terms.encode(), body);
        }
    }
    // A pack's packets lie one behind the other, and none is shorter than a header.
    let packets = pack::packets(bytes).flatten();
    let len: usize = packets.map(|packet| packet[HEADER_BYTES..].len() + HEADER_BYTES + 2).sum();
    assert!(len <= bytes.len());
    if let Some(code) = bytes.first_chunk() {
        let code = u16::from_le_bytes(*code);
        assert_eq!(span::encode(span::decode(code)), code);
    }
});

fn check(header: &[u8; HEADER_BYTES]) {
    if let Ok(packet) = Packet::decode(header) {
        assert_eq!(packet.encode(), *header);
    }
}
