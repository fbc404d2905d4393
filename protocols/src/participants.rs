//! Who talks to whom.

use std::net::IpAddr;

/// One end of a conversation, as far as it is known. Each layer reads and fills in its own part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Participant {
    /// The address on the link.
    pub link: Option<[u8; 6]>,
    /// The address in the network.
    pub network: Option<IpAddr>,
    /// The port on the host.
    pub port: Option<u16>,
}

/// Both ends of a conversation.
///
/// It describes the session that is to be opened or listened for; and it travels beside every
/// message, as its attributes: on the way up each layer notes there what its header said, for the
/// layers above and for the application; on the way down a layer may note what the layer below needs
/// to know and cannot find in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Participants {
    /// This side.
    pub local: Participant,
    /// The other side.
    pub remote: Participant,
    /// Which protocol the upper layer is, in the numbers of the layer below it: an Ethernet type,
    /// an IP protocol. Noted by the upper one when it opens or listens.
    pub selector: Option<u16>,
}
