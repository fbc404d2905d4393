//! Datagrams as a stranger may send them: whatever is accepted reads as it was written, and no other bytes
//! are accepted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use unet::wire::{self, HEADER_BYTES, WireError};
use zerocopy::IntoBytes;

fuzz_target!(|bytes: &[u8]| {
    // As it came; and with the checksum that it should have, so that more gets past it.
    let mut honest = bytes.to_vec();
    if honest.len() >= HEADER_BYTES {
        honest[28..32].fill(0);
        wire::seal(&mut honest);
    }
    for datagram in [bytes, &honest[..]] {
        match wire::open(datagram) {
            Ok((fields, body)) => {
                assert_eq!(body, HEADER_BYTES..datagram.len());
                assert!(usize::from(fields.inline) <= body.len().min(unet::MAX_INLINE));
                let header = fields.to_header(body.len());
                let mut again = [header.as_bytes(), &datagram[body]].concat();
                wire::seal(&mut again);
                assert_eq!(again[..28], datagram[..28]);
                assert_eq!(again[HEADER_BYTES..], datagram[HEADER_BYTES..]);
            }
            Err(WireError::Short) => assert!(datagram.len() < HEADER_BYTES),
            Err(WireError::Checksum) => assert_ne!(datagram, &honest[..]),
            Err(_) => {}
        }
        // In two pieces it is what it is in one.
        if datagram.len() >= HEADER_BYTES {
            let at = HEADER_BYTES + datagram.len() % (datagram.len() - HEADER_BYTES + 1);
            let (first, rest) = datagram.split_at(at);
            let pieces = wire::open_pieces(first, datagram.len(), [rest].into_iter());
            let whole = wire::open(datagram).map(|(fields, _)| fields);
            assert_eq!(pieces, whole);
        }
    }
});
