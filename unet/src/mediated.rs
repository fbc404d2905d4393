//! Channels by way of an agent: a process that owns a device, and lends it to others by its policy.
//!
//! ```text
//!   this process                   the agent                            the network
//!   Channel ── shared memory ──►   checks who asks, and its policy
//!                                  headers from its own table  ───────► a channel of the agent's
//!   Event::Incoming ◄── Hello ───  a client asks at the port   ◄─────── Hello
//! ```
//!
//! What a process has is a channel on this host to the agent and nothing else: it can name no address, port,
//! channel or incarnation in a message. The agent is asked for one in the private bytes of a connection:
//!
//! | bytes | a [`Request`] | an [`Introduction`] |
//! |---|---|---|
//! | 1 | version: 1 | version: 1 |
//! | 1 | what: 1 connect, 2 listen, 3 inspect | 16 |
//! | 1 | how long the address is | the family: 4 or 6 |
//! | 1 | zero | zero |
//! | | the address | the port (2, little-endian), the address (4 or 16) |
//! | rest | the application's private bytes; the name to listen at | the remote side's private bytes |

mod asking;

use std::net::{IpAddr, SocketAddr};

pub(crate) use asking::{connect, connect_options, listen};
use segment::control::{MAX_PRIVATE, is_valid_name};

use crate::{Address, NetworkAddress};

const VERSION: u8 = 1;
const CONNECT: u8 = 1;
const LISTEN: u8 = 2;
const INSPECT: u8 = 3;
const INTRODUCTION: u8 = 16;

/// What an agent is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// A channel to an address, with private bytes for who listens there.
    Connect {
        /// Where to; without the agent's name.
        to: NetworkAddress,
        /// The application's private bytes.
        private: Vec<u8>,
    },
    /// A port. Clients that ask there are to be introduced at a name on this host; the port is lent until
    /// the channel that asked ends.
    Listen {
        /// The port, and on which device.
        at: NetworkAddress,
        /// The name.
        name: String,
    },
    /// What the agent knows of the channels of who asks.
    Inspect,
}

/// Why a request or an introduction could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It is of another version.
    #[error("the request is of version {0}")]
    Version(u8),
    /// It makes no sense.
    #[error("the request makes no sense")]
    Malformed,
    /// It is longer than there is room for.
    #[error("address and private bytes are more than the {MAX_PRIVATE} bytes of a request")]
    TooLong,
}

impl Request {
    /// The private bytes that say so.
    ///
    /// # Errors
    /// [`RequestError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        let (what, address, rest) = match self {
            Self::Connect { to, private } => (CONNECT, to.to_string(), &private[..]),
            Self::Listen { at, name } => (LISTEN, at.to_string(), name.as_bytes()),
            Self::Inspect => (INSPECT, String::new(), &[][..]),
        };
        let len = u8::try_from(address.len()).map_err(|_| RequestError::TooLong)?;
        fit([&[VERSION, what, len, 0], address.as_bytes(), rest].concat())
    }

    /// Reads private bytes: anybody's.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let [version, what, len, zero, rest @ ..] = bytes else {
            return Err(RequestError::Malformed);
        };
        if *version != VERSION {
            return Err(RequestError::Version(*version));
        }
        let (address, rest) =
            rest.split_at_checked(usize::from(*len)).ok_or(RequestError::Malformed)?;
        let text = str::from_utf8(address).map_err(|_| RequestError::Malformed)?;
        let address = || match text.parse() {
            Ok(Address::Network(address)) if address.via().is_none() => Ok(address),
            _ => Err(RequestError::Malformed),
        };
        match (*what, *zero) {
            (CONNECT, 0) => Ok(Self::Connect { to: address()?, private: rest.to_vec() }),
            (LISTEN, 0) => {
                let name = str::from_utf8(rest).map_err(|_| RequestError::Malformed)?;
                let valid = is_valid_name(name).then(|| name.to_owned());
                let name = valid.ok_or(RequestError::Malformed)?;
                Ok(Self::Listen { at: address()?, name })
            }
            (INSPECT, 0) if text.is_empty() && rest.is_empty() => Ok(Self::Inspect),
            _ => Err(RequestError::Malformed),
        }
    }
}

/// How an agent introduces a client of the network to who listens by way of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The client's address.
    pub from: SocketAddr,
    /// Its private bytes.
    pub private: Vec<u8>,
}

impl Introduction {
    /// The private bytes that say so.
    ///
    /// # Errors
    /// [`RequestError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, RequestError> {
        let port = self.from.port().to_le_bytes();
        let with = |family: u8, address: &[u8]| {
            [&[VERSION, INTRODUCTION, family, 0], &port[..], address, &self.private].concat()
        };
        fit(match self.from.ip() {
            IpAddr::V4(ip) => with(4, &ip.octets()),
            IpAddr::V6(ip) => with(6, &ip.octets()),
        })
    }

    /// Reads private bytes.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        let [version, INTRODUCTION, family, 0, low, high, rest @ ..] = bytes else {
            return Err(RequestError::Malformed);
        };
        if *version != VERSION {
            return Err(RequestError::Version(*version));
        }
        let (ip, private) = match family {
            4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest)),
            6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest)),
            _ => None,
        }
        .ok_or(RequestError::Malformed)?;
        let from = SocketAddr::new(ip, u16::from_le_bytes([*low, *high]));
        Ok(Self { from, private: private.to_vec() })
    }
}

fn fit(bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
    if bytes.len() <= MAX_PRIVATE { Ok(bytes) } else { Err(RequestError::TooLong) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> NetworkAddress {
        match text.parse() {
            Ok(Address::Network(address)) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_and_introductions_read_as_they_were_written() {
        let to = network("xdp:lab-a0@10.0.0.2:9000");
        let requests = [
            Request::Connect { to: to.clone(), private: b"key".to_vec() },
            Request::Listen { at: network("udp:0.0.0.0:9"), name: "a-1".to_owned() },
            Request::Inspect,
        ];
        for request in requests {
            let bytes = request.encode().expect("it fits");
            assert_eq!(Request::decode(&bytes), Ok(request));
        }
        for from in ["10.0.0.1:7", "[fd00::1]:65535"] {
            let from = from.parse().expect("an address");
            let introduction = Introduction { from, private: vec![7; 100] };
            let bytes = introduction.encode().expect("it fits");
            assert_eq!(Introduction::decode(&bytes), Ok(introduction));
        }
        let long = Request::Connect { to, private: vec![0; 128] };
        assert_eq!(long.encode(), Err(RequestError::TooLong));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let malformed = Err(RequestError::Malformed);
        for bytes in [
            &b""[..],
            b"\x01\x01",
            b"\x01\x01\x05\x00abc",
            b"\x01\x09\x00\x00",
            b"\x01\x03\x00\x01",
            b"\x01\x03\x00\x00x",
            b"\x01\x01\x05\x00shm:a",
            b"\x01\x01\x0f\x00udp:h:1?via=abc",
            b"\x01\x02\x07\x00udp:h:1a/b",
            b"\x01\x01\x02\x00\xff\xff",
        ] {
            assert_eq!(Request::decode(bytes), malformed, "{bytes:?}");
        }
        assert_eq!(Request::decode(&[2, 3, 0, 0]), Err(RequestError::Version(2)));
        assert_eq!(Introduction::decode(&[1, 16, 5, 0, 0, 0]), Err(RequestError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..140)) {
            let _ = Request::decode(&bytes);
            let _ = Introduction::decode(&bytes);
        }
    }
}
