//! What comes in as it should.

use proptest::prelude::*;
use unet::device::{Count, Datagrams, Device, FramedOptions, Verify};

use super::wire::BUFFERS;
use super::*;

#[test]
fn datagrams_come_with_their_payload_and_who_sent_them() {
    let mut device = device(options());
    for from in [THEIRS4, THEIRS6] {
        for len in [0, 1, 2, 3, 18, 64, 1000, 1452] {
            let bytes: Vec<u8> = (0..len).map(|number| (number * 3) as u8).collect();
            let received = receive(&mut device, &[frame(from, &bytes)]);
            assert_eq!(received.len(), 1);
            assert_eq!(received[0].from, at(from));
            assert_eq!(received[0].piece.bytes[..], bytes);
            assert!(!received[0].piece.more);
        }
    }
    assert_eq!(counted(&mut device), []);
    let statistics = device.statistics();
    assert_eq!(statistics[Count::Received], 16);
    assert_eq!(statistics[Count::ReceivedBytes], 2 * (1 + 2 + 3 + 18 + 64 + 1000 + 1452));
    assert_eq!(device.pool().free(), BUFFERS);
}

proptest! {
    #[test]
    fn what_one_sends_the_other_receives(
        bytes in prop::collection::vec(any::<u8>(), 0..1452),
        over_v6 in any::<bool>(),
        omit in any::<bool>(),
    ) {
        use unet::device::UdpChecksum::{Compute, Omit};
        let checksum = if omit { Omit } else { Compute };
        let mut one = device(FramedOptions { checksum, ..options() });
        let (ours, source) = if over_v6 { (V6, THEIRS6) } else { (V4, THEIRS4) };
        // As the other side sends it: to our address, from its own.
        one.routes().routes.insert(ip(ours), Ok(Route { source: at(source).ip(), mac: MAC, mtu: 1500 }));
        let to = one.open(SocketAddr::new(ip(ours), PORT)).expect("there is a way");
        send(&mut one, to, &bytes);
        let frame = sent(&mut one);
        let mut other = device(FramedOptions { verify: Verify::Strict, ..options() });
        let received = receive(&mut other, &[frame]);
        prop_assert_eq!(received.len(), 1);
        prop_assert_eq!(received[0].from, SocketAddr::new(at(source).ip(), PORT));
        prop_assert_eq!(&received[0].piece.bytes[..], &bytes[..]);
    }
}

#[test]
fn padding_behind_a_short_packet_is_cut_off() {
    let mut device = device(options());
    for from in [THEIRS4, THEIRS6] {
        for padding in [1, 17, 60] {
            let mut frame = frame(from, b"abc");
            frame.resize(frame.len() + padding, 0xee);
            let received = receive(&mut device, &[frame]);
            assert_eq!(received[0].piece.bytes[..], *b"abc");
        }
    }
    assert_eq!(device.statistics()[Count::ReceivedBytes], 18);
}

#[test]
fn options_of_ipv4_are_skipped() {
    let mut device = device(options());
    let plain = frame(THEIRS4, b"abc");
    for words in 1..=10 {
        let mut frame = plain[..34].to_vec();
        // No-operation options.
        frame.extend(vec![1; 4 * words]);
        frame.extend(&plain[34..]);
        let total = ((frame.len() - 14) as u16).to_be_bytes();
        frame[16..18].copy_from_slice(&total);
        let frame = with(&frame, 14, &[0x45 + words as u8]);
        let received = receive(&mut device, std::slice::from_ref(&frame));
        assert_eq!(received.len(), 1, "{:?}", counted(&mut device));
        assert_eq!(received[0].piece.bytes[..], *b"abc");
        // Options are under the header's checksum too.
        let mut damaged = frame;
        damaged[35] ^= 1;
        assert!(receive(&mut device, &[damaged]).is_empty());
    }
    assert_eq!(counted(&mut device), [("bad-checksum", 10)]);
}

