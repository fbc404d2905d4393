//! Packets on their way out.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{EtherType, IpNumber, icmpv6};

use super::header::{FRAGMENT, fragment_to_send, to_send};
use super::{DatagramKey, HEADER, Ipv6, LONGEST, discovery};
use crate::layers::internet_checksum::InternetChecksum;
use crate::layers::neighbors::Resolution;
use crate::layers::reassembly::Place;
use crate::{Context, Message, Reason, Slot, Verdict};

/// How much of a datagram an error quotes: no more than makes a packet that passes every link
/// (RFC 4443, section 2.4).
const QUOTED: usize = 1280 - HEADER - ERROR_HEADER - HEADER;
const ERROR_HEADER: usize = 8;

impl Ipv6 {
    /// To which neighbour a packet goes first, `None` being that nothing leads there. For a group it
    /// is the destination itself.
    pub(super) fn next_hop(&self, to: Ipv6Addr) -> Option<Ipv6Addr> {
        if self.is_ours(to) || to.is_unspecified() || to.is_loopback() {
            return None;
        }
        let here = to.is_multicast() || to.is_unicast_link_local() || self.subnet.contains(to);
        if here { Some(to) } else { self.gateway }
    }

    /// From which of our addresses a packet goes: on the link, the one of the link.
    pub(super) fn source_for(&self, to: Ipv6Addr) -> Ipv6Addr {
        // The scope of a group is in its second byte (RFC 4291, section 2.7): 2 is the link.
        let link_group = to.is_multicast() && to.octets()[1] & 0xf <= 2;
        if to.is_unicast_link_local() || link_group { self.link_local } else { self.subnet.address }
    }

    /// Sends a payload, in fragments if it is too long for one packet.
    pub(super) fn send(
        &mut self,
        slot: Slot,
        protocol: u8,
        from: Ipv6Addr,
        to: Ipv6Addr,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let Some(hop) = self.next_hop(to) else { return Verdict::Drop(Reason::NoRoute) };
        let len = message.len();
        if len > LONGEST {
            return Verdict::Drop(Reason::TooLarge);
        }
        if HEADER + len <= self.mtu {
            let header = to_send(from, to, protocol, None, len);
            match context.push_header(message, &header) {
                Verdict::Pass => {}
                other => return other,
            }
            return self.address(slot, hop, message, context);
        }
        self.send_fragments(slot, (protocol, from, to, hop), std::mem::take(message), context)
    }

    #[cold]
    fn send_fragments(
        &mut self,
        slot: Slot,
        (protocol, from, to, hop): (u8, Ipv6Addr, Ipv6Addr, Ipv6Addr),
        mut rest: Message,
        context: &mut Context,
    ) -> Verdict {
        let piece = self.mtu.saturating_sub(HEADER + FRAGMENT) / 8 * 8;
        if piece == 0 {
            return Verdict::Drop(Reason::TooLarge);
        }
        self.identification = self.identification.wrapping_add(1);
        let mut offset = 0;
        // As many times as pieces fit into the longest datagram.
        while !rest.is_empty() {
            let more = rest.len() > piece;
            let mut fragment = if more {
                match rest.split_to(piece) {
                    Some(first) => first,
                    None => return Verdict::Drop(Reason::Unreadable),
                }
            } else {
                std::mem::take(&mut rest)
            };
            let mut headers = [0; HEADER + FRAGMENT];
            let place = Place { offset, more };
            let len = fragment.len();
            offset += len;
            let kind = IpNumber::IPV6_FRAGMENTATION_HEADER.0;
            headers[..HEADER].copy_from_slice(&to_send(from, to, kind, None, FRAGMENT + len));
            let header = fragment_to_send(protocol, place, self.identification);
            headers[HEADER..].copy_from_slice(&header);
            match context.push_header(&mut fragment, &headers) {
                Verdict::Pass => {}
                other => return other,
            }
            self.counts.fragments_sent += 1;
            match self.address(slot, hop, &mut fragment, context) {
                Verdict::Pass => context.emit_down(slot, fragment),
                Verdict::Taken => {}
                other => return other,
            }
        }
        Verdict::Taken
    }

