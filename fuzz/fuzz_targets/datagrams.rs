//! Any frame to a port: no fault, a payload that lies within the frame, and nothing taken that another
//! reader of headers finds wrong, nor refused what it finds right.
#![no_main]

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use fuzz::Bytes;
use fuzz::network::{THEM, US, US4, ether, ipv4, ipv6, sum, sum_ipv6};
use libfuzzer_sys::fuzz_target;
use unet::device::{Count, Filter, Verify, parse};

const PORT: u16 = 7;
const US6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fuzz_target!(|bytes: &[u8]| {
    let mut filter = Filter::new(US, PORT);
    filter.set_addresses([US4.into(), US6.into()]);
    let frame = next(&mut Bytes(bytes));
    filter.verify = Verify::Strict;
    let strict = parse(&frame, &filter);
    match &strict {
        Ok((_, payload)) => {
            assert!(payload.start <= payload.end && payload.end <= frame.len());
            assert_eq!(judge(&frame), Some(&frame[payload.clone()]));
        }
        Err(count) => {
            assert!(Count::DROPPED.contains(count));
            assert_eq!(judge(&frame), None, "refused as {count:?}");
        }
    }
    // Who verifies less refuses no more, and finds the same.
    for verify in [Verify::OrPartial, Verify::Not] {
        filter.verify = verify;
        let laxer = parse(&frame, &filter);
        assert!(strict.is_err() || laxer == strict);
        assert!(laxer.is_ok() || laxer == strict);
    }
});

/// The payload of a datagram to us, if every header is right by etherparse's word.
fn judge(frame: &[u8]) -> Option<&[u8]> {
    if frame.get(..6)? != US {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Udp(udp)) = packet.transport else { return None };
    if !packet.link_exts.is_empty() || udp.destination_port() != PORT {
        return None;
    }
    let header = udp.to_header();
    let payload = udp.payload();
    if usize::from(header.length) != payload.len() + 8 {
        return None;
    }
    let sum = match &packet.net {
        Some(NetSlice::Ipv4(net)) => {
            let ip = net.header().to_header();
            let source = net.header().source_addr();
            let is_host = !source.is_multicast() && !source.is_broadcast() && ip.source[0] != 0;
            // Of the bytes: the other reader's header has no place for the bit that is reserved.
            let is_right = sum(net.header().slice()) == [0, 0];
            let is_whole = !ip.more_fragments && ip.fragment_offset.value() == 0;
            let is_ours = ip.destination == US4 && ip.protocol.0 == 17;
            let fits = usize::from(ip.total_len) == ip.header_len() + payload.len() + 8;
            if !(is_host && is_right && is_whole && is_ours && fits) {
                return None;
            }
            if header.checksum == 0 {
                return Some(payload);
            }
            header.calc_checksum_ipv4(&ip, payload)
        }
        Some(NetSlice::Ipv6(net)) => {
            let ip = net.header().to_header();
            let source = net.header().source_addr();
            let is_host = !source.is_multicast() && !source.is_unspecified();
            let is_ours = ip.destination == US6 && ip.next_header.0 == 17;
            let fits = usize::from(ip.payload_length) == payload.len() + 8;
            if !(is_host && is_ours && fits) {
                return None;
            }
            header.calc_checksum_ipv6(&ip, payload)
        }
        _ => return None,
    };
    // All ones and zero are the same number (RFC 768); both readers know only one as none.
    let is_right = sum.is_ok_and(|sum| sum == header.checksum) && header.checksum != 0;
    is_right.then_some(payload)
}

/// A frame that gets as far as its first byte says, and what the input changes about it.
fn next(input: &mut Bytes) -> Vec<u8> {
    let [kind, len, changes, cut] = input.take();
    if kind % 4 == 3 {
        return input.0.to_vec();
    }
    let payload: Vec<u8> =
        (0..len).map_while(|_| input.more().then(|| input.take::<1>()[0])).collect();
    let total = (payload.len() as u16 + 8).to_be_bytes();
    let mut udp = [&[0, 9, 0, PORT as u8, total[0], total[1], 0, 0][..], &payload].concat();
    let mut frame = if kind % 4 == 0 {
        sum_ipv6(17, 6, &mut udp);
        ether(US, THEM, [0x86, 0xdd], &ipv6(17, 64, &udp))
    } else {
        ether(US, THEM, [8, 0], &ipv4(17, [0x40, 0], &udp))
    };
    for _ in 0..changes % 4 {
        let [place, bits] = input.take();
        if let Some(byte) = frame.get_mut(usize::from(place)) {
            *byte ^= bits;
        }
    }
    if cut & 0x80 != 0 {
        frame.resize(frame.len() + usize::from(cut & 0x7f), 0);
    } else if cut & 0x40 != 0 {
        frame.truncate(usize::from(cut & 0x3f) * 2);
    }
    // The IPv4 header's checksum made right again, so that what is behind it is seen.
    if kind % 4 == 2
        && let Some(header) = frame.get(14..).and_then(|ip| ip.first())
        && let end = 14 + usize::from(header & 0xf) * 4
        && end >= 34
        && end <= frame.len()
    {
        frame[24..26].fill(0);
        let right = sum(&frame[14..end]);
        frame[24..26].copy_from_slice(&right);
    }
    frame
}
