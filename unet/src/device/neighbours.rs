//! The ways over an interface behind which no kernel stands: one subnet, a gateway perhaps, and the neighbours'
//! Ethernet addresses by ARP (RFC 826), asked for and answered here. IPv4. Pings are answered, too.
//!
//! Whoever is on the link can say whose address is whose: so it is with ARP. What strangers can do here is bounded:
//! so many entries, and so many answers between two looks; an entry comes only from who was asked, or asks.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::echo::Host;
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
/// The most pings that are answered between two looks. They leave room for neighbours.
const MOST_ECHOED: usize = 32;
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
    host: Host,
    local: [IpAddr; 1],
    gateway: Option<Ipv4Addr>,
    known: HashMap<Ipv4Addr, Neighbour>,
    say: VecDeque<Vec<u8>>,
    changed: bool,
    /// Since it was looked at last: to ARP, and to pings.
    answers: usize,
    echoed: usize,
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
            host: Host { mac, address, prefix },
            local: [address.into()],
            gateway,
            known: HashMap::new(),
            say: VecDeque::new(),
            changed: false,
            answers: 0,
            echoed: 0,
            looked: Instant::now(),
        };
        let is_host = prefix <= 32 && !address.is_multicast() && !address.is_broadcast();
        let is_near = |gateway: Ipv4Addr| it.is_neighbour(gateway);
        (is_host && !address.is_unspecified() && gateway.is_none_or(is_near)).then_some(it)
    }

    /// Whether an address is another host's of the subnet.
    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        let host = u32::MAX.checked_shr(self.host.prefix.into()).unwrap_or(0);
        let (theirs, ours) = (address.to_bits(), self.host.address.to_bits());
        theirs & !host == ours & !host && theirs != ours && !self.host.is_special(address)
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
        let Host { mac: ours, address: us, .. } = self.host;
        let parts: [&[u8]; 9] =
            [&to, &ours, &ARP, &KIND, &what, &ours, &us.octets(), &mac, &address.octets()];
        self.say.push_back(parts.concat());
    }

    /// Answers a ping, unless many were of late.
    fn echo(&mut self, frame: &[u8]) {
        if self.echoed == MOST_ECHOED || self.say.len() >= MOST_ECHOED {
            return;
        }
        if let Some(answer) = self.host.answer(frame) {
            self.echoed += 1;
            self.say.push_back(answer);
        }
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
            false if to == self.host.address => return Err(DeviceError::Unreachable),
            false => self.gateway.ok_or(DeviceError::Unreachable)?,
        };
        if let Some(mac) = self.known.get(&hop).and_then(|it| it.mac) {
            return Ok(Route { source: self.host.address.into(), mac, mtu: usize::MAX });
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
            (self.looked, self.answers, self.echoed) = (now, 0, 0);
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
        let whole = frame;
        let Some(frame) = frame.first_chunk::<FRAME>() else { return };
        if frame[12..14] != ARP {
            return self.echo(whole);
        }
        if frame[14..20] != KIND {
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
        let is_for_us = to == self.host.address;
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
        self.say.pop_front()
    }
}

#[cfg(test)]
mod tests;
