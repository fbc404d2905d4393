//! `udp`: the User Datagram Protocol (RFC 768), over both versions of IP.

use std::net::IpAddr;

use etherparse::{IpNumber, UdpHeader};

use super::families::Families;
use super::internet_checksum::InternetChecksum;
use crate::description::OptionError;
use crate::{
    Answer, Below, Context, Demultiplexer, Demux, Lower, Message, Opened, Options, Participants,
    Protocol, Reason, Refusal, Request, Slot, Slots, Upper, Verdict,
};

/// The longest payload.
const LONGEST: usize = u16::MAX as usize - UdpHeader::LEN;
/// Ports listened at.
const PORTS: usize = 1024;
/// Sessions.
const SESSIONS: usize = 1 << 16;

/// A conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    port: u16,
    version6: bool,
    /// `None`: with everybody who is in no other session of the port.
    remote: Option<(IpAddr, u16)>,
}

#[derive(Debug)]
struct Session {
    key: Key,
    local: Option<IpAddr>,
    /// From where the layer below sends what names no address of its own as its sender.
    own: Option<IpAddr>,
}

impl Session {
    /// From which address a message goes that came with `said` for ours: an answer to what was for
    /// everybody or for a group does not come from there. Version 4 has one address.
    fn sender(&self, said: Option<IpAddr>) -> Option<IpAddr> {
        match said {
            Some(said) if self.key.version6 && !said.is_multicast() => Some(said),
            _ => self.own.or(said),
        }
    }
}

/// UDP: finds sessions by port, and checks the sum over every byte.
///
/// A session that is opened has one other end. Whoever listens at a port gets one session for all
/// others, for each version of IP; there the attributes of a message say who sent it, and are given
/// back with the answer ([`Graph::push_to`](crate::Graph::push_to)). So hosts nobody talks to cannot
/// make us keep anything, however many there are.
///
/// A sum is always sent. Over version 4 a missing one is accepted (RFC 768), over version 6 it is not
/// (RFC 8200, section 8.1). A datagram for a port nobody listens at is refused, and the layer below
/// says so to its sender. Ports are chosen by who opens, none is made up here.
#[derive(Debug)]
pub struct Udp {
    families: Families,
    slots: Slots<Session>,
    /// Those with one other end, and those with everybody else.
    exact: Demultiplexer<Key>,
    common: Demultiplexer<Key>,
    listeners: Vec<(u16, Upper)>,
    /// What [`demux`](Protocol::demux) read, for the [`pop`](Protocol::pop) that follows.
    header: Option<UdpHeader>,
}

impl Udp {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&[])?;
        Ok(Self {
            families: Families::default(),
            slots: Slots::new(SESSIONS),
            exact: Demultiplexer::new(),
            common: Demultiplexer::new(),
            listeners: Vec::new(),
            header: None,
        })
    }

    fn sessions_of(&mut self, key: Key) -> &mut Demultiplexer<Key> {
        if key.remote.is_some() { &mut self.exact } else { &mut self.common }
    }

    fn insert(&mut self, key: Key, local: Option<IpAddr>) -> Option<Slot> {
        let slot = self.slots.insert(Session { key, local, own: None }).ok()?;
        // The caller has looked for the key.
        let _new = self.sessions_of(key).insert(key, slot);
        Some(slot)
    }
}

