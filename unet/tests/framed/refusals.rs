//! What comes in and is refused: each with its reason.

use etherparse::{
    IcmpEchoHeader, Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use unet::device::{Count, Device, Neighbours};

use super::wire::BUFFERS;
use super::*;

/// That a frame is refused, for this reason and once.
fn refused(frame: &[u8], reason: &'static str, why: &str) {
    let mut device = device(options());
    assert!(receive(&mut device, &[frame.to_vec()]).is_empty(), "{why}");
    assert_eq!(counted(&mut device), [(reason, 1)], "{why}");
    let statistics = device.statistics();
    assert_eq!(statistics[Count::Received] + statistics[Count::ReceivedBytes], 0, "{why}");
    assert_eq!(device.pool().free(), BUFFERS, "{why}");
}

#[test]
fn a_frame_for_somebody_else_is_foreign() {
    for from in [THEIRS4, THEIRS6] {
        let good = frame(from, b"abcd");
        let to = if at(from).is_ipv4() { 33 } else { 53 };
        refused(&with(&good, 5, &[9]), "foreign", "another Ethernet address");
        refused(&with(&good, 0, &[0xff; 6]), "foreign", "everybody");
        refused(&with(&good, to, &[9]), "foreign", "another address");
        refused(&frame_to(from, PORT + 1, b"abcd"), "foreign", "another port");
        let arp = [&good[..12], &[8, 6], &[0; 28]].concat();
        refused(&arp, "foreign", "ARP");
        let tagged = [&good[..12], &[0x81, 0, 0, 1], &good[12..]].concat();
        refused(&tagged, "foreign", "a VLAN's tag");
    }
    refused(&with(&frame(THEIRS4, b"abcd"), 23, &[6]), "foreign", "TCP");
    refused(&with(&frame(THEIRS6, b"abcd"), 20, &[6]), "foreign", "TCP");
    refused(&with(&frame(THEIRS6, b"abcd"), 20, &[58]), "foreign", "ICMPv6");
}

#[test]
fn fragments_are_refused() {
    let good = frame(THEIRS4, b"abcdefgh");
    for (flags, why) in [([0x20, 0], "more follow"), ([0, 1], "the second"), ([0x3f, 0xff], "both")]
    {
        refused(&with(&good, 20, &flags), "bad-header", why);
    }
    // Not to be fragmented, or the reserved bit: nothing is wrong.
    for flags in [[0x40, 0], [0x80, 0], [0, 0]] {
        let mut device = device(options());
        assert_eq!(receive(&mut device, &[with(&good, 20, &flags)]).len(), 1);
    }
    for next in [0, 43, 44, 51, 60] {
        refused(&with(&frame(THEIRS6, b"abcdefgh"), 20, &[next]), "bad-header", "headers between");
    }
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let four = frame(THEIRS4, b"abcd");
    for first in [0x05, 0x35, 0x55, 0x65, 0xf5, 0x40, 0x44] {
        refused(&with(&four, 14, &[first]), "bad-header", "version or header's length");
    }
    for total in [0u16, 19, 20, 27, 31] {
        refused(&with(&four, 16, &total.to_be_bytes()), "bad-header", "IPv4's length");
    }
    let six = frame(THEIRS6, b"abcd");
    for first in [0x00, 0x40, 0x50, 0x70, 0xf0] {
        refused(&with(&six, 14, &[first]), "bad-header", "version");
    }
    for total in [0u16, 7, 11] {
        refused(&with(&six, 18, &total.to_be_bytes()), "bad-header", "IPv6's length");
    }
    for len in [0u16, 7, 8, 11, 13, 0xffff] {
        refused(&with(&four, 38, &len.to_be_bytes()), "bad-header", "UDP's length");
        refused(&with(&six, 58, &len.to_be_bytes()), "bad-header", "UDP's length");
    }
    for from in [[224, 0, 0, 1], [239, 1, 2, 3], [255; 4], [0; 4], [0, 1, 2, 3]] {
        refused(&with(&four, 26, &from), "bad-header", "from many, or nobody");
    }
    refused(&with(&six, 22, &[0xff, 2]), "bad-header", "from many");
    refused(&with(&six, 22, &[0; 16]), "bad-header", "from nobody");
}

#[test]
fn every_damaged_byte_is_noticed() {
    for (from, first) in [(THEIRS4, 14), (THEIRS6, 14)] {
        let good = frame(from, b"abcd!");
        // The traffic class, flow label and hop limit of IPv6 are under no checksum; the former two
        // begin in the byte of the version.
        let is_unprotected = |place| at(from).is_ipv6() && matches!(place, 14..=17 | 21);
        for place in (first..good.len()).filter(|place| !is_unprotected(*place)) {
            for bit in 0..8 {
                let mut device = device(options());
                let mut damaged = good.clone();
                damaged[place] ^= 1 << bit;
                let received = receive(&mut device, &[damaged]);
                assert!(received.is_empty(), "bit {bit} of byte {place}");
                assert_eq!(counted(&mut device).len(), 1);
            }
        }
    }
}

#[test]
fn wrong_checksums_are_counted_as_such() {
    let mut frame4 = frame(THEIRS4, b"abcd");
    frame4[22] = 63;
    refused(&frame4, "bad-checksum", "IPv4's header");
    for from in [THEIRS4, THEIRS6] {
        let mut frame = frame(from, b"abcd");
        *frame.last_mut().expect("it has bytes") ^= 1;
        refused(&frame, "bad-checksum", "the payload");
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_refused() {
    for from in [THEIRS4, THEIRS6] {
        let good = frame(from, b"abcdefg");
        for len in 0..good.len() {
            refused(&good[..len], "truncated", &format!("{from}, {len} bytes"));
        }
    }
}

#[test]
fn foreign_frames_are_heard_by_who_finds_the_ways_and_nothing_else_is() {
    let mut device = device(options());
    device.routes().echoes = true;
    let good = frame(THEIRS4, b"abcd");
    let arp = [&good[..12], &[8, 6], &[7; 28]].concat();
    let mut damaged = good.clone();
    damaged[45] ^= 1;
    assert_eq!(receive(&mut device, &[arp.clone(), good, damaged]).len(), 1);
    // What it said was what it heard: once.
    assert_eq!(sent(&mut device), arp);
    assert_eq!(counted(&mut device), [("bad-checksum", 1), ("foreign", 1)]);
    assert_eq!(device.statistics()[Count::SentBytes], 0, "it was no payload");
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_neighbour_is_found_where_no_kernel_stands_behind_the_device() {
    let (address, theirs) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
    let ours = Neighbours::new(MAC, address, 24, None).expect("a host's");
    let mut theirs = Neighbours::new(THEIRS, theirs, 24, None).expect("a host's");
    let mut device = Framed::new(Wire::default(), ours, options());
    assert_eq!(device.open(at(THEIRS4)), Err(DeviceError::Unresolved));
    let question = device.device().sent.remove(0).concat();
    theirs.hear(&question);
    let answer = theirs.say().expect("it answers");
    device.device().arriving.push_back(vec![answer]);
    let mut received = Vec::new();
    device.receive(&mut received).expect("the device is up");
    assert!(received.is_empty() && device.open(at(THEIRS4)).is_ok());
    assert!(device.device().sent.is_empty());
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_ping_by_a_foreign_writer_is_answered_as_a_foreign_reader_wants_it() {
    let ours = Neighbours::new(MAC, [192, 0, 2, 1].into(), 24, None).expect("a host's");
    let mut device = Framed::new(Wire::default(), ours, options());
    let mut question = Vec::new();
    PacketBuilder::ethernet2(THEIRS, MAC)
        .ipv4([192, 0, 2, 2], [192, 0, 2, 1], 3)
        .icmpv4_echo_request(77, 5)
        .write(&mut question, b"0123456789")
        .expect("a vector has room");
    device.device().arriving.push_back(vec![question]);
    let mut received = Vec::new();
    device.receive(&mut received).expect("the device is up");
    assert!(received.is_empty());
    let answer = device.device().sent.remove(0).concat();
    let packet = SlicedPacket::from_ethernet(&answer).expect("it is well-formed");
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("{packet:?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!((header.source, header.destination), ([192, 0, 2, 1], [192, 0, 2, 2]));
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { panic!("{packet:?}") };
    let echo = Icmpv4Type::EchoReply(IcmpEchoHeader { id: 77, seq: 5 });
    assert_eq!((icmp.icmp_type(), icmp.payload()), (echo.clone(), &b"0123456789"[..]));
    assert_eq!(icmp.checksum(), echo.calc_checksum(b"0123456789"));
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_ping_that_is_longer_than_what_goes_back_is_not_answered() {
    let ours = Neighbours::new(MAC, [192, 0, 2, 1].into(), 24, None).expect("a host's");
    let mut device = Framed::new(Wire::default(), ours, options());
    let mut answered = |len: usize| {
        let mut question = Vec::new();
        PacketBuilder::ethernet2(THEIRS, MAC)
            .ipv4([192, 0, 2, 2], [192, 0, 2, 1], 3)
            .icmpv4_echo_request(77, 5)
            .write(&mut question, &vec![7; len])
            .expect("a vector has room");
        device.device().arriving.push_back(vec![question]);
        device.receive(&mut Vec::new()).expect("the device is up");
        std::mem::take(&mut device.device().sent).len()
    };
    assert_eq!((answered(1472), answered(1473), answered(1900), answered(1)), (1, 0, 0, 1));
}
