//! `ether`: Ethernet II frames.

use etherparse::{EtherType, Ethernet2Header};

use super::addresses::{LinkAddress, is_group};
use crate::description::OptionError;
use crate::{
    Below, Context, Demux, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot,
    Upper, Verdict,
};

/// Ethernet types in use above.
const TYPES: usize = 16;
/// Groups listened to.
const GROUPS: usize = 64;

/// Ethernet II: finds the upper layer by the frame's type, and takes frames to this station, to
/// everybody, and to groups somebody listens for.
///
/// A session is all that goes to or comes from one upper layer with one type; the type is the
/// participants' `selector`, and whoever listens for a group too names it as the local link address.
/// Going down, the attributes say to whom: the remote link address; a `selector` there is sent instead
/// of the session's type. Padding is not removed here: only upper layers know what is padding.
/// Frames of IEEE 802.3 with a length in place of the type, and VLAN tags, are refused.
///
/// Options: `mac`, this station's address.
#[derive(Debug)]
pub struct Ether {
    mac: [u8; 6],
    /// The sessions: their slots are their places.
    types: Vec<Type>,
    groups: Vec<[u8; 6]>,
    /// What [`demux`](Protocol::demux) read, for the [`pop`](Protocol::pop) that follows.
    header: Option<Ethernet2Header>,
}

#[derive(Debug)]
struct Type {
    number: u16,
    upper: Option<Upper>,
    open: bool,
}

impl Ether {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["mac"])?;
        let mac = LinkAddress::from_options(options)?;
        Ok(Self { mac, types: Vec::new(), groups: Vec::new(), header: None })
    }

    fn place_of(&mut self, who: &Participants) -> Result<usize, Refusal> {
        let number = who.selector.ok_or(Refusal::Missing("Ethernet type (selector)"))?;
        if let Some(place) = self.types.iter().position(|known| known.number == number) {
            return Ok(place);
        }
        if self.types.len() >= TYPES {
            return Err(Refusal::Limit);
        }
        self.types.push(Type { number, upper: None, open: false });
        Ok(self.types.len() - 1)
    }

    fn is_for_us(&self, to: [u8; 6]) -> bool {
        to == self.mac || to == LinkAddress::BROADCAST || self.groups.contains(&to)
    }
}

impl Protocol for Ether {
    fn multiplexes(&self) -> bool {
        true
    }

    fn open(&mut self, who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let place = self.place_of(who)?;
        self.types[place].open = true;
        Ok(Opened { slot: Slot(place as u32), lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, below: Below) -> Below {
        below.under_header(Ethernet2Header::LEN)
    }

    fn listen(&mut self, who: &mut Participants, upper: Upper) -> Result<(), Refusal> {
        let place = self.place_of(who)?;
        if self.types[place].upper.is_some_and(|other| other != upper) {
            return Err(Refusal::InUse);
        }
        if let Some(group) = who.local.link.filter(|link| is_group(*link))
            && !self.groups.contains(&group)
        {
            if self.groups.len() >= GROUPS {
                return Err(Refusal::Limit);
            }
            self.groups.push(group);
        }
        self.types[place].upper = Some(upper);
        Ok(())
    }

    fn demux(&mut self, message: &Message, _context: &mut Context) -> Demux {
        let mut bytes = [0; Ethernet2Header::LEN];
        if message.peek(0, &mut bytes).is_err() {
            return Demux::Drop(Reason::Malformed);
        }
        let header = Ethernet2Header::from_bytes(bytes);
        if !self.is_for_us(header.destination) {
            return Demux::Drop(Reason::NotForUs);
        }
        // No station sends from a group's address, and nobody but us from ours.
        if is_group(header.source) || header.source == self.mac {
            return Demux::Drop(Reason::Malformed);
        }
        let number = header.ether_type.0;
        self.header = Some(header);
        match self.types.iter_mut().enumerate().find(|(_, known)| known.number == number) {
            Some((place, known)) if known.open => Demux::To(Slot(place as u32)),
            Some((place, known)) => match known.upper {
                Some(upper) => {
                    known.open = true;
                    Demux::New(Slot(place as u32), upper)
                }
                None => Demux::Drop(Reason::NoSession),
            },
            None => Demux::Drop(Reason::Unsupported),
        }
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(session) = self.types.get(slot.0 as usize) else {
            return Verdict::Drop(Reason::NoSession);
        };
        let Some(destination) = context.attributes.remote.link else {
            return Verdict::Drop(Reason::Unresolved);
        };
        let ether_type = EtherType(context.attributes.selector.unwrap_or(session.number));
        let header = Ethernet2Header { source: self.mac, destination, ether_type };
        context.push_header(message, &header.to_bytes())
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        let Some(header) = self.header.take() else { return Verdict::Drop(Reason::NoSession) };
        if message.pop(&mut [0; Ethernet2Header::LEN]).is_err() {
            return Verdict::Drop(Reason::Malformed);
        }
        context.attributes.local.link = Some(header.destination);
        context.attributes.remote.link = Some(header.source);
        context.attributes.selector = Some(header.ether_type.0);
        Verdict::Pass
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        if let Some(session) = self.types.get_mut(slot.0 as usize) {
            session.open = false;
        }
    }
}