impl Protocol for Udp {
    fn start(&mut self, lowers: &[Lower], context: &mut Context) {
        self.families = Families::of(lowers);
        // Also of what nobody listens for: its sender is to hear that.
        for lower in self.families.places().filter(|lower| *lower < lowers.len()) {
            let selector = Some(IpNumber::UDP.0.into());
            context.listen_below(lower, Participants { selector, ..Participants::default() });
        }
    }

    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let port = who.local.port.ok_or(Refusal::Missing("local port"))?;
        let remote = who.remote.network.ok_or(Refusal::Missing("remote network address"))?;
        let remote_port = who.remote.port.ok_or(Refusal::Missing("remote port"))?;
        if port == 0 || remote_port == 0 {
            return Err(Refusal::Missing("port other than zero"));
        }
        let version6 = remote.is_ipv6();
        let key = Key { port, version6, remote: Some((remote, remote_port)) };
        if self.exact.find(key).is_some() {
            return Err(Refusal::InUse);
        }
        let slot = self.insert(key, who.local.network).ok_or(Refusal::Limit)?;
        who.selector = Some(IpNumber::UDP.0.into());
        Ok(Opened { slot, lower: self.families.lower(version6) })
    }

    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        if let Some(session) = self.slots.get_mut(slot) {
            session.own = below.local;
            if session.key.remote.is_some() {
                session.local = session.local.or(below.local);
            }
        }
        let below = below.under_header(UdpHeader::LEN);
        Below { max_message: below.max_message.min(LONGEST), ..below }
    }

    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        let port = who.local.port.ok_or(Refusal::Missing("local port"))?;
        match self.listeners.iter().find(|(known, _)| *known == port) {
            Some((_, known)) if *known == upper => {}
            Some(_) => return Err(Refusal::InUse),
            None if self.listeners.len() >= PORTS => return Err(Refusal::Limit),
            None => self.listeners.push((port, upper)),
        }
        who.selector = Some(IpNumber::UDP.0.into());
        Ok(())
    }

    fn demux(&mut self, message: &Message, context: &mut Context) -> Demux {
        let mut bytes = [0; UdpHeader::LEN];
        if message.peek(0, &mut bytes).is_err() {
            return Demux::Drop(Reason::Malformed);
        }
        let header = UdpHeader::from_bytes(bytes);
        let Some(remote) = context.attributes.remote.network else {
            return Demux::Drop(Reason::NoSession);
        };
        let port = header.destination_port;
        let version6 = remote.is_ipv6();
        let exact = Key { port, version6, remote: Some((remote, header.source_port)) };
        let common = Key { remote: None, ..exact };
        self.header = Some(header);
        if !self.exact.is_empty()
            && let Some(slot) = self.exact.find(exact)
        {
            return Demux::To(slot);
        }
        if let Some(slot) = self.common.find(common) {
            return Demux::To(slot);
        }
        let Some((_, upper)) = self.listeners.iter().find(|(known, _)| *known == port) else {
            return Demux::Drop(Reason::NoSession);
        };
        let upper = *upper;
        match self.insert(common, None) {
            Some(slot) => Demux::New(slot, upper),
            None => Demux::Drop(Reason::SessionLimit),
        }
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.slots.get(slot) else { return Verdict::Drop(Reason::NoSession) };
        let attributes = &mut context.attributes;
        if let Some((network, port)) = session.key.remote {
            attributes.remote.network = Some(network);
            attributes.remote.port = Some(port);
            attributes.local.network = session.local;
        } else {
            attributes.local.network = session.sender(attributes.local.network);
        }
        let (Some(from), Some(to), Some(destination_port)) =
            (attributes.local.network, attributes.remote.network, attributes.remote.port)
        else {
            return Verdict::Drop(Reason::NoRoute);
        };
        if from.is_ipv6() != session.key.version6 || to.is_ipv6() != session.key.version6 {
            return Verdict::Drop(Reason::NoRoute);
        }
        if message.len() > LONGEST {
            return Verdict::Drop(Reason::TooLarge);
        }
        let len = UdpHeader::LEN + message.len();
        let mut header = UdpHeader {
            source_port: session.key.port,
            destination_port,
            length: len as u16,
            checksum: 0,
        };
        let mut sum = InternetChecksum::of_pseudo_header(from, to, IpNumber::UDP.0, len);
        sum.add(&header.to_bytes());
        let Some(sum) = sum.add_message(message) else {
            return Verdict::Drop(Reason::Unreadable);
        };
        header.checksum = sum.finish_udp();
        context.push_header(message, &header.to_bytes())
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(header) = self.header.take() else { return Verdict::Drop(Reason::NoSession) };
        let (Some(to), Some(from)) =
            (context.attributes.local.network, context.attributes.remote.network)
        else {
            return Verdict::Drop(Reason::NoSession);
        };
        let len = usize::from(header.length);
        if len < UdpHeader::LEN || len > message.len() {
            return Verdict::Drop(Reason::Malformed);
        }
        message.truncate(len);
        if header.checksum != 0 {
            let sum = InternetChecksum::of_pseudo_header(from, to, IpNumber::UDP.0, len);
            match sum.add_message(message) {
                Some(sum) if sum.finish() == 0 => {}
                Some(_) => return Verdict::Drop(Reason::Checksum),
                None => return Verdict::Drop(Reason::Unreadable),
            }
        } else if to.is_ipv6() {
            return Verdict::Drop(Reason::Checksum);
        }
        if message.pop(&mut [0; UdpHeader::LEN]).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        context.attributes.local.port = Some(header.destination_port);
        context.attributes.remote.port = Some(header.source_port);
        Verdict::Pass
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        if let Some(session) = self.slots.remove(slot) {
            self.sessions_of(session.key).remove(session.key);
        }
    }

    fn control(&mut self, slot: Slot, request: Request<'_>) -> Option<Answer> {
        let session = self.slots.get(slot)?;
        match request {
            Request::Participants => {
                let mut who = Participants::default();
                who.local.network = session.local;
                who.local.port = Some(session.key.port);
                who.remote.network = session.key.remote.map(|(network, _)| network);
                who.remote.port = session.key.remote.map(|(_, port)| port);
                Some(Answer::Participants(who))
            }
            _ => None,
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("sessions", self.slots.len() as u64);
    }
}
