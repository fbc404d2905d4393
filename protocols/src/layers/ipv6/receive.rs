//! Packets on their way in.

use std::net::IpAddr;

use etherparse::{IpNumber, icmpv6};

use super::header::Received;
use super::{DatagramKey, Ipv6, OWN};
use crate::layers::addresses::is_group;
use crate::{Context, Demux, Message, Reason, Upper, Verdict};

impl Ipv6 {
    /// Whether a received header is for us and from somebody we can answer.
    fn check(&self, received: &Received, link: Option<[u8; 6]>) -> Result<(), Reason> {
        let Received { from, to, .. } = *received;
        let for_group = to.is_multicast();
        if !self.is_ours(to) && !self.groups().contains(&to) {
            return Err(Reason::NotForUs);
        }
        // What is for one host does not come to many.
        if link.is_some_and(|link| is_group(link) && !for_group) {
            return Err(Reason::NotForUs);
        }
        if from.is_multicast() || from.is_loopback() || self.is_ours(from) {
            return Err(Reason::Malformed);
        }
        Ok(())
    }

    /// Finds the session of a packet.
    pub(super) fn demux_received(&mut self, message: &Message, context: &mut Context) -> Demux {
        self.received = None;
        let received = match Received::read(message) {
            Ok(received) => received,
            Err(reason) => return Demux::Drop(reason),
        };
        if let Err(reason) = self.check(&received, context.attributes.local.link) {
            return Demux::Drop(reason);
        }
        self.received = Some(received);
        let mut kind = [0];
        let whole = received.fragment.is_none();
        if whole
            && received.protocol == IpNumber::IPV6_ICMP.0
            && message.peek(received.headers_len, &mut kind).is_ok()
            && (icmpv6::TYPE_ROUTER_SOLICITATION..=icmpv6::TYPE_REDIRECT_MESSAGE).contains(&kind[0])
        {
            return self.demux_own(received.from);
        }
        // Without an address nobody can be answered; only discovery knows such senders.
        if received.from.is_unspecified() {
            return Demux::Drop(Reason::Malformed);
        }
        self.sessions.demux(received.protocol, received.from)
    }

    /// The session of what is for the layer itself.
    fn demux_own(&mut self, from: std::net::Ipv6Addr) -> Demux {
        match self.sessions.demux(OWN, from) {
            Demux::To(slot) => Demux::To(slot),
            _ => match self.sessions.open(OWN, None) {
                Ok(slot) => Demux::New(slot, Upper::NOBODY),
                Err(_) => Demux::Drop(Reason::SessionLimit),
            },
        }
    }

    /// Takes the headers off a packet that [`demux_received`](Self::demux_received) has read.
    pub(super) fn pop_received(&mut self, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(received) = self.received else { return Verdict::Drop(Reason::NoSession) };
        let mut headers = [0; 256];
        if message.pop(&mut headers[..received.headers_len]).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        message.truncate(received.payload_len);
        if let Some((place, identification)) = received.fragment {
            let Received { from, to, protocol, .. } = received;
            let key = DatagramKey { from, to, identification, protocol };
            let fragment = std::mem::take(message);
            let now = context.now();
            let taken = self.reassembly.take(key, place, fragment, now, context);
            self.wake_again(context);
            match taken {
                Ok(Some(whole)) => *message = whole,
                Ok(None) => return Verdict::Taken,
                Err(reason) => return Verdict::Drop(reason),
            }
            self.counts.reassembled += 1;
            self.received = Some(Received { payload_len: message.len(), ..received });
        } else if self.is_discovery(&received, message) {
            return self.receive_discovery(&received, message, context);
        }
        context.attributes.local.network = Some(IpAddr::V6(received.to));
        context.attributes.remote.network = Some(IpAddr::V6(received.from));
        context.attributes.selector = Some(received.protocol.into());
        Verdict::Pass
    }

    fn is_discovery(&self, received: &Received, message: &Message) -> bool {
        let mut kind = [0];
        received.protocol == IpNumber::IPV6_ICMP.0
            && message.peek(0, &mut kind).is_ok()
            && (icmpv6::TYPE_ROUTER_SOLICITATION..=icmpv6::TYPE_REDIRECT_MESSAGE).contains(&kind[0])
    }
}
