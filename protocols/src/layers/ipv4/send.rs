//! Packets on their way out.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpNumber, icmpv4};

use super::header::to_send;
use super::{DatagramKey, HEADER, Ipv4, LONGEST};
use crate::layers::addresses::LinkAddress;
use crate::layers::internet_checksum::InternetChecksum;
use crate::layers::reassembly::Place;
use crate::{Context, Message, Reason, Slot, Verdict};

/// How much of a datagram an error quotes, so that the error's packet is never longer than what
/// every host can receive (RFC 1812, section 4.3.2.3).
const QUOTED: usize = 576 - HEADER - ERROR_HEADER - HEADER;
const ERROR_HEADER: usize = 8;
/// The code that a lack of fragments has among those of time exceeded.
const FRAGMENTS_MISSING: u8 = 1;

impl Ipv4 {
    /// To which neighbour a packet goes first, `None` being that nothing leads there. For everybody
    /// it is the destination itself.
    pub(super) fn next_hop(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        if to == self.subnet.address || to.is_unspecified() || to.is_loopback() {
            return None;
        }
        if to.is_multicast() {
            return None;
        }
        if self.subnet.contains(to) || to.is_broadcast() { Some(to) } else { self.gateway }
    }

    /// Sends a payload, in fragments if it is too long for one packet.
    pub(super) fn send(
        &mut self,
        slot: Slot,
        protocol: u8,
        to: Ipv4Addr,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let Some(hop) = self.next_hop(to) else { return Verdict::Drop(Reason::NoRoute) };
        let len = message.len();
        if len > LONGEST - HEADER {
            return Verdict::Drop(Reason::TooLarge);
        }
        context.attributes.remote.link =
            self.subnet.is_broadcast(to).then_some(LinkAddress::BROADCAST);
        context.attributes.remote.network = Some(IpAddr::V4(hop));
        context.attributes.local.network = Some(IpAddr::V4(self.subnet.address));
        self.identification = self.identification.wrapping_add(1);
        if HEADER + len <= self.mtu {
            let whole = Place { offset: 0, more: false };
            let header =
                to_send(self.subnet.address, to, protocol, self.identification, whole, len);
            return context.push_header(message, &header);
        }
        self.send_fragments(slot, protocol, to, std::mem::take(message), context)
    }

    #[cold]
    fn send_fragments(
        &mut self,
        slot: Slot,
        protocol: u8,
        to: Ipv4Addr,
        mut rest: Message,
        context: &mut Context,
    ) -> Verdict {
        let piece = self.mtu.saturating_sub(HEADER) / 8 * 8;
        if piece == 0 {
            return Verdict::Drop(Reason::TooLarge);
        }
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
            let place = Place { offset, more };
            let len = fragment.len();
            offset += len;
            let header =
                to_send(self.subnet.address, to, protocol, self.identification, place, len);
            match context.push_header(&mut fragment, &header) {
                Verdict::Pass => {}
                other => return other,
            }
            self.fragments_sent += 1;
            context.emit_down(slot, fragment);
        }
        Verdict::Taken
    }

    /// Answers that the rest of a datagram did not come (RFC 792).
    pub(super) fn send_time_exceeded(
        &mut self,
        key: DatagramKey,
        first: Message,
        context: &mut Context,
    ) {
        // No error is sent because of an error (RFC 1122, section 3.2.2).
        let mut kind = [0];
        let echo = first.peek(0, &mut kind).is_ok() && kind == [icmpv4::TYPE_ECHO_REQUEST];
        if key.protocol == IpNumber::ICMP.0 && !echo {
            return;
        }
        let DatagramKey { from, to, protocol, identification } = key;
        let begin = Place { offset: 0, more: true };
        let quote = to_send(from, to, protocol, identification, begin, first.len());
        let cause = (icmpv4::TYPE_TIME_EXCEEDED, FRAGMENTS_MISSING);
        self.send_error(self.way_out, cause, quote, first, context);
    }

    /// Answers a datagram to us with an error that quotes its header and the beginning of its
    /// payload: the payload itself. None is sent too often, nor about what was for everybody.
    pub(super) fn send_error(
        &mut self,
        slot: Slot,
        (kind, code): (u8, u8),
        quote: [u8; HEADER],
        mut payload: Message,
        context: &mut Context,
    ) {
        let to_us = quote[16..] == self.subnet.address.octets();
        if !to_us || !self.errors.take(context.now()) {
            return;
        }
        payload.truncate(QUOTED.min(payload.len()));
        if context.push_header(&mut payload, &quote) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let mut header = [kind, code, 0, 0, 0, 0, 0, 0];
        let mut sum = InternetChecksum::default();
        sum.add(&header);
        let Some(sum) = sum.add_message(&payload) else {
            return context.count(Reason::Unreadable);
        };
        header[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        if context.push_header(&mut payload, &header) != Verdict::Pass {
            return context.count(Reason::NoBuffer);
        }
        let attributes = context.attributes;
        let to = Ipv4Addr::new(quote[12], quote[13], quote[14], quote[15]);
        match self.send(slot, IpNumber::ICMP.0, to, &mut payload, context) {
            Verdict::Pass => {
                self.errors_sent += 1;
                context.emit_down(slot, payload);
            }
            Verdict::Taken => {}
            Verdict::Drop(reason) => context.count(reason),
        }
        context.attributes = attributes;
    }
}
