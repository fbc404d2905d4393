//! A host among others in an IPv4 network: ARP, IPv4, ICMP and UDP together.

mod network;

use std::time::Duration;

use network::*;
use proptest::prelude::*;

/// What Linux sent and got, from the lab.
const ASKED: &str = "ffffffffffff02000000000108060001080006040001020000000001c0000201000000000000\
                     c0000202";
const PINGED: &str = "020000000002020000000001080045000054aa73400040010c32c0000201c00002020800a220\
                      4f070001cb99016b0000000072ff080000000000101112131415161718191a1b1c1d1e1f2021\
                      22232425262728292a2b2c2d2e2f3031323334353637";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn to_us(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ether(US, THEM, 0x0800, &ipv4(THEM4, US4, protocol, payload))
}

#[test]
fn a_kernel_that_asks_for_us_gets_our_address_and_others_get_nothing() {
    let mut host = Host::new(2);
    assert_eq!(host.exchange(&bytes(ASKED)), [arp(2, US, US4, THEM, THEM4)]);
    assert!(host.exchange(&arp(1, THEM, THEM4, [0; 6], [192, 0, 2, 77])).is_empty());
    assert_eq!(host.count("arp", "neighbors"), 0, "who asks is not thereby known");
}

#[test]
fn a_ping_of_the_kernel_waits_until_its_sender_is_found_and_comes_back_as_it_was() {
    let mut host = Host::new(2);
    let ping = bytes(PINGED);
    assert_eq!(host.exchange(&ping), [arp(1, US, US4, [0; 6], THEM4)]);
    let sent = host.exchange(&arp(2, THEM, THEM4, US, US4));
    let [reply] = &sent[..] else { panic!("one reply, not {sent:?}") };
    assert_eq!(&reply[..14], ether(THEM, US, 0x0800, &[]));
    assert_eq!(sum(&reply[14..34]), [0, 0]);
    assert_eq!(sum(&reply[34..]), [0, 0]);
    assert_eq!(reply[34], 0, "it is a reply");
    assert_eq!(reply[38..], ping[38..], "identifier, sequence number and data are the same");
}

#[test]
fn a_neighbor_that_does_not_answer_costs_a_few_questions_and_its_messages() {
    let mut host = Host::new(2);
    let session = host.open("udp", "192.0.2.1", (1000, 2000));
    (0..3).for_each(|_| host.push(session, b"anybody?"));
    let asked = host.pass(Duration::from_secs(30));
    assert_eq!(asked, vec![arp(1, US, US4, [0; 6], THEM4); 4]);
    assert_eq!(host.count("arp", "dropped: Unresolved"), 3);
}

#[test]
fn what_is_not_in_our_network_goes_to_the_gateway() {
    let mut host = Host::new(2);
    let session = host.open("udp", "198.51.100.7", (1000, 2000));
    host.push(session, b"far");
    assert_eq!(host.sent(), [arp(1, US, US4, [0; 6], [192, 0, 2, 99])]);
    let sent = host.exchange(&arp(2, THEM, [192, 0, 2, 99], US, US4));
    assert_eq!(sent[0][30..34], [198, 51, 100, 7]);
}

#[test]
fn an_answer_that_lies_about_who_sends_it_is_refused() {
    let mut host = Host::new(2);
    let session = host.open("udp", "192.0.2.1", (1000, 2000));
    host.push(session, b"?");
    let mut lie = arp(2, THEM, THEM4, US, US4);
    lie[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 66]);
    host.sent();
    assert!(host.exchange(&lie).is_empty());
    assert_eq!(host.count("arp", "dropped: Malformed"), 1);
}

#[test]
fn padding_and_options_are_not_taken_for_payload() {
    let mut host = Host::acquainted(2);
    host.listen(7);
    let datagram = udp(&THEM4, &US4, (9, 7), b"x");
    let mut padded = to_us(17, &datagram);
    padded.resize(60, 0xaa);
    host.exchange(&padded);
    let mut optioned = ipv4(THEM4, US4, 17, &datagram);
    optioned[0] = 0x46;
    optioned[3] += 4;
    optioned.splice(20..20, [1, 1, 1, 0]);
    optioned[10..12].fill(0);
    let right = sum(&optioned[..24]);
    optioned[10..12].copy_from_slice(&right);
    host.exchange(&ether(US, THEM, 0x0800, &optioned));
    let came = host.delivered();
    assert_eq!(came.iter().map(|(bytes, _)| &bytes[..]).collect::<Vec<_>>(), [b"x", b"x"]);
    assert_eq!(came[0].1.remote.port, Some(9));
}

