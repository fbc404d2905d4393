//! What goes out.

use etherparse::SlicedPacket;
use proptest::prelude::*;
use unet::device::{
    Count, Datagrams, Destination, Device, DeviceError, FramedOptions, Kick, Outgoing, Piece,
    UdpChecksum,
};

use super::wire::{BUFFERS, MAC};
use super::*;

#[test]
fn a_datagram_over_ipv4_is_this_frame() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    send(&mut device, to, b"abc");
    let frame = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xca, // IPv4
        192, 0, 2, 1, 192, 0, 2, 2, // its addresses
        0x1b, 0x58, 0, 9, 0, 11, 0x9c, 0x10, // UDP
        b'a', b'b', b'c',
    ];
    assert_eq!(sent(&mut device), frame);
    let statistics = device.statistics();
    assert_eq!((statistics[Count::Sent], statistics[Count::SentBytes]), (1, 3));
}

#[test]
fn a_datagram_over_ipv6_is_this_frame() {
    let mut device = device(options());
    let to = device.open(at(THEIRS6)).expect("there is a way");
    send(&mut device, to, b"abc");
    let frame = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, // Ethernet
        0x60, 0, 0, 0, 0, 11, 17, 64, // IPv6
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // from
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // to
        0x1b, 0x58, 0, 9, 0, 11, 0xc4, 0x9f, // UDP
        b'a', b'b', b'c',
    ];
    assert_eq!(sent(&mut device), frame);
    assert_eq!(device.statistics()[Count::SentBytes], 3);
}

/// Has etherparse take a frame apart, and says whether its checksums are right.
fn judge(frame: &[u8], payload: &[u8]) {
    use etherparse::{NetSlice, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).expect("it is a frame");
    let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("it is UDP") };
    assert_eq!(udp.payload(), payload);
    let header = udp.to_header();
    assert_eq!((header.source_port, header.destination_port), (PORT, 9));
    let sum = match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert!(ip.dont_fragment && !ip.more_fragments);
            assert_eq!((ip.identification, ip.time_to_live), (0, 64));
            header.calc_checksum_ipv4(&ip, payload)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.hop_limit, 64);
            header.calc_checksum_ipv6(&ip, payload)
        }
        other => panic!("it is IP, not {other:?}"),
    };
    assert_eq!(header.checksum, sum.expect("it is not too long"));
}

proptest! {
    #[test]
    fn frames_of_any_payload_are_right_by_another_reader(
        bytes in prop::collection::vec(any::<u8>(), 0..1452),
    ) {
        let mut device = device(options());
        for to in [THEIRS4, THEIRS6] {
            let to = device.open(at(to)).expect("there is a way");
            send(&mut device, to, &bytes);
            judge(&sent(&mut device), &bytes);
        }
    }
}

#[test]
fn every_length_up_to_the_most_is_right_by_another_reader() {
    let mut device = device(options());
    for to in [THEIRS4, THEIRS6] {
        let to = device.open(at(to)).expect("there is a way");
        for len in 0..=device.max_payload(to) {
            let bytes: Vec<u8> = (0..len).map(|number| (number * 7) as u8).collect();
            send(&mut device, to, &bytes);
            judge(&sent(&mut device), &bytes);
        }
    }
}

#[test]
fn a_checksum_that_comes_to_zero_is_sent_in_its_other_form() {
    let mut device = device(options());
    for to in [THEIRS4, THEIRS6] {
        let to = device.open(at(to)).expect("there is a way");
        send(&mut device, to, &[0, 0]);
        let frame = sent(&mut device);
        let place = frame.len() - 4;
        // With the checksum as the payload, the sum is that of all ones.
        let rest = [frame[place], frame[place + 1]];
        send(&mut device, to, &rest);
        assert_eq!(sent(&mut device)[place..place + 2], [0xff, 0xff]);
    }
}

