//! The ways over an interface behind which no kernel stands: one subnet, a gateway perhaps, and the neighbours'
//! Ethernet addresses by ARP (RFC 826), asked for and answered here. IPv4.
//!
//! Whoever is on the link can say whose address is whose: so it is with ARP. What strangers can do here is bounded:
//! so many entries, and so many answers between two looks; an entry comes only from who was asked, or asks.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{DeviceError, Route, Routes};

/// An Ethernet frame with an ARP packet for IPv4.
const FRAME: usize = 42;
const ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet, IPv4, addresses of 6 and 4 bytes.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
const EVERYBODY: [u8; 6] = [0xff; 6];

/// The most neighbours that are known or asked for, and the most frames that wait to be sent.
const MOST: usize = 4096;
const MOST_SAID: usize = 64;
/// So many are looked at to find one that goes.
const FEW: usize = 8;
/// Who does not answer is asked again after so long, and given up after so many times.
const PATIENCE: Duration = Duration::from_millis(100);
const TIMES: u32 = 10;
/// A neighbour that was not heard for so long is asked whether it is still there.
const OLD: Duration = Duration::from_secs(30);

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    mac: Option<[u8; 6]>,
    heard: Instant,
    asked: Instant,
    /// How often it was asked since it was heard.
    times: u32,
}

/// The ways over one subnet, by ARP.
#[derive(Debug)]
pub struct Neighbours {
    mac: [u8; 6],
    local: [IpAddr; 1],
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    known: HashMap<Ipv4Addr, Neighbour>,
    say: VecDeque<[u8; FRAME]>,
    changed: bool,
    /// Since it was looked at last.
    answers: usize,
    looked: Instant,
}

impl Neighbours {
    /// Of an interface with this Ethernet address and this address in a subnet of `prefix` bits. `None` for one that
    /// no host can have.
    pub fn new(
        mac: [u8; 6],
        address: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
    ) -> Option<Self> {
        let it = Self {
            mac,
            local: [address.into()],
            address,
            prefix,
            gateway,
            known: HashMap::new(),
            say: VecDeque::new(),
            changed: false,
            answers: 0,
            looked: Instant::now(),
        };
        let is_host = prefix <= 32 && !address.is_multicast() && !address.is_broadcast();
        let is_near = |gateway: Ipv4Addr| it.is_neighbour(gateway);
        (is_host && !address.is_unspecified() && gateway.is_none_or(is_near)).then_some(it)
    }