#[test]
fn every_refusal_is_counted_by_its_reason() {
    let good = to_us(1, &echo(8, b"abcd"));
    let changed = |at: usize, to: u8| {
        let mut frame = good.clone();
        frame[at] = to;
        frame[24..26].fill(0);
        let right = sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&right);
        frame
    };
    let mut wrong_sum = good.clone();
    wrong_sum[25] ^= 1;
    let mut wrong_data = good.clone();
    wrong_data[45] ^= 1;
    let cases = [
        (wrong_sum, "ipv4", "dropped: Checksum"),
        (wrong_data, "icmp", "dropped: Checksum"),
        (changed(22, 0), "ipv4", "dropped: HopLimit"),
        (changed(33, 9), "ipv4", "dropped: NotForUs"),
        (changed(17, 200), "ipv4", "dropped: Malformed"),
        (changed(14, 0x44), "ipv4", "dropped: Malformed"),
        (changed(26, 127), "ipv4", "dropped: Malformed"),
        (changed(29, 2), "ipv4", "dropped: Malformed"),
        (changed(29, 255), "ipv4", "dropped: Malformed"),
        (changed(23, 200), "ipv4", "dropped: NoSession"),
        (good[..30].to_vec(), "ipv4", "dropped: Malformed"),
        (good[..10].to_vec(), "ether", "dropped: Malformed"),
        (ether([2, 0, 0, 0, 0, 9], THEM, 0x0800, &good[14..]), "ether", "dropped: NotForUs"),
        (ether(ALL, THEM, 0x0800, &good[14..]), "ipv4", "dropped: NotForUs"),
        (ether(US, US, 0x0800, &good[14..]), "ether", "dropped: Malformed"),
        (ether(US, THEM, 0x88cc, &good[14..]), "ether", "dropped: Unsupported"),
    ];
    for (frame, node, what) in cases {
        let mut host = Host::acquainted(2);
        let before = host.count(node, what);
        assert!(host.exchange(&frame).is_empty(), "{frame:?}");
        assert_eq!(host.count(node, what), before + 1, "{node} {what} {frame:?}");
    }
    assert_eq!(Host::acquainted(2).exchange(&good).len(), 1);
}

#[test]
fn a_ping_to_everybody_is_not_answered() {
    let mut host = Host::acquainted(2);
    let ping = ipv4(THEM4, [192, 0, 2, 255], 1, &echo(8, b""));
    assert!(host.exchange(&ether(ALL, THEM, 0x0800, &ping)).is_empty());
}

#[test]
fn a_closed_port_is_told_to_the_sender_with_what_it_sent_and_not_too_often() {
    let mut host = Host::acquainted(2);
    let packet = ipv4(THEM4, US4, 17, &udp(&THEM4, &US4, (4000, 9), b"anybody?"));
    let frame = ether(US, THEM, 0x0800, &packet);
    let sent = host.exchange(&frame);
    let [error] = &sent[..] else { panic!("one error, not {sent:?}") };
    assert_eq!(error[34..36], [3, 3]);
    assert_eq!((sum(&error[14..34]), sum(&error[34..])), ([0, 0], [0, 0]));
    assert_eq!(error[42..], packet, "it is quoted as it was");
    let answered = (0..1000).filter(|_| !host.exchange(&frame).is_empty()).count();
    assert!((1..50).contains(&answered), "{answered}");
}

#[test]
fn udp_sums_are_checked_and_may_be_missing() {
    let mut host = Host::acquainted(2);
    host.listen(7);
    let mut datagram = udp(&THEM4, &US4, (9, 7), b"odd");
    host.exchange(&to_us(17, &datagram));
    datagram[10] ^= 1;
    host.exchange(&to_us(17, &datagram));
    datagram[6..8].fill(0);
    host.exchange(&to_us(17, &datagram));
    assert_eq!(host.delivered().len(), 2);
    assert_eq!(host.count("udp", "dropped: Checksum"), 1);
}

