//! `icmp`: answers echo requests, sends them, and counts errors (RFC 792, RFC 4443).

mod counts;

use std::net::IpAddr;

use etherparse::{IpNumber, icmpv4, icmpv6};

use super::addresses::is_group;
use super::families::Families;
use super::internet_checksum::InternetChecksum;
use crate::description::OptionError;
use crate::{
    Below, Context, Demultiplexer, Demux, Lower, Message, Opened, Options, Participants, Protocol,
    Reason, Refusal, Slot, Slots, Upper, Verdict,
};
use counts::Counts;

/// Of an echo: type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
/// Sessions.
const SESSIONS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    remote: IpAddr,
    identifier: u16,
}

#[derive(Debug)]
enum Session {
    /// What is for the layer itself, of one version.
    Own { open: bool },
    /// Echo requests of somebody above.
    Echo { key: Key, local: Option<IpAddr>, sequence: u16 },
}

/// The echo and error parts of ICMP, for both versions of IP.
///
/// An echo request to this host, and to no group, is turned into its reply where it lies: one word
/// of the header changes, and the sum by as much (RFC 1624). A session above sends requests to one
/// host and gets the replies: its identifier is the participants' local port; the attributes of a
/// reply say the sequence number as the remote port. Errors are counted by kind, and change nothing
/// else: whoever can forge one could end a conversation. Errors of our own are made by `ipv4` and
/// `ipv6`, where the datagram is that they are about.
#[derive(Debug)]
pub struct Icmp {
    families: Families,
    slots: Slots<Session>,
    by_key: Demultiplexer<Key>,
    counts: Counts,
}

/// The slot of what is for the layer itself.
fn own(version6: bool) -> Slot {
    Slot(u32::from(version6))
}

fn echo_types(version6: bool) -> (u8, u8) {
    if version6 {
        (icmpv6::TYPE_ECHO_REQUEST, icmpv6::TYPE_ECHO_REPLY)
    } else {
        (icmpv4::TYPE_ECHO_REQUEST, icmpv4::TYPE_ECHO_REPLY)
    }
}

impl Icmp {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&[])?;
        let mut slots = Slots::new(SESSIONS);
        for _version in 0..2 {
            // The table is empty and its limit higher.
            let _slot = slots.insert(Session::Own { open: false });
        }
        let counts = Counts::default();
        Ok(Self { families: Families::default(), slots, by_key: Demultiplexer::new(), counts })
    }

    /// A sum that is already over the addresses, for version 6 (RFC 4443, section 2.3).
    fn sum(from: IpAddr, to: IpAddr, len: usize) -> InternetChecksum {
        if from.is_ipv6() {
            InternetChecksum::of_pseudo_header(from, to, IpNumber::IPV6_ICMP.0, len)
        } else {
            InternetChecksum::default()
        }
    }

    /// Turns a request into its reply and sends it back.
    fn reply(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let attributes = &mut context.attributes;
        if attributes.local.link.is_some_and(is_group) {
            return Verdict::Drop(Reason::NotForUs);
        }
        let version6 = slot == own(true);
        let (request, reply) = echo_types(version6);
        let mut header = [0; HEADER];
        if message.pop(&mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        header[0] = reply;
        let sum = u16::from_be_bytes([header[2], header[3]]);
        let changed = changed_sum(sum, u16::from(request) << 8, u16::from(reply) << 8);
        header[2..4].copy_from_slice(&changed.to_be_bytes());
        attributes.local.link = None;
        attributes.remote.link = None;
        attributes.selector = None;
        match context.push_header(message, &header) {
            Verdict::Pass => {}
            other => return other,
        }
        self.counts.echo_requests += 1;
        context.emit_down(slot, std::mem::take(message));
        Verdict::Taken
    }
}