    /// Whether an address is another host's of the subnet.
    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        let host = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let (theirs, ours) = (address.to_bits(), self.address.to_bits());
        let is_special = self.prefix < 31 && (theirs & host == 0 || theirs & host == host);
        theirs & !host == ours & !host && theirs != ours && !is_special
    }

    fn ask(&mut self, address: Ipv4Addr, now: Instant) {
        let entry = self.known.entry(address).or_insert(Neighbour {
            mac: None,
            heard: now,
            asked: now,
            times: 0,
        });
        let asked_lately = entry.times > 0 && now.duration_since(entry.asked) < PATIENCE;
        // Who could not be asked was not.
        if asked_lately || self.say.len() == MOST_SAID {
            return;
        }
        (entry.asked, entry.times) = (now, entry.times.saturating_add(1));
        self.send(REQUEST, EVERYBODY, ([0; 6], address));
    }

    fn send(&mut self, what: [u8; 2], to: [u8; 6], (mac, address): ([u8; 6], Ipv4Addr)) {
        if self.say.len() == MOST_SAID || self.answers == MOST_SAID && what == REPLY {
            return;
        }
        self.answers += usize::from(what == REPLY);
        let mut frame = [0; FRAME];
        let parts: [&[u8]; 9] = [
            &to,
            &self.mac,
            &ARP,
            &KIND,
            &what,
            &self.mac,
            &self.address.octets(),
            &mac,
            &address.octets(),
        ];
        let mut at = 0;
        for part in parts {
            frame[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.say.push_back(frame);
    }

    /// Makes room for one more: of a few, whoever never answered goes, or else who was not heard for longest.
    fn make_room(&mut self) {
        if self.known.len() < MOST {
            return;
        }
        let some = self.known.iter().take(FEW);
        let oldest = some.min_by_key(|(_, it)| (it.mac.is_some(), it.heard));
        if let Some(address) = oldest.map(|(address, _)| *address) {
            self.known.remove(&address);
            self.changed = true;
        }
    }

    fn learn(&mut self, address: Ipv4Addr, mac: [u8; 6], is_for_us: bool) {
        let now = Instant::now();
        if !self.known.contains_key(&address) {
            if !is_for_us {
                return;
            }
            self.make_room();
        }
        let new = Neighbour { mac: Some(mac), heard: now, asked: now, times: 0 };
        let before = self.known.insert(address, new);
        self.changed |= before.is_none_or(|before| before.mac != Some(mac));
    }
}

impl Routes for Neighbours {
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError> {
        let IpAddr::V4(to) = to else { return Err(DeviceError::Unreachable) };
        let hop = match self.is_neighbour(to) {
            true => to,
            false if to == self.address => return Err(DeviceError::Unreachable),
            false => self.gateway.ok_or(DeviceError::Unreachable)?,
        };
        if let Some(mac) = self.known.get(&hop).and_then(|it| it.mac) {
            return Ok(Route { source: self.address.into(), mac, mtu: usize::MAX });
        }
        if !self.known.contains_key(&hop) {
            self.make_room();
        }
        self.ask(hop, Instant::now());
        Err(DeviceError::Unresolved)
    }

    fn local(&self) -> &[IpAddr] {
        &self.local
    }

    fn maintain(&mut self) -> Result<bool, DeviceError> {
        let now = Instant::now();
        if now.duration_since(self.looked) >= PATIENCE {
            (self.looked, self.answers) = (now, 0);
            let is_due = |it: &Neighbour| match it.mac {
                Some(_) => now.duration_since(it.heard) >= OLD,
                None => true,
            };
            let due = self.known.iter().filter(|(_, it)| is_due(it));
            let mut due: Vec<_> = due.map(|(address, it)| (it.asked, *address, it.times)).collect();
            // So that everybody's turn comes.
            due.sort_unstable();
            for (_, address, times) in due {
                if times < TIMES {
                    self.ask(address, now);
                } else {
                    self.known.remove(&address);
                    self.changed = true;
                }
            }
        }
        Ok(std::mem::take(&mut self.changed))
    }

    fn hear(&mut self, frame: &[u8]) {
        let Some(frame) = frame.first_chunk::<FRAME>() else { return };
        if frame[12..14] != ARP || frame[14..20] != KIND {
            return;
        }
        let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|byte| frame[at + byte]));
        let mac = [0, 1, 2, 3, 4, 5].map(|byte| frame[22 + byte]);
        let (from, to) = (address(28), address(38));
        // It may have this side's own: so have both ends of a TAP interface.
        let is_sender = mac == frame[6..12] && mac[0] & 1 == 0 && mac != [0; 6];
        if !is_sender {
            return;
        }
        let is_for_us = to == self.address;
        let is_request = frame[20..22] == REQUEST;
        if self.is_neighbour(from) {
            self.learn(from, mac, is_for_us && is_request);
        }
        // Who has no address yet asks whether it may have this one.
        if is_for_us && is_request && (self.is_neighbour(from) || from.is_unspecified()) {
            self.send(REPLY, mac, (mac, from));
        }
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        self.say.pop_front().map(|frame| frame.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn ours() -> Neighbours {
        Neighbours::new(MAC, OURS, 24, Some(Ipv4Addr::new(10, 0, 0, 254))).expect("a host's")
    }

    fn theirs() -> Neighbours {
        Neighbours::new(THEIR_MAC, THEIRS, 24, None).expect("a host's")
    }

    #[test]
    fn both_sides_learn_from_one_question_and_its_answer() {
        let (mut ours, mut theirs) = (ours(), theirs());
        assert_eq!(ours.resolve(THEIRS.into()), Err(DeviceError::Unresolved));
        let question = ours.say().expect("it asks");
        assert_eq!(ours.resolve(THEIRS.into()), Err(DeviceError::Unresolved));
        assert_eq!(ours.say(), None, "it asked a moment ago");
        theirs.hear(&question);
        ours.hear(&theirs.say().expect("it answers"));
        let route = ours.resolve(THEIRS.into()).expect("it is known");
        assert_eq!((route.mac, route.source), (THEIR_MAC, OURS.into()));
        assert_eq!(theirs.resolve(OURS.into()).map(|route| route.mac), Ok(MAC));
        assert_eq!((ours.maintain(), ours.maintain()), (Ok(true), Ok(false)));
        assert_eq!((ours.say(), theirs.say()), (None, None));
    }

    #[test]
    fn the_question_is_what_rfc_826_says() {
        let mut ours = ours();
        let _ = ours.resolve(THEIRS.into());
        let frame = ours.say().expect("it asks");
        let expected = [
            &[0xff; 6][..],
            &MAC,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &MAC,
            &[10, 0, 0, 1],
            &[0; 6],
            &[10, 0, 0, 2],
        ];
        assert_eq!(frame, expected.concat());
    }

    #[test]
    fn what_is_elsewhere_goes_by_the_gateway_or_not_at_all() {
        let (mut ours, mut theirs) = (ours(), theirs());
        let far = Ipv4Addr::new(192, 0, 2, 1).into();
        assert_eq!(theirs.resolve(far), Err(DeviceError::Unreachable));
        assert_eq!(ours.resolve(far), Err(DeviceError::Unresolved));
        assert_eq!(ours.say().expect("it asks")[38..], [10, 0, 0, 254]);
        for nobody in [OURS, Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::new(10, 0, 0, 0)] {
            assert_eq!(theirs.is_neighbour(nobody), nobody == OURS, "{nobody}");
        }
        assert_eq!(ours.resolve(OURS.into()), Err(DeviceError::Unreachable));
        assert_eq!(ours.resolve("::1".parse().expect("valid")), Err(DeviceError::Unreachable));
    }

    #[test]
    fn nobody_is_learnt_who_was_not_asked_and_does_not_ask_us() {
        let mut ours = ours();
        let mut theirs = theirs();
        // An answer to nobody's question, and a question for another.
        theirs.send(REPLY, MAC, (MAC, OURS));
        theirs.send(REQUEST, EVERYBODY, ([0; 6], Ipv4Addr::new(10, 0, 0, 9)));
        while let Some(frame) = theirs.say() {
            ours.hear(&frame);
        }
        assert!(ours.known.is_empty() && ours.say.is_empty());
        // A sender that is not who it says, everybody, or nobody.
        theirs.send(REQUEST, EVERYBODY, ([0; 6], OURS));
        let good = theirs.say().expect("it was made");
        for (at, value) in [(6, 4), (22, 4), (28, 11), (14, 9), (18, 7), (12, 9)] {
            let mut frame = good.clone();
            frame[at] = value;
            ours.hear(&frame);
        }
        for mac in [[0; 6], [1, 0, 0, 0, 0, 2], EVERYBODY] {
            let mut frame = good.clone();
            frame[6..12].copy_from_slice(&mac);
            frame[22..28].copy_from_slice(&mac);
            ours.hear(&frame);
        }
        (0..FRAME).for_each(|len| ours.hear(&good[..len]));
        assert!(ours.known.is_empty() && ours.say.is_empty());
        ours.hear(&good);
        assert_eq!((ours.known.len(), ours.say.len()), (1, 1));
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let mut ours = Neighbours::new(MAC, OURS, 8, None).expect("a host's");
        for number in 2..10_000u32 {
            let address = Ipv4Addr::from_bits(OURS.to_bits() + number);
            let mac = [2, 1, 0, 0, (number >> 8) as u8, number as u8];
            let mut stranger = Neighbours::new(mac, address, 8, None).expect("a host's");
            stranger.send(REQUEST, EVERYBODY, ([0; 6], OURS));
            ours.hear(&stranger.say().expect("it was made"));
            let _ = ours.resolve(Ipv4Addr::from_bits(OURS.to_bits() + 100_000 + number).into());
        }
        assert!(ours.known.len() <= MOST && ours.say.len() <= MOST_SAID);
    }

    #[test]
    fn answers_are_bounded_until_it_is_looked_at_again() {
        let (mut ours, mut theirs) = (ours(), theirs());
        theirs.send(REQUEST, EVERYBODY, ([0; 6], OURS));
        let question = theirs.say().expect("it was made");
        let mut answers = 0;
        for _ in 0..1000 {
            ours.hear(&question);
            answers += std::iter::from_fn(|| ours.say()).count();
        }
        assert_eq!(answers, MOST_SAID);
        ours.looked -= PATIENCE;
        let _ = ours.maintain();
        ours.hear(&question);
        assert!(ours.say().is_some());
    }

    #[test]
    fn nobody_is_forgotten_who_could_not_be_asked() {
        let mut ours = Neighbours::new(MAC, OURS, 16, None).expect("a host's");
        let address = |number| Ipv4Addr::from_bits(OURS.to_bits() + number);
        for number in 1..=2000 {
            ours.learn(address(number), THEIR_MAC, true);
        }
        let mut asked = std::collections::HashSet::new();
        for _ in 0..2 * 2000 / MOST_SAID {
            ours.looked -= PATIENCE;
            // As old as can be, and asked long ago; those asked last come last.
            ours.known
                .values_mut()
                .for_each(|it| (it.heard, it.asked) = (it.heard - OLD, it.asked - PATIENCE));
            let _ = ours.maintain();
            asked.extend(std::iter::from_fn(|| ours.say()).map(|frame| frame[38..].to_vec()));
        }
        assert_eq!((asked.len(), ours.known.len()), (2000, 2000));
    }

    #[test]
    fn who_never_answers_is_forgotten() {
        let mut ours = ours();
        let _ = ours.resolve(THEIRS.into());
        for _ in 0..=TIMES {
            ours.looked -= PATIENCE;
            ours.known.values_mut().for_each(|it| it.asked -= PATIENCE);
            let _ = ours.maintain();
        }
        assert!(ours.known.is_empty());
        assert_eq!(ours.say.len(), TIMES as usize);
    }

    #[test]
    fn addresses_that_no_host_has_are_refused() {
        for (address, prefix, gateway) in [
            ("0.0.0.0", 24, None),
            ("224.0.0.1", 24, None),
            ("255.255.255.255", 24, None),
            ("10.0.0.1", 33, None),
            ("10.0.0.1", 24, Some("10.0.1.254")),
            ("10.0.0.1", 24, Some("10.0.0.1")),
        ] {
            let gateway = gateway.map(|text: &str| text.parse().expect("valid"));
            let made = Neighbours::new(MAC, address.parse().expect("valid"), prefix, gateway);
            assert!(made.is_none(), "{address}/{prefix}");
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_heard_without_harm(frame in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut ours = ours();
            ours.hear(&frame);
            let arp = [&frame[..frame.len().min(12)], &ARP, &KIND, &frame].concat();
            ours.hear(&arp);
            prop_assert!(ours.known.len() <= 1 && ours.say.len() <= 1);
        }
    }
}
