//! `ipv4`: the Internet Protocol, version 4 (RFC 791), as a host speaks it (RFC 1122).

mod header;
mod send;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use etherparse::{IpNumber, icmpv4};
use fbufs::MAX_PARTS;

use super::addresses::{Subnet, is_group};
use super::internet_sessions::InternetSessions;
use super::reassembly::{Bounds, Reassembly};
use super::token_bucket::TokenBucket;
use crate::description::OptionError;
use crate::{
    Below, Context, Demux, Lower, Message, Opened, Options, Participants, Protocol, Reason,
    Refusal, Slot, Upper, Verdict,
};
use header::Received;

/// The header without options.
const HEADER: usize = 20;
/// The longest datagram.
const LONGEST: usize = 65_535;

/// What tells the datagrams apart whose fragments are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DatagramKey {
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    identification: u16,
}

/// IP version 4 of a host with one address and one gateway.
///
/// Receives what is addressed to the host or to everybody in its network, with a right header;
/// options are skipped; fragments are put together as far as the bounds allow, overlapping ones
/// refused. Sends from its own address, straight to hosts in its network and to others by the
/// gateway, in fragments where a message is too long. It forwards nothing and knows no multicast.
/// To a datagram for a port where nobody listens, and to one whose fragments did not all come in
/// time, it answers with an error, seldom enough to be of no use to a flooder.
///
/// The address of the next hop goes down in the attributes (remote network); a broadcast has its
/// link address already.
///
/// Options: `address`, ours, with the length of the network's prefix; `gateway`.
#[derive(Debug)]
pub struct Ipv4 {
    subnet: Subnet<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
    /// The longest packet that goes in one piece.
    mtu: usize,
    sessions: InternetSessions<Ipv4Addr>,
    reassembly: Reassembly<DatagramKey>,
    /// Of the packet sent last. It begins by chance, so that nobody knows it who has seen no packet,
    /// and counts on, so that it comes again as late as can be (RFC 6864).
    identification: u16,
    /// What [`demux`](Protocol::demux) read, for the [`pop`](Protocol::pop) that follows, and for
    /// quoting it if nobody above wants the message.
    received: Option<Received>,
    /// A session over which messages of our own can go.
    way_out: Slot,
    errors: TokenBucket,
    errors_sent: u64,
    fragments_sent: u64,
    reassembled: u64,
}

impl Ipv4 {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["address", "gateway"])?;
        let subnet = options.get("address", "an own address like 192.0.2.7/24")?;
        Ok(Self {
            subnet: subnet.ok_or(OptionError::Missing { name: "address" })?,
            gateway: options.get("gateway", "an address like 192.0.2.1")?,
            mtu: 0,
            sessions: InternetSessions::new(),
            reassembly: Reassembly::new(Bounds {
                datagrams: 64,
                fragments: 64,
                pieces: 80,
                parts: MAX_PARTS,
                bytes: 1 << 20,
                longest: LONGEST - HEADER,
                // RFC 1122, section 3.3.2, asks for a minute at least; half of it as Linux has it:
                // identifications come again sooner.
                time: Duration::from_secs(30),
            }),
            identification: 0,
            received: None,
            way_out: Slot(0),
            errors: TokenBucket::new(16, Duration::from_millis(10)),
            errors_sent: 0,
            fragments_sent: 0,
            reassembled: 0,
        })
    }

    /// Whether a received header is for us and from somebody we can answer.
    fn check(&self, received: &Received, link: Option<[u8; 6]>) -> Result<(), Reason> {
        let Received { from, to, .. } = *received;
        let for_all = self.subnet.is_broadcast(to);
        if to != self.subnet.address && !for_all {
            return Err(Reason::NotForUs);
        }
        // Only what is for all comes to all (RFC 1122, section 3.3.6).
        if link.is_some_and(|link| is_group(link) != for_all) {
            return Err(Reason::NotForUs);
        }
        let impossible = from == self.subnet.address
            || from.is_unspecified()
            || from.is_loopback()
            || from.is_multicast()
            || self.subnet.is_broadcast(from)
            || from.octets()[0] >= 240;
        if impossible { Err(Reason::Malformed) } else { Ok(()) }
    }

    /// Takes a fragment; whether it was the last that was missing, `message` then being the whole.
    fn reassemble(
        &mut self,
        received: &Received,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let Received { from, to, protocol, identification, .. } = *received;
        let key = DatagramKey { from, to, protocol, identification };
        let fragment = std::mem::take(message);
        let now = context.now();
        let taken = self.reassembly.take(key, received.place, fragment, now, context);
        if let Some(deadline) = self.reassembly.next_deadline() {
            context.wake_at(deadline);
        }
        match taken {
            Ok(Some(whole)) => {
                *message = whole;
                self.reassembled += 1;
                Verdict::Pass
            }
            Ok(None) => Verdict::Taken,
            Err(reason) => Verdict::Drop(reason),
        }
    }
}

