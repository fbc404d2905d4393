//! `arp`: finds the link addresses of neighbours in an IPv4 network (RFC 826).

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType};

use super::addresses::{LinkAddress, is_group};
use super::neighbors::{Neighbors, Question, Resolution};
use super::token_bucket::TokenBucket;
use crate::description::OptionError;
use crate::{
    Below, Context, Demux, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot,
    Upper, Verdict,
};

/// The one session of the layer above.
const UPPER: Slot = Slot(0);
/// The session of our own packets.
const OWN: Slot = Slot(1);

/// Stands between `ipv4` and `ether`: it takes the address of the next hop from the attributes
/// (remote network), and adds the link address there. A message whose attributes have a link address
/// passes as it is.
///
/// Messages for a neighbour that has not answered yet wait, a few of them; questions are repeated
/// with back-off, what is known ages, and everything is bounded. Requests for our own address are
/// answered, no others. Nobody is believed who was not asked, gratuitous announcements included:
/// they only make us ask again.
///
/// Options: `mac` and `address`, our own.
#[derive(Debug)]
pub struct Arp {
    mac: [u8; 6],
    address: Ipv4Addr,
    neighbors: Neighbors<Ipv4Addr>,
    upper: Option<Upper>,
    upper_open: bool,
    own_open: bool,
    /// Answers: a link full of requests must not become a link full of answers.
    answers: TokenBucket,
    asked: u64,
    answered: u64,
    conflicts: u64,
}

impl Arp {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["mac", "address"])?;
        let mac = LinkAddress::from_options(options)?;
        let address = options.get("address", "an address like 192.0.2.7")?;
        Ok(Self {
            mac,
            address: address.ok_or(OptionError::Missing { name: "address" })?,
            neighbors: Neighbors::new(),
            upper: None,
            upper_open: false,
            own_open: false,
            answers: TokenBucket::new(256, Duration::from_millis(1)),
            asked: 0,
            answered: 0,
            conflicts: 0,
        })
    }

    fn ask(&mut self, (address, link): Question<Ipv4Addr>, context: &mut Context) {
        self.asked += 1;
        let to = link.unwrap_or(LinkAddress::BROADCAST);
        self.send(ArpOperation::REQUEST, address, link.unwrap_or([0; 6]), to, UPPER, context);
    }

    /// Sends a packet about `address`, over one of the sessions below: they differ in their type
    /// only, and that is said anew.
    fn send(
        &mut self,
        operation: ArpOperation,
        target: Ipv4Addr,
        target_mac: [u8; 6],
        to: [u8; 6],
        over: Slot,
        context: &mut Context,
    ) {
        let packet = ArpEthIpv4Packet {
            operation,
            sender_mac: self.mac,
            sender_ipv4: self.address.octets(),
            target_mac,
            target_ipv4: target.octets(),
        };
        let mut message = Message::new();
        if context.push_header(&mut message, &packet.to_bytes()) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let attributes = context.attributes;
        context.attributes = Participants::default();
        context.attributes.remote.link = Some(to);
        context.attributes.selector = Some(EtherType::ARP.0);
        context.emit_down(over, message);
        context.attributes = attributes;
    }

    /// RFC 826's reception, with stricter rules about who is believed.
    fn receive(&mut self, packet: &ArpEthIpv4Packet, context: &mut Context) -> Verdict {
        let from = packet.sender_ipv4_addr();
        let request = packet.operation == ArpOperation::REQUEST;
        if from == self.address {
            self.conflicts += 1;
            return Verdict::Drop(Reason::NotForUs);
        }
        // Who sends for another's link address is a proxy at best; we know of none.
        if context.attributes.remote.link != Some(packet.sender_mac) || is_group(packet.sender_mac)
        {
            return Verdict::Drop(Reason::Malformed);
        }
        let to_us = packet.target_ipv4_addr() == self.address;
        if !from.is_unspecified() {
            let unasked = request || !to_us || packet.target_mac != self.mac;
            let now = context.now();
            let mut link = Participants::default();
            link.remote.link = Some(packet.sender_mac);
            link.selector = Some(EtherType::IPV4.0);
            self.neighbors.learn(from, packet.sender_mac, unasked, now, |message| {
                context.attributes = link;
                context.emit_down(UPPER, message);
            });
            context.wake_at(self.neighbors.next_due());
        }
        if request && to_us {
            if !self.answers.take(context.now()) {
                return Verdict::Drop(Reason::Budget);
            }
            self.answered += 1;
            let mac = packet.sender_mac;
            self.send(ArpOperation::REPLY, from, mac, mac, OWN, context);
        }
        Verdict::Taken
    }
}