#[test]
fn the_checksum_is_left_out_over_ipv4_only() {
    let omit = FramedOptions { checksum: UdpChecksum::Omit, ..options() };
    let mut device = device(omit);
    let to = device.open(at(THEIRS4)).expect("there is a way");
    send(&mut device, to, b"abc");
    assert_eq!(sent(&mut device)[40..42], [0, 0]);
    let to = device.open(at(THEIRS6)).expect("there is a way");
    send(&mut device, to, b"abc");
    judge(&sent(&mut device), b"abc");
}

#[test]
fn what_is_as_long_as_may_be_is_sent_and_one_byte_more_is_counted() {
    let mut device = device(options());
    for (to, most) in [(THEIRS4, 1472), (THEIRS6, 1452)] {
        let to = device.open(at(to)).expect("there is a way");
        assert_eq!(device.max_payload(to), most);
        send(&mut device, to, &vec![1; most]);
        assert_eq!(sent(&mut device).len(), 1514);
        send(&mut device, to, &vec![1; most + 1]);
        assert!(device.device().sent.is_empty());
    }
    assert_eq!(counted(&mut device), [("too-long", 2)]);
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_shared_buffer_is_copied_and_its_bytes_stay() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let fbuf = payload(&mut device, b"shared");
    let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf.clone()) }]);
    device.transmit(&mut out).expect("the device is up");
    judge(&sent(&mut device), b"shared");
    assert_eq!(&fbuf[..], b"shared");
    assert_eq!((device.copies(), device.pool().copied()), (1, 6));
    drop(fbuf);
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_buffer_without_headroom_is_copied() {
    let mut device = device(options());
    device.device().capabilities.headroom = 8;
    device.maintain().expect("the device is up");
    assert_eq!(device.capabilities().headroom, 70);
    let to = device.open(at(THEIRS4)).expect("there is a way");
    for (headroom, copies) in [(0, 1), (41, 2), (49, 3), (50, 3)] {
        let fbuf = device.pool().alloc_with_headroom(headroom, 2);
        let mut fbuf = fbuf.expect("a buffer is free");
        fbuf.copy_from_slice(b"hi");
        let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf.freeze()) }]);
        device.transmit(&mut out).expect("the device is up");
        judge(&sent(&mut device), b"hi");
        assert_eq!(device.copies(), copies, "{headroom} bytes of headroom");
    }
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn what_cannot_be_copied_for_want_of_a_buffer_is_counted() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let kept = payload(&mut device, b"kept");
    let taken: Vec<_> = (1..BUFFERS).map(|_| payload(&mut device, b"")).collect();
    let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(kept.clone()) }]);
    device.transmit(&mut out).expect("the device is up");
    assert!(out.is_empty());
    assert_eq!(counted(&mut device), [("failed", 1)]);
    drop((taken, kept));
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn what_a_full_device_does_not_take_stays_as_it_was_and_in_order() {
    let mut device = device(options());
    let four = device.open(at(THEIRS4)).expect("there is a way");
    let six = device.open(at(THEIRS6)).expect("there is a way");
    let shared = payload(&mut device, &[9; 9]);
    let mut out = VecDeque::new();
    for number in 0..20u8 {
        let to = if number % 2 == 0 { four } else { six };
        let bytes = if number == 9 { shared.clone() } else { payload(&mut device, &[number; 9]) };
        out.push_back(Outgoing { to, piece: Piece::whole(bytes) });
    }
    let mut room = 0;
    while !out.is_empty() {
        device.device().room = room % 4;
        room += 1;
        device.transmit(&mut out).expect("the device is up");
        let left = out.iter().map(|outgoing| outgoing.piece.bytes[..].to_vec());
        let expected = (20 - out.len() as u8..20).map(|number| vec![number; 9]);
        assert!(left.eq(expected));
        assert_eq!(device.statistics()[Count::Sent], 20 - out.len() as u64);
        assert_eq!(device.statistics()[Count::SentBytes], 9 * (20 - out.len() as u64));
    }
    for (number, pieces) in device.device().sent.iter().enumerate() {
        judge(&pieces[0], &[number as u8; 9]);
    }
    // It was copied once, and then it was nobody else's.
    assert_eq!(device.copies(), 1);
    drop(shared);
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_device_that_is_down_takes_nothing_and_says_so() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    device.device().state = Err(DeviceError::Down);
    let fbuf = payload(&mut device, b"later");
    let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf) }]);
    assert_eq!(device.transmit(&mut out), Err(DeviceError::Down));
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].piece.bytes[..], *b"later");
    assert_eq!(device.maintain(), Err(DeviceError::Down));
    device.device().state = Ok(());
    assert_eq!(device.transmit(&mut out), Err(DeviceError::Down), "until it is looked at again");
    device.maintain().expect("it is up again");
    device.transmit(&mut out).expect("it is up again");
    judge(&sent(&mut device), b"later");
    assert_eq!(device.copies(), 0);
}

