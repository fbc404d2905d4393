//! Datagrams in several pieces.

use unet::device::{Count, Datagrams, Device, Outgoing, Piece};

use super::wire::BUFFERS;
use super::*;

fn jumbo() -> Device4 {
    let mut device = device(options());
    let capabilities = &mut device.device().capabilities;
    (capabilities.pieces, capabilities.mtu) = (4, 9000);
    device.routes().routes.values_mut().flatten().for_each(|route| route.mtu = 9000);
    device.maintain().expect("the device is up");
    device
}

fn outgoing(device: &mut Device4, to: Destination, pieces: &[&[u8]]) -> VecDeque<Outgoing> {
    let last = pieces.len() - 1;
    let piece = |(number, bytes): (usize, &&[u8])| {
        let bytes = payload(device, bytes);
        Outgoing { to, piece: Piece { bytes, more: number < last } }
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// What other pieces than the first are received as.
fn bytes(received: &[Received]) -> Vec<u8> {
    let pieces = received.iter().map(|one| &one.piece.bytes[..]);
    pieces.collect::<Vec<_>>().concat()
}

#[test]
fn pieces_of_any_length_make_one_frame_that_is_right() {
    let mut device = jumbo();
    for peer in [THEIRS4, THEIRS6] {
        let to = device.open(at(peer)).expect("there is a way");
        let source = if at(peer).is_ipv4() { V4 } else { V6 };
        let lens = [[0, 0, 1], [1, 1, 1], [3, 0, 5], [1000, 1001, 1], [1, 1400, 1401]];
        for lens in lens {
            let parts = lens.map(|len| (0..len).map(|at| (at * 5) as u8).collect::<Vec<_>>());
            let whole = parts.concat();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let mut out = outgoing(&mut device, to, &parts);
            device.transmit(&mut out).expect("the device is up");
            let frame = device.device().sent.remove(0).concat();
            let headers = frame.len() - whole.len();
            assert_eq!(frame[headers..], whole);
            // The same by another writer of headers, but for fields that it sets otherwise.
            let mut expected = Vec::new();
            let builder = etherparse::PacketBuilder::ethernet2(MAC, THEIRS);
            let builder = match (ip(source), at(peer).ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
                (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
                _ => unreachable!("they are of one family"),
            };
            builder.udp(PORT, 9).write(&mut expected, &whole).expect("it fits");
            assert_eq!(frame[headers - 8..], expected[headers - 8..]);
        }
    }
    assert_eq!(device.copies(), 0);
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn headers_get_a_piece_of_their_own_where_the_first_is_shared() {
    let mut device = jumbo();
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let mut out = outgoing(&mut device, to, &[b"abc", b"de"]);
    let shared = out[0].piece.bytes.clone();
    // What is not taken comes back without that piece.
    device.device().room = 0;
    device.transmit(&mut out).expect("the device is up");
    assert_eq!(out.len(), 2);
    assert!(out[0].piece.more && !out[1].piece.more);
    assert_eq!(out[0].piece.bytes[..], *b"abc");
    assert_eq!(device.statistics()[Count::SentBytes], 0);
    device.device().room = 1;
    device.transmit(&mut out).expect("the device is up");
    let pieces = device.device().sent.remove(0);
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [42, 3, 2]);
    assert_eq!(device.statistics()[Count::SentBytes], 5);
    assert_eq!((&shared[..], device.pool().copied()), (&b"abc"[..], 0));
}

#[test]
fn pieces_that_a_full_device_does_not_take_come_back_as_they_were() {
    let mut device = jumbo();
    let to = device.open(at(THEIRS6)).expect("there is a way");
    let mut out = outgoing(&mut device, to, &[b"abc", b"", b"de"]);
    out.extend(outgoing(&mut device, to, &[b"second"]));
    for room in [0, 0, 1] {
        device.device().room = room;
        device.transmit(&mut out).expect("the device is up");
        let left = out.iter().map(|one| (one.piece.bytes.to_vec(), one.piece.more));
        let all = [(&b"abc"[..], true), (b"", true), (b"de", false), (b"second", false)];
        let expected = all.iter().skip(3 * room).map(|(bytes, more)| (bytes.to_vec(), *more));
        assert!(left.eq(expected));
        assert_eq!(device.statistics()[Count::SentBytes], 5 * room as u64);
    }
    let lens = device.device().sent.remove(0).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!((lens, device.copies()), (vec![65, 0, 2], 0));
}

#[test]
fn the_first_piece_is_copied_where_no_further_piece_may_be() {
    let mut device = jumbo();
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let mut out = outgoing(&mut device, to, &[b"abc", b"d", b"e", b"f"]);
    let shared = out[0].piece.bytes.clone();
    device.transmit(&mut out).expect("the device is up");
    let pieces = device.device().sent.remove(0);
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [45, 1, 1, 1]);
    assert_eq!((&shared[..], device.copies(), device.pool().copied()), (&b"abc"[..], 1, 3));
}

#[test]
fn too_many_pieces_and_pieces_without_an_end_are_counted_once() {
    let mut device = jumbo();
    let to = device.open(at(THEIRS4)).expect("there is a way");
    let other = device.open(at(THEIRS6)).expect("there is a way");
    let mut out = outgoing(&mut device, to, &[b"1", b"2", b"3", b"4", b"5", b"6", b"7"]);
    device.transmit(&mut out).expect("the device is up");
    let mut out = outgoing(&mut device, to, &[b"1", b"2"]);
    out.pop_back();
    out.extend(outgoing(&mut device, other, &[b"whole"]));
    device.transmit(&mut out).expect("the device is up");
    assert_eq!(counted(&mut device), [("malformed", 2)]);
    assert_eq!(device.device().sent.len(), 1, "what came after it went out");
    let mut out = outgoing(&mut device, to, &[&[0; 1900], &[0; 1900], &[0; 1900], &[0; 1900]]);
    device.routes().routes.values_mut().flatten().for_each(|route| route.mtu = 7627);
    device.maintain().expect("the device is up");
    device.transmit(&mut out).expect("the device is up");
    assert_eq!(counted(&mut device), [("too-long", 1), ("malformed", 2)]);
    assert_eq!(device.pool().free(), BUFFERS);
}

#[test]
fn a_frame_cut_into_pieces_anywhere_behind_its_headers_is_received() {
    for from in [THEIRS4, THEIRS6] {
        let mut whole = frame(from, b"abcdefghi");
        let (len, payload) = (whole.len(), whole.len() - 9);
        whole.extend([0xee; 3]);
        for first in 0..whole.len() {
            for second in first..whole.len() {
                let mut device = jumbo();
                let pieces = [&whole[..first], &whole[first..second], &whole[second..]];
                let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
                device.device().arriving.push_back(pieces);
                let received = receive(&mut device, &[Vec::new()]);
                if first < payload {
                    assert_eq!(device.statistics()[Count::Truncated], 2, "{first} {second}");
                    continue;
                }
                assert_eq!(bytes(&received), b"abcdefghi", "{first} {second}");
                let (last, others) = received.split_last().expect("there is a piece");
                assert!(!last.piece.more && others.iter().all(|one| one.piece.more));
                assert!(received.iter().all(|one| !one.piece.bytes.is_empty()));
                assert_eq!(device.statistics()[Count::ReceivedBytes], 9);
                drop(received);
                assert_eq!(device.pool().free(), BUFFERS);
            }
        }
        let mut device = jumbo();
        whole[len - 1] ^= 1;
        let pieces = vec![whole[..payload + 1].to_vec(), whole[payload + 1..].to_vec()];
        device.device().arriving.push_back(pieces);
        assert!(receive(&mut device, &[Vec::new()]).is_empty());
        assert_eq!(device.statistics()[Count::BadChecksum], 1);
    }
}

#[test]
fn an_empty_datagram_in_pieces_is_a_datagram() {
    let mut device = jumbo();
    let frame = frame(THEIRS4, b"");
    device.device().arriving.push_back(vec![frame, vec![0; 18]]);
    let mut received = Vec::new();
    device.receive(&mut received).expect("the device is up");
    assert_eq!(received.len(), 1);
    assert!(received[0].piece.bytes.is_empty() && !received[0].piece.more);
}

#[test]
fn what_arrives_in_too_many_pieces_is_counted_once() {
    let mut device = jumbo();
    let pieces = frame(THEIRS4, &[0; 99]).chunks(20).map(<[u8]>::to_vec).collect();
    device.device().arriving.push_back(pieces);
    let mut received = Vec::new();
    device.receive(&mut received).expect("the device is up");
    assert!(received.is_empty());
    assert_eq!(counted(&mut device), [("truncated", 1)]);
    assert_eq!(device.pool().free(), BUFFERS);
}