/// The checksum after one word under it has changed (RFC 1624, equation 3).
fn changed_sum(sum: u16, from: u16, to: u16) -> u16 {
    let new = u32::from(!sum) + u32::from(!from) + u32::from(to);
    let folded = (new & 0xffff) + (new >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

impl Protocol for Icmp {
    fn start(&mut self, lowers: &[Lower], context: &mut Context) {
        self.families = Families::of(lowers);
        for lower in self.families.places().filter(|lower| *lower < lowers.len()) {
            // Version 6 takes the number of version 4 for its own.
            let selector = Some(IpNumber::ICMP.0.into());
            context.listen_below(lower, Participants { selector, ..Participants::default() });
        }
    }

    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let remote = who.remote.network.ok_or(Refusal::Missing("remote network address"))?;
        let identifier = who.local.port.ok_or(Refusal::Missing("identifier (local port)"))?;
        let key = Key { remote, identifier };
        if self.by_key.find(key).is_some() {
            return Err(Refusal::InUse);
        }
        let session = Session::Echo { key, local: who.local.network, sequence: 0 };
        let slot = self.slots.insert(session).map_err(|_| Refusal::Limit)?;
        // The key has just been looked up.
        let _new = self.by_key.insert(key, slot);
        who.selector = Some(IpNumber::ICMP.0.into());
        Ok(Opened { slot, lower: self.families.lower(remote.is_ipv6()) })
    }

    fn opened(&mut self, slot: Slot, below: Below) -> Below {
        if let Some(Session::Echo { local, .. }) = self.slots.get_mut(slot) {
            *local = local.or(below.local);
        }
        below.under_header(HEADER)
    }

    fn demux(&mut self, message: &Message, context: &mut Context) -> Demux {
        let Some(remote) = context.attributes.remote.network else {
            return Demux::Drop(Reason::NoSession);
        };
        let mut header = [0; HEADER];
        if message.peek(0, &mut header).is_err() {
            return Demux::Drop(Reason::Malformed);
        }
        let version6 = remote.is_ipv6();
        if header[0] == echo_types(version6).1 {
            let key = Key { remote, identifier: u16::from_be_bytes([header[4], header[5]]) };
            return self.by_key.find(key).map_or(Demux::Drop(Reason::NoSession), Demux::To);
        }
        match self.slots.get_mut(own(version6)) {
            Some(Session::Own { open }) if !*open => {
                *open = true;
                Demux::New(own(version6), Upper::NOBODY)
            }
            _ => Demux::To(own(version6)),
        }
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(Session::Echo { key, local, sequence }) = self.slots.get_mut(slot) else {
            return Verdict::Drop(Reason::NoSession);
        };
        let Some(from) = *local else { return Verdict::Drop(Reason::NoRoute) };
        *sequence = sequence.wrapping_add(1);
        let mut header = [0; HEADER];
        header[0] = echo_types(from.is_ipv6()).0;
        header[4..6].copy_from_slice(&key.identifier.to_be_bytes());
        header[6..8].copy_from_slice(&sequence.to_be_bytes());
        let mut sum = Self::sum(from, key.remote, HEADER + message.len());
        sum.add(&header);
        let Some(sum) = sum.add_message(message) else {
            return Verdict::Drop(Reason::Unreadable);
        };
        header[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        context.attributes.local.network = Some(from);
        context.attributes.remote.network = Some(key.remote);
        context.push_header(message, &header)
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let (Some(to), Some(from)) =
            (context.attributes.local.network, context.attributes.remote.network)
        else {
            return Verdict::Drop(Reason::NoSession);
        };
        match Self::sum(from, to, message.len()).add_message(message) {
            Some(sum) if sum.finish() == 0 => {}
            Some(_) => return Verdict::Drop(Reason::Checksum),
            None => return Verdict::Drop(Reason::Unreadable),
        }
        let mut header = [0; HEADER];
        if message.peek(0, &mut header).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        match self.slots.get(slot) {
            Some(Session::Echo { key, .. }) if header[1] == 0 => {
                context.attributes.local.port = Some(key.identifier);
                context.attributes.remote.port = Some(u16::from_be_bytes([header[6], header[7]]));
                self.counts.echo_replies += 1;
                match message.pop(&mut header) {
                    Ok(()) => Verdict::Pass,
                    Err(_) => Verdict::Drop(Reason::Malformed),
                }
            }
            Some(Session::Own { .. }) if header[..2] == [echo_types(from.is_ipv6()).0, 0] => {
                self.reply(slot, message, context)
            }
            Some(Session::Own { .. }) if self.counts.error(from.is_ipv6(), header[0]) => {
                Verdict::Taken
            }
            _ => Verdict::Drop(Reason::Unsupported),
        }
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        if let Some(Session::Own { open }) = self.slots.get_mut(slot) {
            *open = false;
        } else if let Some(Session::Echo { key, .. }) = self.slots.remove(slot) {
            self.by_key.remove(key);
        }
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        self.counts.tell(tell);
    }
}