#[test]
fn what_goes_to_nobody_is_counted() {
    let mut device = device(options());
    let closed = device.open(at(THEIRS4)).expect("there is a way");
    device.close(closed);
    for to in [closed, Destination(7), Destination(u32::MAX)] {
        assert!(send(&mut device, to, b"x").is_empty());
        assert_eq!(device.max_payload(to), 0);
        device.close(to);
    }
    assert_eq!(counted(&mut device), [("unresolved", 3)]);
}

#[test]
fn frames_carry_the_devices_address_even_when_it_is_another_one() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let other = [2, 0, 0, 0, 0, 99];
    device.device().mac = other;
    device.maintain().expect("the device is up");
    send(&mut device, to, b"x");
    let frame = sent(&mut device);
    assert_eq!(frame[6..12], other);
    assert_ne!(other, MAC);
}

#[test]
fn a_datagram_alone_is_the_same_frame_by_the_short_way() {
    for to in [THEIRS4, THEIRS6] {
        let mut device = device(options());
        let to = device.open(at(to)).expect("there is a way");
        send(&mut device, to, b"abc");
        let frame = sent(&mut device);
        let payload = payload(&mut device, b"abc");
        assert!(device.transmit_one(to, payload, Kick::Now).is_ok());
        assert_eq!(sent(&mut device), frame);
        let statistics = device.statistics();
        assert_eq!((statistics[Count::Sent], statistics[Count::SentBytes]), (2, 6));
        assert_eq!(device.pool().free(), BUFFERS);
    }
}

#[test]
fn what_is_not_taken_by_the_short_way_comes_back_as_it_was() {
    let mut device = device(options());
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let bytes = payload(&mut device, b"abc");
    let headroom = bytes.headroom();
    // The headers were written when the device said no.
    device.device().room = 0;
    let back = device.transmit_one(to, bytes, Kick::Now).expect_err("there is no room");
    assert_eq!((&back[..], back.headroom()), (&b"abc"[..], headroom));
    device.device().room = 9;
    let back = device
        .transmit_one(Destination(7), back, Kick::Now)
        .expect_err("there is no such destination");
    device.device().state = Err(DeviceError::Down);
    let back = device.transmit_one(to, back, Kick::Now).expect_err("it is down");
    device.device().state = Ok(());
    let shared = back.clone();
    let back = device.transmit_one(to, back, Kick::Now).expect_err("its buffer is shared");
    drop(shared);
    let long = payload(&mut device, &[0; 1473]);
    let long = device.transmit_one(to, long, Kick::Now).expect_err("it is too long");
    drop(long);
    let statistics = device.statistics();
    assert_eq!((statistics[Count::Sent], statistics[Count::SentBytes]), (0, 0));
    assert_eq!(counted(&mut device), []);
    assert!(device.transmit_one(to, back, Kick::Now).is_ok());
    judge(&sent(&mut device), b"abc");
    assert_eq!(device.statistics()[Count::SentBytes], 3);
    assert_eq!(device.pool().free(), BUFFERS);
}
