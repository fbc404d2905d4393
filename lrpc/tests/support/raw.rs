//! Calls and replies as bare messages, to say what no honest side would.

use lrpc::Interface;
use unet::{Address, Channel, ConnectError, ConnectOptions, Delivery, Offer, SendError};

/// What calls and replies begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub number: u32,
    pub a_stack: u16,
    pub flags: u16,
}

/// The arguments or results are in the A-stack.
pub const IN_A_STACK: u16 = 1;

/// The statuses of replies.
pub const EXECUTED: u16 = 0;
pub const NOT_SERVED: u16 = 1;
pub const BAD_ARGUMENTS: u16 = 2;
pub const DECLINED: u16 = 0x100;

/// The codes of refused requests to bind.
pub const UNKNOWN_INTERFACE: u32 = 1;
pub const VERSION: u32 = 2;
pub const LAYOUT: u32 = 3;

impl Word {
    pub fn new(number: u32, a_stack: u16, flags: u16) -> Self {
        Self { number, a_stack, flags }
    }

    pub fn bytes(self) -> [u8; 8] {
        let word =
            u64::from(self.flags) << 48 | u64::from(self.a_stack) << 32 | u64::from(self.number);
        word.to_le_bytes()
    }

    /// Of a message; it must be long enough.
    pub fn of(message: &Delivery) -> Self {
        let bytes = message.inline().first_chunk::<8>().expect("a call word");
        let word = u64::from_le_bytes(*bytes);
        Self { number: word as u32, a_stack: (word >> 32) as u16, flags: (word >> 48) as u16 }
    }
}

/// Bytes behind a call word.
pub fn message(word: Word, rest: &[u8]) -> Vec<u8> {
    [&word.bytes(), rest].concat()
}

/// What an honest client asks for when it binds.
pub fn request<I: Interface>() -> Vec<u8> {
    request_of(*b"LRPCBIND", I::LAYOUT, I::VERSION, I::NAME.len() as u32, I::NAME)
}

pub fn request_of(magic: [u8; 8], layout: u64, version: u32, len: u32, name: &str) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(layout.to_le_bytes());
    bytes.extend(version.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.resize(88, 0);
    bytes
}

/// Connects with any request to bind, and an area of any size.
pub fn connect(
    address: &Address,
    private: Vec<u8>,
    area_bytes: u32,
) -> Result<Channel, ConnectError> {
    let mut options = ConnectOptions { private, ..ConnectOptions::default() };
    options.channel.geometry = unet::Geometry { slots: 64, area_bytes, ..super::small() };
    Channel::connect(address, options)
}

/// Sends bytes as they are; there must be room, unless the other side has closed the channel.
pub fn send(channel: &mut Channel, tag: u16, bytes: &[u8]) {
    let sent = channel.try_send_parts(tag, bytes, &[]);
    assert!(matches!(sent, Ok(Offer::Taken) | Err(SendError::Closed(_))), "{sent:?}");
}
