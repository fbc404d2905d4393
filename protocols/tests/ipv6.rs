//! A host among others in an IPv6 network: neighbour discovery, IPv6, ICMP and UDP together.

mod network;

use std::time::Duration;

use network::*;
use proptest::prelude::*;

/// What Linux sent, from the lab.
const SOLICITED: &str = "3333ff00000202000000000186dd6000000000203aff20010db800000000000000000000000\
                         1ff0200000000000000000001ff00000287001c270000000020010db80000000000000000000\
                         000020101020000000001";
const PINGED: &str = "02000000000202000000000186dd600218ea00403a4020010db8000000000000000000000001200\
                      10db80000000000000000000000028000d23a4f150001cd99016b0000000069e70b0000000000\
                      101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353\
                      637";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Whether the sum of a packet without extensions is right, its addresses counted.
fn is_right(frame: &[u8]) -> bool {
    let payload = &frame[54..];
    let len = (payload.len() as u32).to_be_bytes();
    sum(&[&frame[22..54], &len, &[0, 0, 0, frame[20]], payload].concat()) == [0, 0]
}

fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
    ether(US, THEM, 0x86dd, &ipv6(global(1), global(2), next, 64, payload))
}

fn datagram(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    udp(&global(1), &global(2), ports, payload)
}

#[test]
fn a_kernel_that_solicits_us_gets_an_advertisement() {
    let mut host = Host::new(2);
    let sent = host.exchange(&bytes(SOLICITED));
    let [advertised] = &sent[..] else { panic!("one, not {sent:?}") };
    assert_eq!(*advertised, {
        let mut expected = advertisement(global(2), US, 0x60);
        // The same between the others.
        expected[..6].copy_from_slice(&THEM);
        expected[38..54].copy_from_slice(&global(1));
        let payload = summed(&global(2), &global(1), 58, 2, &{
            let mut payload = expected[54..].to_vec();
            payload[2..4].fill(0);
            payload
        });
        expected.splice(54.., payload);
        expected
    });
    assert_eq!(host.count("ipv6", "neighbors"), 0, "who asks is not thereby known");
}

