//! `ipv6`: the Internet Protocol, version 6 (RFC 8200), with neighbour discovery (RFC 4861).

mod discovery;
mod header;
mod receive;
mod send;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use etherparse::{EtherType, IpNumber, icmpv6};
use fbufs::MAX_PARTS;

use super::addresses::{LinkAddress, Subnet};
use super::internet_sessions::InternetSessions;
use super::neighbors::{Neighbors, Question};
use super::reassembly::{Bounds, Reassembly};
use super::token_bucket::TokenBucket;
use crate::description::OptionError;
use crate::{
    Below, Context, Demux, Lower, Message, Opened, Options, Participants, Protocol, Reason,
    Refusal, Slot, Upper, Verdict,
};
use header::Received;

/// The header without extensions.
const HEADER: usize = 40;
/// The longest payload; jumbograms are not known here.
const LONGEST: usize = 65_535;
/// The session of what is for the layer itself: no protocol has this number.
const OWN: u8 = 255;

/// What tells the datagrams apart whose fragments are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DatagramKey {
    from: Ipv6Addr,
    to: Ipv6Addr,
    identification: u32,
    protocol: u8,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    errors_sent: u64,
    fragments_sent: u64,
    reassembled: u64,
    asked: u64,
    answered: u64,
    conflicts: u64,
}

/// IP version 6 of a host with a link-local address, one more, and one gateway; it finds its
/// neighbours' link addresses itself.
///
/// Extension headers are passed over, a bounded number of them; routing headers that still want
/// something, authentication, and options that say so are refused. Fragments are put together as far
/// as the bounds allow; overlapping ones discredit their datagram (RFC 5722).
///
/// Of neighbour discovery there are solicitations and advertisements, with the checks of RFC 4861:
/// among them a hop limit of 255, which nobody beyond this link can give a packet. Nobody is believed
/// who was not asked, as in [`Arp`](super::Arp). Not here: duplicate address detection of our own
/// addresses (a conflict is counted), router discovery and redirects, path MTU discovery, multicast
/// listener reports, and answers to what comes to a group.
///
/// Options: `mac`, from which the link-local address is made; `address`, ours, with the length of
/// the network's prefix; `gateway`.
#[derive(Debug)]
pub struct Ipv6 {
    mac: [u8; 6],
    link_local: Ipv6Addr,
    subnet: Subnet<Ipv6Addr>,
    gateway: Option<Ipv6Addr>,
    /// The longest packet that goes in one piece.
    mtu: usize,
    sessions: InternetSessions<Ipv6Addr>,
    reassembly: Reassembly<DatagramKey>,
    neighbors: Neighbors<Ipv6Addr>,
    /// Of the datagram fragmented last. It begins by chance, so that nobody knows it who has seen no
    /// fragment, and counts on (see RFC 7739).
    identification: u32,
    /// What [`demux`](Protocol::demux) read, for the [`pop`](Protocol::pop) that follows, and for
    /// quoting it if nobody above wants the message.
    received: Option<Received>,
    /// A session over which messages of our own can go.
    way_out: Slot,
    errors: TokenBucket,
    answers: TokenBucket,
    counts: Counts,
}

impl Ipv6 {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["mac", "address", "gateway"])?;
        let mac = LinkAddress::from_options(options)?;
        let subnet = options.get("address", "an own address like 2001:db8::7/64")?;
        Ok(Self {
            mac,
            link_local: discovery::link_local(mac),
            subnet: subnet.ok_or(OptionError::Missing { name: "address" })?,
            gateway: options.get("gateway", "an address like 2001:db8::1")?,
            mtu: 0,
            sessions: InternetSessions::new(),
            reassembly: Reassembly::new(Bounds {
                datagrams: 64,
                fragments: 64,
                pieces: 80,
                parts: MAX_PARTS,
                bytes: 1 << 20,
                longest: LONGEST,
                // RFC 8200, section 4.5.
                time: Duration::from_secs(60),
            }),
            neighbors: Neighbors::new(),
            identification: 0,
            received: None,
            way_out: Slot(0),
            errors: TokenBucket::new(16, Duration::from_millis(10)),
            answers: TokenBucket::new(256, Duration::from_millis(1)),
            counts: Counts::default(),
        })
    }

    /// Whether it is one of ours.
    fn is_ours(&self, address: Ipv6Addr) -> bool {
        address == self.subnet.address || address == self.link_local
    }

    /// Does what is due to neighbours and fragments, and sees to it that it is done again.
    fn wake_again(&self, context: &mut Context) {
        context.wake_at(self.neighbors.next_due());
        if let Some(deadline) = self.reassembly.next_deadline() {
            context.wake_at(deadline);
        }
    }

    fn protocol_of(who: &Participants) -> Result<u8, Refusal> {
        let selector = who.selector.and_then(|selector| u8::try_from(selector).ok());
        match selector {
            // Whoever speaks ICMP speaks that of the version below.
            Some(protocol) if protocol == IpNumber::ICMP.0 => Ok(IpNumber::IPV6_ICMP.0),
            Some(protocol) if protocol != OWN => Ok(protocol),
            _ => Err(Refusal::Missing("IP protocol number (selector)")),
        }
    }
}