impl Protocol for Arp {
    fn start(&mut self, _lowers: &[crate::Lower], context: &mut Context) {
        let who = Participants { selector: Some(EtherType::ARP.0), ..Participants::default() };
        context.listen_below(0, who);
    }

    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        who.selector = Some(EtherType::IPV4.0);
        self.upper_open = true;
        Ok(Opened { slot: UPPER, lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below
    }

    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        if self.upper.is_some_and(|other| other != upper) {
            return Err(Refusal::InUse);
        }
        self.upper = Some(upper);
        who.selector = Some(EtherType::IPV4.0);
        Ok(())
    }

    fn demux(&mut self, _message: &Message, context: &mut Context) -> Demux {
        let ours = context.attributes.selector == Some(EtherType::ARP.0);
        match (ours, self.upper) {
            (true, _) if self.own_open => Demux::To(OWN),
            (true, _) => {
                self.own_open = true;
                Demux::New(OWN, Upper::NOBODY)
            }
            (false, _) if self.upper_open => Demux::To(UPPER),
            (false, Some(upper)) => {
                self.upper_open = true;
                Demux::New(UPPER, upper)
            }
            (false, None) => Demux::Drop(Reason::NoSession),
        }
    }

    fn push(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        context.attributes.selector = Some(EtherType::IPV4.0);
        if context.attributes.remote.link.is_some() {
            return Verdict::Pass;
        }
        let Some(std::net::IpAddr::V4(hop)) = context.attributes.remote.network else {
            return Verdict::Drop(Reason::NoRoute);
        };
        let now = context.now();
        let resolution = self.neighbors.resolve(hop, message, now, |reason| context.count(reason));
        match resolution {
            Resolution::Known(link) => {
                context.attributes.remote.link = Some(link);
                Verdict::Pass
            }
            Resolution::Doubtful(link) => {
                self.ask((hop, Some(link)), context);
                context.wake_at(self.neighbors.next_due());
                context.attributes.remote.link = Some(link);
                Verdict::Pass
            }
            Resolution::Ask => {
                self.ask((hop, None), context);
                context.wake_at(self.neighbors.next_due());
                Verdict::Taken
            }
            Resolution::Waiting => Verdict::Taken,
            Resolution::Unreachable => Verdict::Drop(Reason::Unresolved),
        }
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        if slot == UPPER {
            return Verdict::Pass;
        }
        let mut bytes = [0; ArpEthIpv4Packet::LEN];
        if message.peek(0, &mut bytes).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        let packet = ArpPacketSlice::from_slice(&bytes).ok();
        match packet.and_then(|packet| packet.to_packet().try_eth_ipv4().ok()) {
            Some(packet) => self.receive(&packet, context),
            None => Verdict::Drop(Reason::Malformed),
        }
    }

    fn wake(&mut self, context: &mut Context) {
        // At most one question for each neighbour, of which there is a bounded number.
        let mut questions: Vec<Question<Ipv4Addr>> = Vec::new();
        self.neighbors.wake(
            context.now(),
            |question| questions.push(question),
            |reason| context.count(reason),
        );
        questions.into_iter().for_each(|question| self.ask(question, context));
        context.wake_at(self.neighbors.next_due());
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        match slot {
            OWN => self.own_open = false,
            _ => self.upper_open = false,
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("asked", self.asked);
        tell("answered", self.answered);
        tell("conflicts", self.conflicts);
        tell("neighbors", self.neighbors.len() as u64);
        tell("waiting", self.neighbors.waiting() as u64);
    }
}
