//! What is agreed once, when a session opens, and is in no header afterwards.

/// The client's part. Thirty-two bits each of fragment and reply size, after the service and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names service, version and layout; equal on both sides, or there is no session.
    pub service: u64,
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
    pub const BYTES: usize = 24;

    /// As it travels.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.service.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.fragment.to_le_bytes());
        bytes[20..].copy_from_slice(&self.max_reply.to_le_bytes());
        bytes
    }

    /// What travelled; nothing if it has another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        Some(Self {
            service: word(bytes, 0)?,
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
