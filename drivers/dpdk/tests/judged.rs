//! Judged by DPDK's own test program, in a process of its own on the other side of a memory interface: as echo, as
//! sink and as source. What it counted and what was counted here agree to the packet. Over interfaces of the kernel's,
//! see `veth`.
#![cfg(dpdk)]

mod testpmd;

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Options};
use unet::device::{Count, Device, Frames, Piece};

use testpmd::{
    Account, LOCAL_EXPERIMENT, PATIENCE, TestPmd, all_are_counted, all_arrive, all_come_back,
    await_link,
};

/// The judge, and the other end of its memory interface, once there is a link.
///
/// A client asks once, and what it asked is answered by a thread of DPDK's, which may be late. A server that has not
/// begun yet refuses it for good; and one that forwards already may crash when its client goes, since that same thread
/// takes the memory away. So this asks once, after the server said that it has begun, and waits.
fn start(mode: &str, port: &str) -> Option<(TestPmd, DpdkPort)> {
    let name = format!("unet-{mode}-{}", std::process::id());
    let judge = TestPmd::start(&name, mode, &format!("net_memif0,role=server,socket={name}"))?;
    let arguments = format!("{port},role=client,socket={name}");
    let mut device = DpdkPort::open(&arguments, &Options::default()).expect("a server is there");
    await_link(&mut device);
    Some((judge, device))
}

#[test]
fn every_frame_comes_back_with_its_addresses_swapped() {
    let Some((judge, mut device)) = start("macswap", "net_memif10") else { return };
    all_come_back(&mut device, judge, 20_000);
}

#[test]
fn what_is_sent_is_what_the_sink_counts() {
    let Some((judge, mut device)) = start("rxonly", "net_memif11") else { return };
    all_arrive(&mut device, judge, 50_000);
}

#[test]
fn what_the_source_sent_is_received_or_counted() {
    let Some((judge, mut device)) = start("txonly", "net_memif12") else { return };
    all_are_counted(&mut device, judge, |bytes| assert_eq!(bytes.len(), 64), || 0);
}

/// The internet's checksum (RFC 1071), word by word: zero, of what contains a right one.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| [word[0], word.get(1).copied().unwrap_or(0)]);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[test]
fn every_flow_of_the_generator_is_received_or_counted() {
    let mut flows = HashSet::new();
    let Some((judge, mut device)) = start("flowgen", "net_memif13") else { return };
    all_are_counted(
        &mut device,
        judge,
        |bytes| {
            assert_eq!((bytes[12..14].to_vec(), checksum(&bytes[14..34])), (vec![8, 0], 0));
            flows.insert(bytes[26..34].to_vec());
        },
        || 0,
    );
    // It makes as many by default.
    assert_eq!(flows.len(), 1024);
}

/// What is asked, by its number: of four, two are pings, one asks for a neighbour, and one is nothing to answer.
fn question(number: u32) -> (Vec<u8>, bool) {
    let [ours, theirs] = [[2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]];
    let [from, to] = [[10, 0, 0, 8], [10, 0, 0, 9]];
    // An answer without a bit that is set has a checksum of two forms, of which the judge takes the other.
    let number = (number | 0x1200_0000).to_be_bytes();
    match number[3] % 4 {
        0 | 1 => {
            let payload: Vec<u8> = (0..number[3]).collect();
            let len = (28 + payload.len() as u16).to_be_bytes();
            let mut ip = [[0x45, 0], len, [0; 2], [0; 2], [64, 1], [0; 2]].concat();
            ip.extend([from, to].concat());
            let sum = checksum(&ip).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            let mut icmp = [&[8, 0, 0, 0][..], &number, &payload].concat();
            let sum = checksum(&icmp).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
            ([&theirs[..], &ours, &[8, 0], &ip, &icmp].concat(), true)
        }
        2 => {
            let asks = [0, 1, 8, 0, 6, 4, 0, 1];
            let addresses = [&ours[..], &from, &[0; 6], &to].concat();
            // What fills a frame up says which it is.
            let rest = [&number[..], &[0; 14]].concat();
            ([&[0xff; 6][..], &ours, &[8, 6], &asks, &addresses, &rest].concat(), true)
        }
        _ => ([&theirs[..], &ours, &LOCAL_EXPERIMENT, &number, &[0; 42]].concat(), false),
    }
}

/// Whether this answers the question of that number.
fn answers(bytes: &[u8], number: u32) -> bool {
    let (asked, _) = question(number);
    let is_back = bytes[..6] == asked[6..12] && bytes[12..14] == asked[12..14];
    if number % 4 == 2 {
        // An answer, from who was asked for.
        return is_back && bytes[20..22] == [0, 2] && bytes[28..32] == [10, 0, 0, 9];
    }
    let is_whole = checksum(&bytes[14..34]) == 0 && checksum(&bytes[34..]) == 0;
    let is_theirs = bytes[26..34] == [10, 0, 0, 9, 10, 0, 0, 8];
    is_back && is_whole && is_theirs && bytes[34..36] == [0, 0] && bytes[38..] == asked[38..]
}

#[test]
fn pings_and_questions_for_neighbours_are_answered_and_nothing_else_is() {
    let Some((judge, mut device)) = start("icmpecho", "net_memif14") else { return };
    let total = 20_000;
    let (mut sent, mut awaited) = (0, VecDeque::new());
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let (mut back, deadline) = (0, Instant::now() + PATIENCE);
    while sent < total || !awaited.is_empty() || !frames.is_empty() {
        assert!(Instant::now() < deadline, "{back} answers to {sent} questions");
        while sent < total && awaited.len() < 64 && frames.len() < 64 {
            let (bytes, is_answered) = question(sent);
            let Ok(mut fbuf) = device.pool().alloc(bytes.len()) else { break };
            fbuf.copy_from_slice(&bytes);
            frames.push_back(Piece::whole(fbuf.freeze()));
            awaited.extend(is_answered.then_some(sent));
            sent += 1;
        }
        device.transmit(&mut frames).expect("there is a link");
        device.receive(&mut came).expect("there is a link");
        for piece in came.drain(..) {
            let number = awaited.pop_front().expect("an answer to a question");
            assert!(answers(&piece.bytes, number), "{number}: {:?}", &piece.bytes[..]);
            back += 1;
        }
    }
    // The last was nothing to answer; it is looked at within a moment.
    std::thread::sleep(Duration::from_millis(200));
    let counts = device.statistics();
    assert_eq!((counts[Count::Sent], counts[Count::Received]), (total.into(), back));
    let (received, sent) = (u64::from(total), u64::from(total / 4 * 3));
    assert_eq!(judge.end(), Account { received, missed: 0, sent });
    assert_eq!(back, sent);
}