#[test]
fn an_answer_to_what_was_for_everybody_is_summed_over_the_address_it_comes_from() {
    for everybody in [[192, 0, 2, 255], [255; 4]] {
        let mut host = Host::acquainted(2);
        host.listen(7);
        let packet = ipv4(THEM4, everybody, 17, &udp(&THEM4, &everybody, (9, 7), b"all?"));
        host.exchange(&ether(ALL, THEM, 0x0800, &packet));
        let sent = host.answer(b"one");
        let [answer] = &sent[..] else { panic!("one, not {sent:?}") };
        assert_eq!(answer[26..30], US4);
        assert_eq!(answer[34..], udp(&US4, &THEM4, (7, 9), b"one"));
    }
}

#[test]
fn a_sum_that_comes_out_as_zero_is_sent_as_its_other_form() {
    let mut host = Host::acquainted(2);
    let session = host.open("udp", "192.0.2.1", (0x1000, 0x2000));
    // What is missing to a sum of zero is put into the payload.
    let bare = udp(&US4, &THEM4, (0x1000, 0x2000), &[0, 0]);
    let missing = [bare[6], bare[7]];
    host.push(session, &missing);
    assert_eq!(host.sent()[0][40..42], [0xff, 0xff]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_long_ping_comes_back_whole_whatever_the_pieces_and_their_order(
        len in 1000usize..20_000,
        piece in 100usize..180,
        order in any::<prop::sample::Index>(),
    ) {
        let mut host = Host::acquainted(2);
        let data: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let ping = echo(8, &data);
        let mut frames: Vec<Vec<u8>> = ping
            .chunks((piece * 8).max(len.div_ceil(60) / 8 * 8 + 8))
            .scan(0, |at, chunk| {
                let offset = *at;
                *at += chunk.len();
                let place = (offset, *at < ping.len(), 99);
                Some(ether(US, THEM, 0x0800, &ipv4_piece(THEM4, US4, 1, place, chunk)))
            })
            .collect();
        let middle = order.index(frames.len());
        frames.rotate_left(middle);
        let mut sent = Vec::new();
        for frame in &frames {
            prop_assert!(sent.is_empty(), "it answered before it was whole");
            sent = host.exchange(frame);
        }
        let mut came: Vec<u8> = Vec::new();
        for frame in &sent {
            prop_assert!(frame.len() <= 1514);
            prop_assert_eq!(sum(&frame[14..34]), [0, 0]);
            let place = u16::from_be_bytes([frame[20], frame[21]]);
            prop_assert_eq!(usize::from(place & 0x1fff) * 8, came.len());
            came.extend(&frame[34..]);
            prop_assert_eq!(place & 0x2000 != 0, came.len() < ping.len());
        }
        prop_assert_eq!(came, echo(0, &data));
    }
}

#[test]
fn a_datagram_whose_rest_does_not_come_is_given_up_and_its_sender_told() {
    let mut host = Host::acquainted(2);
    let first = ipv4_piece(THEM4, US4, 17, (0, true, 99), &[1; 64]);
    let later = ipv4_piece(THEM4, US4, 17, (64, true, 98), &[1; 64]);
    assert!(host.exchange(&ether(US, THEM, 0x0800, &first)).is_empty());
    assert!(host.exchange(&ether(US, THEM, 0x0800, &later)).is_empty());
    let sent = host.pass(Duration::from_secs(40));
    let errors: Vec<_> = sent.iter().filter(|frame| frame[12..14] == [8, 0]).collect();
    let [error] = &errors[..] else { panic!("one, not {errors:?}") };
    assert_eq!(error[34..36], [11, 1]);
    assert_eq!((sum(&error[14..34]), sum(&error[34..])), ([0, 0], [0, 0]));
    assert_eq!(error[42..], first, "it is quoted as it was");
    assert_eq!(host.count("ipv4", "dropped: Incomplete"), 2);
}
