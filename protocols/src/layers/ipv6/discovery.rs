//! Neighbour discovery (RFC 4861): who has which link address.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::icmpv6::{
    NeighborAdvertisementHeader, TYPE_NEIGHBOR_ADVERTISEMENT, TYPE_NEIGHBOR_SOLICITATION,
};
use etherparse::{EtherType, IpNumber};

use super::header::{Received, to_send};
use super::{HEADER, Ipv6};
use crate::layers::addresses::is_group;
use crate::layers::internet_checksum::InternetChecksum;
use crate::layers::neighbors::Question;
use crate::{Context, Message, Participants, Reason, Verdict};

/// The hop limit that only a neighbour's packet can still have.
const HOP_LIMIT: u8 = 255;
/// Type, code, checksum, flags, target.
const FIXED: usize = 24;
/// With the one option that we send.
const SENT: usize = FIXED + 8;
/// The longest message that is looked into; who needs more options can ask again.
const LONGEST: usize = 256;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;

/// All nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The link-local address of an interface (RFC 4291, appendix A).
pub(super) fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    octets.into()
}

/// The group in which whoever has an address listens (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut octets = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    octets[13..].copy_from_slice(&[a, b, c]);
    octets.into()
}

/// The link address of a group (RFC 2464, section 7).
pub(super) fn link_of_group(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// What a solicitation or an advertisement says.
struct Said {
    flags: [u8; 4],
    target: Ipv6Addr,
    link: Option<[u8; 6]>,
}

impl Said {
    /// Reads a message, with the option of this kind.
    fn read(message: &[u8], option: u8) -> Option<Self> {
        let (fixed, mut options) = message.split_at_checked(FIXED)?;
        let flags = fixed[4..8].try_into().ok()?;
        let target: [u8; 16] = fixed[8..].try_into().ok()?;
        let mut link = None;
        while let [kind, len, ..] = options {
            let (first, rest) = options.split_at_checked(usize::from(*len) * 8)?;
            // One of length zero would be looked at for ever (RFC 4861, section 4.6).
            if first.is_empty() {
                return None;
            }
            if *kind == option && first.len() == 8 {
                link = first[2..].try_into().ok();
            }
            options = rest;
        }
        let target = Ipv6Addr::from(target);
        (options.is_empty() && !target.is_multicast()).then_some(Self { flags, target, link })
    }
}

impl Ipv6 {
    /// The groups in which we listen.
    pub(super) fn groups(&self) -> [Ipv6Addr; 3] {
        [ALL_NODES, solicited_node(self.link_local), solicited_node(self.subnet.address)]
    }

    /// Asks for a neighbour's link address: everybody, or the one who had it.
    pub(super) fn ask(&mut self, (target, link): Question<Ipv6Addr>, context: &mut Context) {
        self.counts.asked += 1;
        let group = solicited_node(target);
        let to = if link.is_some() { target } else { group };
        let link = link.unwrap_or_else(|| link_of_group(group));
        let from = self.source_for(target);
        let kind = (TYPE_NEIGHBOR_SOLICITATION, [0; 4], SOURCE_LINK_ADDRESS);
        self.send_discovery(kind, target, from, to, link, context);
    }

    fn send_discovery(
        &mut self,
        (kind, flags, option): (u8, [u8; 4], u8),
        target: Ipv6Addr,
        from: Ipv6Addr,
        to: Ipv6Addr,
        link: [u8; 6],
        context: &mut Context,
    ) {
        let mut bytes = [0; HEADER + SENT];
        let icmp = IpNumber::IPV6_ICMP.0;
        bytes[..HEADER].copy_from_slice(&to_send(from, to, icmp, Some(HOP_LIMIT), SENT));
        let body = &mut bytes[HEADER..];
        body[0] = kind;
        body[4..8].copy_from_slice(&flags);
        body[8..24].copy_from_slice(&target.octets());
        body[24..26].copy_from_slice(&[option, 1]);
        body[26..].copy_from_slice(&self.mac);
        let mut sum =
            InternetChecksum::of_pseudo_header(IpAddr::V6(from), IpAddr::V6(to), icmp, SENT);
        sum.add(body);
        body[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        let mut message = Message::new();
        if context.push_header(&mut message, &bytes) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let attributes = context.attributes;
        context.attributes = Participants::default();
        context.attributes.remote.link = Some(link);
        context.attributes.selector = Some(EtherType::IPV6.0);
        context.emit_down(self.way_out, message);
        context.attributes = attributes;
    }

    /// A message of discovery has come, its headers already off.
    pub(super) fn receive_discovery(
        &mut self,
        received: &Received,
        message: &Message,
        context: &mut Context,
    ) -> Verdict {
        let len = message.len();
        let mut bytes = [0; LONGEST];
        if received.hop_limit != HOP_LIMIT || !(FIXED..=LONGEST).contains(&len) {
            return Verdict::Drop(Reason::Malformed);
        }
        if message.peek(0, &mut bytes[..len]).is_err() {
            return Verdict::Drop(Reason::Unreadable);
        }
        let (from, to) = (IpAddr::V6(received.from), IpAddr::V6(received.to));
        let mut sum = InternetChecksum::of_pseudo_header(from, to, IpNumber::IPV6_ICMP.0, len);
        sum.add(&bytes[..len]);
        if sum.finish() != 0 {
            return Verdict::Drop(Reason::Checksum);
        }
        match bytes[..2] {
            [TYPE_NEIGHBOR_SOLICITATION, 0] => {
                match Said::read(&bytes[..len], SOURCE_LINK_ADDRESS) {
                    Some(said) => self.solicited(&said, received, context),
                    None => Verdict::Drop(Reason::Malformed),
                }
            }
            [TYPE_NEIGHBOR_ADVERTISEMENT, 0] => {
                match Said::read(&bytes[..len], TARGET_LINK_ADDRESS) {
                    Some(said) => self.advertised(&said, received, context),
                    None => Verdict::Drop(Reason::Malformed),
                }
            }
            _ => Verdict::Drop(Reason::Unsupported),
        }
    }

    /// Somebody asks for us (RFC 4861, section 7.2.3).
    fn solicited(&mut self, said: &Said, received: &Received, context: &mut Context) -> Verdict {
        let Some(sender) = context.attributes.remote.link else {
            return Verdict::Drop(Reason::Malformed);
        };
        if !self.is_ours(said.target) {
            return Verdict::Drop(Reason::NotForUs);
        }
        // Who has no address yet asks whether somebody has the one that he wants.
        let nobody = received.from.is_unspecified();
        if nobody && (said.link.is_some() || received.to != solicited_node(said.target)) {
            return Verdict::Drop(Reason::Malformed);
        }
        // A group's would have us answer everybody on the link, at one host's word.
        let said_link = said.link.filter(|link| !is_group(*link));
        if !nobody && let Some(link) = said_link {
            self.learn(received.from, link, true, context);
        }
        if !self.answers.take(context.now()) {
            return Verdict::Drop(Reason::Budget);
        }
        self.counts.answered += 1;
        let flags =
            NeighborAdvertisementHeader { router: false, solicited: !nobody, r#override: true };
        let kind = (TYPE_NEIGHBOR_ADVERTISEMENT, flags.to_bytes(), TARGET_LINK_ADDRESS);
        let (to, link) = if nobody {
            (ALL_NODES, link_of_group(ALL_NODES))
        } else {
            (received.from, said_link.unwrap_or(sender))
        };
        self.send_discovery(kind, said.target, said.target, to, link, context);
        Verdict::Taken
    }

    /// Somebody says where an address is (RFC 4861, section 7.2.5).
    fn advertised(&mut self, said: &Said, received: &Received, context: &mut Context) -> Verdict {
        if self.is_ours(said.target) {
            self.counts.conflicts += 1;
            return Verdict::Drop(Reason::NotForUs);
        }
        let flags = NeighborAdvertisementHeader::from_bytes(said.flags);
        let group = received.to.is_multicast();
        if flags.solicited && group {
            return Verdict::Drop(Reason::Malformed);
        }
        // An answer to a question to one need not repeat the address that it came to.
        let Some(link) = said.link.or(context.attributes.remote.link) else {
            return Verdict::Drop(Reason::Malformed);
        };
        if is_group(link) {
            return Verdict::Drop(Reason::Malformed);
        }
        self.learn(said.target, link, !flags.solicited, context);
        Verdict::Taken
    }

    fn learn(&mut self, address: Ipv6Addr, link: [u8; 6], unasked: bool, context: &mut Context) {
        let attributes = context.attributes;
        let mut to = Participants { selector: Some(EtherType::IPV6.0), ..Participants::default() };
        to.remote.link = Some(link);
        context.attributes = to;
        let way_out = self.way_out;
        let now = context.now();
        self.neighbors.learn(address, link, unasked, now, |message| {
            context.emit_down(way_out, message);
        });
        context.attributes = attributes;
        self.wake_again(context);
    }
}