#[test]
fn a_ping_of_the_kernel_waits_until_its_sender_is_found_and_comes_back_as_it_was() {
    let mut host = Host::new(2);
    let ping = bytes(PINGED);
    let sent = host.exchange(&ping);
    let [solicitation] = &sent[..] else { panic!("one, not {sent:?}") };
    assert_eq!(solicitation[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    assert_eq!((solicitation[21], solicitation[54]), (255, 135));
    assert!(is_right(solicitation));
    let sent = host.exchange(&advertisement(global(1), THEM, 0x60));
    let [reply] = &sent[..] else { panic!("one, not {sent:?}") };
    assert!(is_right(reply));
    assert_eq!((&reply[..6], reply[54]), (&THEM[..], 129));
    assert_eq!(reply[58..], ping[58..]);
}

#[test]
fn discovery_from_beyond_the_link_is_not_believed() {
    for (at, to) in [(21, 254), (55, 1), (57, 0), (62, 0xff), (79, 0)] {
        let mut host = Host::new(2);
        let mut solicitation = bytes(SOLICITED);
        solicitation[at] = to;
        assert!(host.exchange(&solicitation).is_empty(), "byte {at}");
        assert_eq!(host.count("ipv6", "answered"), 0);
    }
}

#[test]
fn a_solicitation_that_names_a_group_as_its_sender_is_answered_to_its_frame_s_sender_alone() {
    for group in [ALL, [0x33, 0x33, 0, 0, 0, 1], [3, 0, 0, 0, 0, 1]] {
        let mut host = Host::new(2);
        let mut solicitation = bytes(SOLICITED);
        solicitation[80..].copy_from_slice(&group);
        solicitation[56..58].fill(0);
        let (from, to) = (solicitation[22..38].to_vec(), solicitation[38..54].to_vec());
        let right = summed(&from, &to, 58, 2, &solicitation[54..]);
        solicitation.splice(54.., right);
        let sent = host.exchange(&solicitation);
        assert_eq!(sent.iter().map(|frame| &frame[..6]).collect::<Vec<_>>(), [THEM]);
    }
}

#[test]
fn an_advertisement_of_a_group_s_link_address_is_refused() {
    let mut host = Host::new(2);
    let session = host.open("udp", "2001:db8::1", (1000, 2000));
    host.push(session, b"?");
    host.sent();
    let mut lie = advertisement(global(1), ALL, 0x60);
    lie[6..12].copy_from_slice(&THEM);
    assert!(host.exchange(&lie).is_empty());
    assert_eq!(host.count("ipv6", "dropped: Malformed"), 1);
    let sent = host.exchange(&advertisement(global(1), THEM, 0x60));
    assert_eq!(sent.iter().map(|frame| &frame[..6]).collect::<Vec<_>>(), [THEM]);
}

#[test]
fn who_wants_our_address_hears_that_it_is_taken() {
    let mut host = Host::new(2);
    let mut group = bytes(SOLICITED)[38..54].to_vec();
    let nobody = [0; 16];
    let wanted = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &global(2)].concat();
    let wanted = summed(&nobody, &group, 58, 2, &wanted);
    let to: [u8; 16] = group.clone().try_into().expect("sixteen");
    let link = [0x33, 0x33, 0xff, 0, 0, 2];
    let sent = host.exchange(&ether(link, THEM, 0x86dd, &ipv6(nobody, to, 58, 255, &wanted)));
    let [advertised] = &sent[..] else { panic!("one, not {sent:?}") };
    group = vec![0; 16];
    (group[0], group[1], group[15]) = (0xff, 2, 1);
    assert_eq!(
        (&advertised[..6], &advertised[38..54]),
        (&[0x33, 0x33, 0, 0, 0, 1][..], &group[..])
    );
    assert_eq!(advertised[58], 0x20, "it overrides, but was not solicited");
}

#[test]
fn a_claim_that_nobody_asked_for_is_looked_into_and_changes_nothing() {
    let mut host = Host::acquainted(2);
    let session = host.open("udp", "2001:db8::1", (1000, 2000));
    host.exchange(&advertisement(global(1), [2, 0, 0, 0, 0, 66], 0x20));
    host.push(session, b"!");
    let sent = host.sent();
    assert_eq!(sent.iter().map(|frame| &frame[..6]).collect::<Vec<_>>(), [THEM, THEM]);
    host.exchange(&advertisement(global(1), THEM, 0x60));
    assert!(host.pass(Duration::from_secs(20)).is_empty());
}

#[test]
fn extension_headers_are_passed_over_and_bad_ones_refused() {
    let payload = datagram((9, 7), b"x");
    let extended = |next: u8, header: [u8; 8], first: u8| {
        let mut header = header;
        header[0] = next;
        packet(first, &[&header[..], &payload].concat())
    };
    let padding = [0, 0, 1, 4, 0, 0, 0, 0];
    for (frame, what) in [
        (extended(17, padding, 0), ""),
        (extended(17, padding, 60), ""),
        (extended(17, [0; 8], 44), ""),
        (extended(17, [0; 8], 43), ""),
        (extended(17, [0, 0, 0, 1, 0, 0, 0, 0], 43), "dropped: Unsupported"),
        (extended(17, [0, 0, 0x81, 4, 0, 0, 0, 0], 0), "dropped: Unsupported"),
        (extended(17, [0, 0, 0x1e, 9, 0, 0, 0, 0], 0), "dropped: Malformed"),
        (extended(17, [0, 40, 0, 0, 0, 0, 0, 0], 43), "dropped: Malformed"),
        (extended(51, padding, 60), "dropped: NoSession"),
        (extended(59, padding, 60), "dropped: NoSession"),
    ] {
        let mut host = Host::acquainted(2);
        host.listen(7);
        host.exchange(&frame);
        let delivered = host.delivered().len();
        assert_eq!(delivered, usize::from(what.is_empty()), "{what} {frame:?}");
        assert!(what.is_empty() || host.count("ipv6", what) == 1, "{what} {frame:?}");
    }
    let mut endless = payload.clone();
    for _ in 0..20 {
        endless.splice(0..0, [60, 0, 1, 4, 0, 0, 0, 0]);
    }
    let mut host = Host::acquainted(2);
    host.exchange(&packet(60, &endless));
    assert_eq!(host.count("ipv6", "dropped: Malformed"), 1);
}

#[test]
fn a_missing_sum_is_refused_and_a_closed_port_told() {
    let mut host = Host::acquainted(2);
    let sent = host.exchange(&packet(17, &datagram((4000, 9), b"anybody?")));
    let [error] = &sent[..] else { panic!("one, not {sent:?}") };
    assert_eq!(error[54..56], [1, 4]);
    assert!(is_right(error));
    assert_eq!(error[62..], packet(17, &datagram((4000, 9), b"anybody?"))[14..]);
    host.listen(7);
    let mut summed = datagram((4000, 7), b"!");
    summed[6..8].fill(0);
    host.exchange(&packet(17, &summed));
    assert_eq!(host.count("udp", "dropped: Checksum"), 1);
}

#[test]
fn an_answer_to_what_was_for_a_group_is_summed_over_the_address_it_comes_from() {
    let mut group = [0; 16];
    (group[0], group[1], group[15]) = (0xff, 2, 1);
    let mut host = Host::acquainted(2);
    host.listen(7);
    let datagram = udp(&global(1), &group, (9, 7), b"all?");
    let packet = ipv6(global(1), group, 17, 64, &datagram);
    host.exchange(&ether([0x33, 0x33, 0, 0, 0, 1], THEM, 0x86dd, &packet));
    let sent = host.answer(b"one");
    let [answer] = &sent[..] else { panic!("one, not {sent:?}") };
    assert_eq!(answer[22..38], global(2));
    assert!(is_right(answer));
}

#[test]
fn a_ping_to_a_group_in_a_frame_to_us_alone_is_not_answered() {
    let mut group = [0; 16];
    (group[0], group[1], group[15]) = (0xff, 2, 1);
    let mut host = Host::acquainted(2);
    assert!(host.exchange(&ping6(THEM, global(1), group, b"?")).is_empty());
    assert_eq!(host.count("ipv6", "dropped: NoRoute"), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_long_ping_comes_back_whole_whatever_the_pieces_and_their_order(
        len in 1500usize..20_000,
        piece in 100usize..170,
        order in any::<prop::sample::Index>(),
    ) {
        let mut host = Host::acquainted(2);
        let data: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
        let ping = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1][..], &data].concat();
        let ping = summed(&global(1), &global(2), 58, 2, &ping);
        let pieces: Vec<&[u8]> = ping.chunks(piece * 8).collect();
        let mut frames: Vec<Vec<u8>> = pieces
            .iter()
            .enumerate()
            .map(|(index, chunk)| {
                let more = index + 1 < pieces.len();
                let place = (index * piece * 8) as u16 | u16::from(more);
                let head = [&[58, 0][..], &place.to_be_bytes(), &[1, 2, 3, 4]].concat();
                packet(44, &[&head, *chunk].concat())
            })
            .collect();
        frames.rotate_left(order.index(pieces.len()));
        let sent: Vec<Vec<u8>> = frames.iter().flat_map(|frame| host.exchange(frame)).collect();
        let mut came: Vec<u8> = Vec::new();
        for frame in &sent {
            prop_assert!(frame.len() <= 1514);
            prop_assert_eq!(frame[20], 44);
            let place = u16::from_be_bytes([frame[56], frame[57]]);
            prop_assert_eq!(usize::from(place & !7), came.len());
            came.extend(&frame[62..]);
            prop_assert_eq!(place & 1 != 0, came.len() < ping.len());
        }
        let reply = [&[129, 0, 0, 0, 0x12, 0x34, 0, 1][..], &data].concat();
        prop_assert_eq!(came, summed(&global(2), &global(1), 58, 2, &reply));
    }
}

#[test]
fn a_datagram_whose_rest_does_not_come_is_given_up_and_its_sender_told() {
    let mut host = Host::acquainted(2);
    let first = packet(44, &[&[17, 0, 0, 1, 1, 2, 3, 4][..], &[1; 64]].concat());
    assert!(host.exchange(&first).is_empty());
    let sent = host.pass(Duration::from_secs(70));
    let errors: Vec<_> = sent.iter().filter(|frame| frame[54] == 3).collect();
    let [error] = &errors[..] else { panic!("one, not {sent:?}") };
    assert_eq!(error[54..56], [3, 1]);
    assert!(is_right(error));
    assert_eq!(error[62..], first[14..], "it is quoted as it was");
}