    /// Notes the link address of the next hop; a message waits that has none yet.
    fn address(
        &mut self,
        slot: Slot,
        hop: Ipv6Addr,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        context.attributes.selector = Some(EtherType::IPV6.0);
        if hop.is_multicast() {
            context.attributes.remote.link = Some(discovery::link_of_group(hop));
            return Verdict::Pass;
        }
        let now = context.now();
        let found = self.neighbors.resolve(hop, message, now, |reason| context.count(reason));
        match found {
            Resolution::Known(link) => {
                context.attributes.remote.link = Some(link);
                Verdict::Pass
            }
            Resolution::Doubtful(link) => {
                self.way_out = slot;
                self.ask((hop, Some(link)), context);
                self.wake_again(context);
                context.attributes.remote.link = Some(link);
                Verdict::Pass
            }
            Resolution::Ask => {
                self.way_out = slot;
                self.ask((hop, None), context);
                self.wake_again(context);
                Verdict::Taken
            }
            Resolution::Waiting => Verdict::Taken,
            Resolution::Unreachable => Verdict::Drop(Reason::Unresolved),
        }
    }

    /// Answers that the rest of a datagram did not come (RFC 4443, section 3.3).
    pub(super) fn send_time_exceeded(
        &mut self,
        key: DatagramKey,
        first: Message,
        context: &mut Context,
    ) {
        // No error is sent because of an error; those have the lower types (RFC 4443, section 2.4).
        let mut kind = [0];
        let error = first.peek(0, &mut kind).is_err() || kind[0] < 128;
        if key.protocol == IpNumber::IPV6_ICMP.0 && error {
            return;
        }
        let DatagramKey { from, to, identification, protocol } = key;
        let mut first = first;
        let begin = Place { offset: 0, more: true };
        let fragment = fragment_to_send(protocol, begin, identification);
        let len = FRAGMENT + first.len();
        if context.push_header(&mut first, &fragment) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let quote = to_send(from, to, IpNumber::IPV6_FRAGMENTATION_HEADER.0, None, len);
        let cause = (
            icmpv6::TYPE_TIME_EXCEEDED,
            icmpv6::CODE_TIME_EXCEEDED_FRAGMENT_REASSEMBLY_TIME_EXCEEDED,
        );
        self.send_error(self.way_out, cause, quote, first, context);
    }

    /// Answers a datagram to us with an error that quotes its header and the beginning of its
    /// payload: the payload itself. None is sent too often, nor about what was for a group.
    pub(super) fn send_error(
        &mut self,
        slot: Slot,
        (kind, code): (u8, u8),
        quote: [u8; HEADER],
        mut payload: Message,
        context: &mut Context,
    ) {
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&quote[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        let (to, from) = (address(8), address(24));
        if !self.is_ours(from) || !self.errors.take(context.now()) {
            return;
        }
        payload.truncate(QUOTED.min(payload.len()));
        if context.push_header(&mut payload, &quote) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let mut header = [kind, code, 0, 0, 0, 0, 0, 0];
        let icmp = IpNumber::IPV6_ICMP.0;
        let len = header.len() + payload.len();
        let mut sum =
            InternetChecksum::of_pseudo_header(IpAddr::V6(from), IpAddr::V6(to), icmp, len);
        sum.add(&header);
        let Some(sum) = sum.add_message(&payload) else {
            return context.count(Reason::Unreadable);
        };
        header[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        if context.push_header(&mut payload, &header) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let attributes = context.attributes;
        match self.send(slot, icmp, from, to, &mut payload, context) {
            Verdict::Pass => {
                self.counts.errors_sent += 1;
                context.emit_down(slot, payload);
            }
            Verdict::Taken => {}
            Verdict::Drop(reason) => context.count(reason),
        }
        context.attributes = attributes;
    }
}
