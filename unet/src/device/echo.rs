//! The answer to a ping (ICMP for IPv4, RFC 792) where no kernel stands behind the device. Pure: a frame comes in, and
//! one may go out. Nothing is remembered of who asks.
//!
//! What is not a plain question to this host is not answered: fragments, options, wrong checksums, what is cut off,
//! and frames with more behind the packet than fills up the shortest frame.

use std::net::Ipv4Addr;

use super::framed::Sum;

const ETHERNET: usize = 14;
const IP: usize = 20;
const ICMP: usize = 8;
const HEADERS: usize = ETHERNET + IP + ICMP;
/// Shorter frames are filled up to this, for which the packet's own length does not answer.
const SHORTEST: usize = 60;
const TYPE_IP: [u8; 2] = [8, 0];
/// Version 4, no options.
const PLAIN: u8 = 0x45;
const PROTOCOL: u8 = 1;
/// Type and code.
const QUESTION: [u8; 2] = [8, 0];
const ANSWER: [u8; 2] = [0, 0];
/// May not be cut into fragments: then it needs no identification (RFC 6864).
const WHOLE: [u8; 2] = [0x40, 0];
const TIME_TO_LIVE: u8 = 64;

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    pub mac: [u8; 6],
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Host {
    /// Whether an address is the network's, or everybody's in it: no host has it.
    pub fn is_special(&self, address: Ipv4Addr) -> bool {
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let (theirs, ours) = (address.to_bits(), self.address.to_bits());
        let is_near = theirs & !host == ours & !host;
        is_near && self.prefix < 31 && (theirs & host == 0 || theirs & host == host)
    }

    /// Whether a host may ask from there: an answer goes to one, and is none to oneself.
    fn may_ask(&self, from: Ipv4Addr) -> bool {
        let is_host = !from.is_multicast() && !from.is_broadcast() && from.octets()[0] != 0;
        is_host && !from.is_loopback() && from != self.address && !self.is_special(from)
    }

    /// The answer to a frame, if it asks this host for one. It goes where the question came from.
    pub fn answer(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let headers = frame.first_chunk::<HEADERS>()?;
        let [from_mac, ip, icmp] = [&headers[6..12], &headers[14..34], &headers[34..42]];
        let is_ours = headers[..6] == self.mac && from_mac[0] & 1 == 0 && from_mac != [0; 6];
        if !is_ours || headers[12..14] != TYPE_IP || ip[0] != PLAIN || ip[9] != PROTOCOL {
            return None;
        }
        let end = ETHERNET + usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if end < HEADERS || end > frame.len() || frame.len() > end.max(SHORTEST) {
            return None;
        }
        // More fragments, or not the first.
        let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
        let from = Ipv4Addr::from([ip[12], ip[13], ip[14], ip[15]]);
        if is_fragment || ip[16..] != self.address.octets() || !self.may_ask(from) {
            return None;
        }
        let is_whole = Sum::of(ip).is_right() && Sum::of(&frame[ETHERNET + IP..end]).is_right();
        if !is_whole || icmp[..2] != QUESTION {
            return None;
        }
        let mut answer = frame[..end].to_vec();
        answer[..6].copy_from_slice(from_mac);
        answer[6..12].copy_from_slice(&self.mac);
        answer[14..34].copy_from_slice(&self.header([ip[2], ip[3]], from));
        answer[34..36].copy_from_slice(&ANSWER);
        answer[36..38].fill(0);
        let checksum = Sum::of(&answer[ETHERNET + IP..]).checksum();
        answer[36..38].copy_from_slice(&checksum);
        Some(answer)
    }

    fn header(&self, len: [u8; 2], to: Ipv4Addr) -> [u8; IP] {
        let mut header = [0; IP];
        header[0] = PLAIN;
        header[2..4].copy_from_slice(&len);
        header[6..8].copy_from_slice(&WHOLE);
        (header[8], header[9]) = (TIME_TO_LIVE, PROTOCOL);
        header[12..16].copy_from_slice(&self.address.octets());
        header[16..].copy_from_slice(&to.octets());
        let checksum = Sum::of(&header).checksum();
        header[10..12].copy_from_slice(&checksum);
        header
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const HOST: Host = Host { mac: MAC, address: Ipv4Addr::new(10, 0, 0, 1), prefix: 24 };

    /// A question from 10.0.0.2 with ten bytes, and its answer; their checksums were computed elsewhere.
    const PING: [u8; 52] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
        0x45, 0x00, 0x00, 0x26, 0x5c, 0x8e, 0x40, 0x00, 0x40, 0x01, 0xca, 0x46, // IP
        10, 0, 0, 2, 10, 0, 0, 1, // from, to
        0x08, 0x00, 0x9f, 0x84, 0x12, 0x34, 0x00, 0x01, // a question
        0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
    ];
    const PONG: [u8; 52] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, // Ethernet
        0x45, 0x00, 0x00, 0x26, 0x00, 0x00, 0x40, 0x00, 0x40, 0x01, 0x26, 0xd5, // IP
        10, 0, 0, 1, 10, 0, 0, 2, // from, to
        0x00, 0x00, 0xa7, 0x84, 0x12, 0x34, 0x00, 0x01, // an answer
        0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
    ];

    /// With checksums that are right again.
    pub fn mended(mut frame: Vec<u8>) -> Vec<u8> {
        frame[24..26].fill(0);
        let checksum = Sum::of(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&checksum);
        let end = frame.len().min(14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])));
        frame[36..38].fill(0);
        let checksum = Sum::of(&frame[34..end.max(34)]).checksum();
        frame[36..38].copy_from_slice(&checksum);
        frame
    }

    /// A question with a payload, from 10.0.0.2.
    pub fn question(payload: &[u8]) -> Vec<u8> {
        let mut frame = [&PING[..HEADERS], payload].concat();
        frame[16..18].copy_from_slice(&((IP + ICMP + payload.len()) as u16).to_be_bytes());
        mended(frame)
    }

    fn changed(changes: &[(usize, u8)]) -> Vec<u8> {
        let mut frame = PING.to_vec();
        changes.iter().for_each(|(place, value)| frame[*place] = *value);
        frame
    }

    #[test]
    fn a_question_is_answered_byte_by_byte() {
        assert_eq!(mended(PING.to_vec()), PING, "the vector is right");
        assert_eq!(HOST.answer(&PING), Some(PONG.to_vec()));
        assert_eq!(HOST.answer(&PONG), None, "an answer is no question");
    }

    #[test]
    fn what_fills_up_a_short_frame_is_not_sent_back_and_no_more_may_follow() {
        let mut frame = PING.to_vec();
        frame.resize(SHORTEST, 0xee);
        assert_eq!(HOST.answer(&frame), Some(PONG.to_vec()));
        frame.push(0xee);
        assert_eq!(HOST.answer(&frame), None);
        let long = question(&[7; 100]);
        assert_eq!(HOST.answer(&long).map(|answer| answer.len()), Some(long.len()));
        assert_eq!(HOST.answer(&[&long[..], &[0]].concat()), None);
    }

    #[test]
    fn every_byte_that_is_cut_off_and_every_bit_that_is_turned_is_noticed() {
        for len in 0..PING.len() {
            assert_eq!(HOST.answer(&PING[..len]), None, "{len}");
        }
        // But for who sent it, which no checksum is over.
        for bit in (0..6 * 8).chain(12 * 8..PING.len() * 8) {
            let frame = changed(&[(bit / 8, PING[bit / 8] ^ (1 << (bit % 8)))]);
            assert_eq!(HOST.answer(&frame), None, "bit {bit}");
        }
    }

    #[test]
    fn what_is_right_but_no_plain_question_to_this_host_is_not_answered() {
        assert!(HOST.answer(&mended(changed(&[(22, 1)]))).is_some(), "its last hop");
        for (what, changes) in [
            ("more fragments", &[(20, 0x20)][..]),
            ("a later fragment", &[(20, 0), (21, 3)]),
            ("options", &[(14, 0x46)]),
            ("version 6", &[(14, 0x65)]),
            ("a length within the headers", &[(17, 27)]),
            ("UDP", &[(23, 17)]),
            ("another host", &[(33, 3)]),
            ("everybody", &[(33, 255)]),
            ("a timestamp", &[(34, 13)]),
            ("a code", &[(35, 1)]),
            ("from ourselves", &[(29, 1)]),
            ("from everybody", &[(29, 255)]),
            ("from the network", &[(29, 0)]),
            ("from all hosts", &[(26, 255), (27, 255), (28, 255), (29, 255)]),
            ("from a group", &[(26, 224)]),
            ("from nowhere", &[(26, 0)]),
            ("from the loopback", &[(26, 127)]),
            ("to a group's Ethernet address", &[(0, 1)]),
            ("from a group's Ethernet address", &[(6, 3)]),
            ("from no Ethernet address", &[(6, 0), (11, 0)]),
        ] {
            assert_eq!(HOST.answer(&mended(changed(changes))), None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_has_what_the_question_had(
            payload in prop::collection::vec(any::<u8>(), 0..1473),
            identity in any::<[u8; 4]>(),
            from in any::<[u8; 4]>(),
        ) {
            let mut frame = question(&payload);
            frame[38..42].copy_from_slice(&identity);
            frame[26..30].copy_from_slice(&from);
            let frame = mended(frame);
            let answer = HOST.answer(&frame);
            prop_assert_eq!(answer.is_some(), HOST.may_ask(from.into()));
            if let Some(answer) = answer {
                prop_assert_eq!(&answer[38..], &frame[38..]);
                prop_assert_eq!(&answer[30..34], &from);
                prop_assert!(Sum::of(&answer[14..34]).is_right() && Sum::of(&answer[34..]).is_right());
            }
        }

        #[test]
        fn any_bytes_are_taken_without_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            changes in prop::collection::vec((0..HEADERS, any::<u8>()), 0..4),
            len in 0..80usize,
        ) {
            prop_assert_eq!(HOST.answer(&bytes), None);
            let mut frame = [&PING[..HEADERS], &bytes].concat();
            changes.iter().for_each(|(place, value)| frame[*place] = *value);
            let frame = mended(frame);
            for frame in [&frame[..], &frame[..len.min(frame.len())]] {
                // Never more than came, and to nobody but who sent it.
                if let Some(answer) = HOST.answer(frame) {
                    prop_assert!(answer.len() <= frame.len());
                    prop_assert_eq!(&answer[..6], &frame[6..12]);
                }
            }
        }
    }
}