impl Protocol for Ipv6 {
    fn start(&mut self, _lowers: &[Lower], context: &mut Context) {
        self.identification = context.random().below(1 << 32) as u32;
        for group in self.groups() {
            let mut who = Participants { selector: Some(EtherType::IPV6.0), ..Default::default() };
            who.local.link = Some(discovery::link_of_group(group));
            context.listen_below(0, who);
        }
    }

    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let protocol = Self::protocol_of(who)?;
        let remote = match who.remote.network {
            Some(IpAddr::V6(remote)) => Some(remote),
            None => None,
            Some(IpAddr::V4(_)) => return Err(Refusal::NoRoute),
        };
        if remote.is_some_and(|remote| self.next_hop(remote).is_none()) {
            return Err(Refusal::NoRoute);
        }
        let ours = remote.map(|remote| self.source_for(remote));
        if let (Some(ours), Some(local)) = (ours, who.local.network)
            && local != IpAddr::V6(ours)
        {
            return Err(Refusal::NoRoute);
        }
        who.local.network = ours.map(IpAddr::V6);
        who.selector = Some(EtherType::IPV6.0);
        Ok(Opened { slot: self.sessions.open(protocol, remote)?, lower: 0 })
    }

    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        self.mtu = below.max_message;
        self.way_out = slot;
        let remote = self.sessions.get(slot).and_then(|session| session.remote);
        let own = remote.map_or(self.subnet.address, |remote| self.source_for(remote));
        let local = Some(IpAddr::V6(own));
        Below { max_message: LONGEST, headroom: below.headroom + HEADER, local }
    }

    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        self.sessions.listen(Self::protocol_of(who)?, upper)?;
        who.selector = Some(EtherType::IPV6.0);
        who.local.link = None;
        Ok(())
    }

    fn demux(&mut self, message: &Message, context: &mut Context) -> Demux {
        self.demux_received(message, context)
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.sessions.get(slot).copied() else {
            return Verdict::Drop(Reason::NoSession);
        };
        let remote = match (session.remote, context.attributes.remote.network) {
            (Some(remote), _) | (None, Some(IpAddr::V6(remote))) => remote,
            _ => return Verdict::Drop(Reason::NoRoute),
        };
        let from = match context.attributes.local.network {
            Some(IpAddr::V6(from)) if self.is_ours(from) => from,
            // What was summed over another address would not be believed.
            Some(_) => return Verdict::Drop(Reason::NoRoute),
            None => self.source_for(remote),
        };
        self.send(slot, session.protocol, from, remote, message, context)
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        self.pop_received(message, context)
    }

    fn refused(
        &mut self,
        slot: Slot,
        message: &mut Message,
        reason: Reason,
        context: &mut Context,
    ) {
        let Some(received) = self.received.take() else { return };
        // Of other protocols their layers know their own refusals.
        if reason == Reason::NoSession && received.protocol == IpNumber::UDP.0 {
            let cause = (icmpv6::TYPE_DST_UNREACH, icmpv6::CODE_DST_UNREACH_PORT);
            let payload = std::mem::take(message);
            self.send_error(slot, cause, received.quote(), payload, context);
        }
    }

    fn wake(&mut self, context: &mut Context) {
        let now = context.now();
        // As many as there may be unfinished; of most no error will be sent.
        let mut late: Vec<(DatagramKey, Message)> = Vec::new();
        self.reassembly.expire(now, context, |key, first| late.push((key, first)));
        for (key, first) in late {
            self.send_time_exceeded(key, first, context);
        }
        // At most one question for each neighbour, of which there is a bounded number.
        let mut questions: Vec<Question<Ipv6Addr>> = Vec::new();
        self.neighbors.wake(
            now,
            |question| questions.push(question),
            |reason| context.count(reason),
        );
        questions.into_iter().for_each(|question| self.ask(question, context));
        self.wake_again(context);
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        self.sessions.close(slot);
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let (datagrams, bytes) = self.reassembly.holds();
        tell("errors_sent", self.counts.errors_sent);
        tell("fragments_sent", self.counts.fragments_sent);
        tell("reassembled", self.counts.reassembled);
        tell("unfinished_datagrams", datagrams as u64);
        tell("unfinished_bytes", bytes as u64);
        tell("asked", self.counts.asked);
        tell("answered", self.counts.answered);
        tell("conflicts", self.counts.conflicts);
        tell("neighbors", self.neighbors.len() as u64);
        tell("waiting", self.neighbors.waiting() as u64);
    }
}