/// A frame as a virtual link leaves it: with the sum of the pseudo-header where the checksum goes.
fn partial(from: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(from, payload);
    let (addresses, udp) = if at(from).is_ipv4() { (26..34, 34) } else { (22..54, 54) };
    let words = frame[addresses].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum = words.sum::<u32>() + 17 + u32::from(frame[udp + 4]) * 256 + u32::from(frame[udp + 5]);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    frame[udp + 6..udp + 8].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn a_checksum_that_a_virtual_link_left_unfinished_is_taken_unless_it_is_not_to_be() {
    let frames: Vec<_> = [THEIRS4, THEIRS6].iter().map(|from| partial(from, b"abcde")).collect();
    for (verify, taken) in [(Verify::OrPartial, 2), (Verify::Not, 2), (Verify::Strict, 0)] {
        let mut device = device(FramedOptions { verify, ..options() });
        assert_eq!(receive(&mut device, &frames).len(), taken);
        let refused = if taken == 0 { vec![("bad-checksum", 2)] } else { Vec::new() };
        assert_eq!(counted(&mut device), refused);
    }
}

#[test]
fn no_checksum_is_taken_over_ipv4_and_over_ipv6_only_where_allowed() {
    let four = with(&frame(THEIRS4, b"abc"), 40, &[0, 0]);
    let six = with(&frame(THEIRS6, b"abc"), 60, &[0, 0]);
    for (zero_over_v6, taken) in [(false, 1), (true, 2)] {
        let mut device = device(FramedOptions { zero_over_v6, ..options() });
        assert_eq!(receive(&mut device, &[four.clone(), six.clone()]).len(), taken);
        let refused = if taken == 1 { vec![("bad-checksum", 1)] } else { Vec::new() };
        assert_eq!(counted(&mut device), refused);
    }
}

#[test]
fn a_wrong_checksum_is_taken_where_none_is_verified() {
    let mut frame = frame(THEIRS4, b"abc");
    *frame.last_mut().expect("it has bytes") ^= 1;
    let mut device = device(FramedOptions { verify: Verify::Not, ..options() });
    assert_eq!(receive(&mut device, &[frame]).len(), 1);
}

#[test]
fn a_device_at_one_address_takes_what_is_for_that_one() {
    let local = Some(ip(V6));
    let mut device = device(FramedOptions { local, ..options() });
    assert_eq!(device.local(), SocketAddr::new(ip(V6), PORT));
    let received = receive(&mut device, &[frame(THEIRS4, b"four"), frame(THEIRS6, b"six")]);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].piece.bytes[..], *b"six");
    assert_eq!(counted(&mut device), [("foreign", 1)]);
}

#[test]
fn addresses_that_come_and_go_are_noticed() {
    let mut device = device(options());
    let frames = [frame(THEIRS4, b"x")];
    device.routes().local.clear();
    assert_eq!(receive(&mut device, &frames).len(), 1, "nothing was said yet");
    device.routes().changed = true;
    device.maintain().expect("the device is up");
    assert!(receive(&mut device, &frames).is_empty());
    device.routes().local.push(ip(V4));
    device.routes().changed = true;
    device.maintain().expect("the device is up");
    assert_eq!(receive(&mut device, &frames).len(), 1);
}

#[test]
fn one_by_one_the_same_comes_and_the_same_is_refused() {
    let mut device = device(options());
    let foreign = frame_to(THEIRS4, PORT + 1, b"not ours");
    let frames = [frame(THEIRS4, b"one"), foreign, frame(THEIRS6, b"three")];
    device.device().arriving.extend(frames.map(|frame| vec![frame]));
    // In several pieces, which are not for this way.
    let whole = frame(THEIRS4, &[4; 100]);
    device.device().arriving.push_back(vec![whole[..60].to_vec(), whole[60..].to_vec()]);
    let (from, payload) = device.receive_one().expect("it is there");
    assert_eq!((from, &payload[..]), (at(THEIRS4), &b"one"[..]));
    drop(payload);
    assert!(device.receive_one().is_none());
    assert_eq!(counted(&mut device), [("foreign", 1)]);
    let (from, payload) = device.receive_one().expect("it is there");
    assert_eq!((from, &payload[..]), (at(THEIRS6), &b"three"[..]));
    drop(payload);
    assert!(device.receive_one().is_none());
    assert_eq!(device.device().arriving.len(), 1);
    assert_eq!(device.statistics()[Count::Received], 2);
    assert_eq!(device.statistics()[Count::ReceivedBytes], 8);
    assert_eq!(device.pool().free(), BUFFERS);
}
