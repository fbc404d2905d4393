//! What is agreed once, when a session opens, and is in no header afterwards.

use super::Rejection;

/// Which service, in which version and layout: equal on both sides, or there is no session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceId {
    /// The service: a hash of its name, or any number.
    pub name: u64,
    /// Its version.
    pub version: u32,
    /// A hash over how its methods travel.
    pub layout: u32,
}

/// The service of this number, in the only version and layout that there are.
impl From<u64> for ServiceId {
    fn from(name: u64) -> Self {
        Self { name, ..Self::default() }
    }
}

impl ServiceId {
    /// Whether this is what was asked for.
    ///
    /// # Errors
    /// What differs, the first of name, version and layout.
    pub fn check(&self, asked: &Self) -> Result<(), Rejection> {
        if asked.name != self.name {
            return Err(Rejection::Service);
        }
        if asked.version != self.version {
            return Err(Rejection::ServiceVersion);
        }
        if asked.layout != self.layout { Err(Rejection::Layout) } else { Ok(()) }
    }
}

/// The client's part: the service's name and the epoch in 64 bits each, then the others in 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What the client wants to call.
    pub service: ServiceId,
    /// The epoch that the client expects; zero for whichever it is.
    pub epoch: u64,
    /// The most payload bytes that a packet can carry on this channel.
    pub fragment: u32,
    /// The longest reply that the client takes.
    pub max_reply: u32,
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From a strong generator: where the session's request numbers begin.
    pub cookie: u64,
    /// Drawn when the server started; another one is another server.
    pub incarnation: u64,
    /// The epoch that the server is in.
    pub epoch: u64,
    /// How many payload bytes a full packet carries.
    pub fragment: u32,
    /// The longest request that the server takes.
    pub max_request: u32,
}

impl Offer {
    /// Bytes of it behind the header.
    pub const BYTES: usize = 32;

    /// As it travels.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.service.name.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.fragment.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.max_reply.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.service.version.to_le_bytes());
        bytes[28..].copy_from_slice(&self.service.layout.to_le_bytes());
        bytes
    }

    /// What travelled; nothing if it has another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (version, layout) = (half(bytes, 24)?, half(bytes, 28)?);
        Some(Self {
            service: ServiceId { name: word(bytes, 0)?, version, layout },
            epoch: word(bytes, 8)?,
            fragment: half(bytes, 16)?,
            max_reply: half(bytes, 20)?,
        })
    }
}

impl Terms {
    /// Bytes of it behind the header.
    pub const BYTES: usize = 32;

    /// As it travels.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.cookie.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.fragment.to_le_bytes());
        bytes[28..].copy_from_slice(&self.max_request.to_le_bytes());
        bytes
    }

    /// What travelled; nothing if it has another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        Some(Self {
            cookie: word(bytes, 0)?,
            incarnation: word(bytes, 8)?,
            epoch: word(bytes, 16)?,
            fragment: half(bytes, 24)?,
            max_request: half(bytes, 28)?,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}