impl Protocol for Ipv4 {
    fn start(&mut self, _lowers: &[Lower], context: &mut Context) {
        self.identification = context.random().below(1 << 16) as u16;
    }

    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let protocol = header::protocol_of(who)?;
        let remote = match who.remote.network {
            Some(IpAddr::V4(remote)) => Some(remote),
            None => None,
            Some(IpAddr::V6(_)) => return Err(Refusal::NoRoute),
        };
        if remote.is_some_and(|remote| self.next_hop(remote).is_none()) {
            return Err(Refusal::NoRoute);
        }
        let ours = IpAddr::V4(self.subnet.address);
        if who.local.network.is_some_and(|local| local != ours) {
            return Err(Refusal::NoRoute);
        }
        who.local.network = Some(ours);
        Ok(Opened { slot: self.sessions.open(protocol, remote)?, lower: 0 })
    }

    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        self.mtu = below.max_message;
        self.way_out = slot;
        let max_message = LONGEST - HEADER;
        let local = Some(IpAddr::V4(self.subnet.address));
        Below { max_message, headroom: below.headroom + HEADER, local }
    }

    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        self.sessions.listen(header::protocol_of(who)?, upper)
    }

    fn demux(&mut self, message: &Message, context: &mut Context) -> Demux {
        self.received = None;
        let received = match Received::read(message) {
            Ok(received) => received,
            Err(reason) => return Demux::Drop(reason),
        };
        if let Err(reason) = self.check(&received, context.attributes.local.link) {
            return Demux::Drop(reason);
        }
        let demux = self.sessions.demux(received.protocol, received.from);
        self.received = Some(received);
        demux
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.sessions.get(slot).copied() else {
            return Verdict::Drop(Reason::NoSession);
        };
        let remote = match (session.remote, context.attributes.remote.network) {
            (Some(remote), _) | (None, Some(IpAddr::V4(remote))) => remote,
            _ => return Verdict::Drop(Reason::NoRoute),
        };
        // What was summed over another address would not be believed.
        let ours = IpAddr::V4(self.subnet.address);
        if context.attributes.local.network.is_some_and(|from| from != ours) {
            return Verdict::Drop(Reason::NoRoute);
        }
        self.send(slot, session.protocol, remote, message, context)
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(received) = self.received else { return Verdict::Drop(Reason::NoSession) };
        let mut header = [0; 60];
        if message.pop(&mut header[..received.header_len]).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        message.truncate(received.payload_len);
        if received.is_fragment() {
            match self.reassemble(&received, message, context) {
                Verdict::Pass => {}
                other => return other,
            }
            self.received = Some(Received { payload_len: message.len(), ..received });
        }
        context.attributes.local.network = Some(IpAddr::V4(received.to));
        context.attributes.remote.network = Some(IpAddr::V4(received.from));
        context.attributes.selector = Some(received.protocol.into());
        Verdict::Pass
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
            let cause = (icmpv4::TYPE_DEST_UNREACH, icmpv4::CODE_DST_UNREACH_PORT);
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
        if let Some(deadline) = self.reassembly.next_deadline() {
            context.wake_at(deadline);
        }
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        self.sessions.close(slot);
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        let (datagrams, bytes) = self.reassembly.holds();
        tell("errors_sent", self.errors_sent);
        tell("fragments_sent", self.fragments_sent);
        tell("reassembled", self.reassembled);
        tell("unfinished_datagrams", datagrams as u64);
        tell("unfinished_bytes", bytes as u64);
    }
}
