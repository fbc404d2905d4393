//! Addresses: one grammar for every way to another process.
//!
//! ```text
//! shm:NAME                                a name on this host
//! udp:HOST:PORT                           the kernel's UDP
//! xdp:IFACE[/QUEUE]@[HOST]:PORT           AF_XDP on an interface; /all for every queue
//! sim:NETWORK@HOST:PORT                   the simulator
//! SCHEME:[DEVICE@][HOST]:PORT[?KEY=VALUE[&KEY=VALUE]…]     all but the first
//! ```
//!
//! The option `via=NAME` belongs to no driver: the agent of that name is asked for the port or the channel,
//! instead of a device that this process opens.
//!
//! To listen, HOST is a local address, or empty for any of the device's; to connect, it is the other side's.
//! An IPv6 address stands in brackets.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A name on this host, in this network namespace: 1 to 64 letters, digits and `-_.`.
    Shm(String),
    /// A port on a network that a device leads to.
    Network(NetworkAddress),
}

/// A port on a network that a device leads to. Which schemes there are depends on the drivers of the
/// program.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkAddress {
    /// What kind of device: `udp`, `xdp`, `sim` and so on.
    pub scheme: String,
    /// Which one, such as `eth0/1`; empty where there is only one.
    pub device: String,
    /// A name or an address, without brackets; empty for any local one.
    pub host: String,
    /// The UDP port; 0 to listen at any that is free.
    pub port: u16,
    /// What the driver is told beside that, in order.
    pub options: Vec<(String, String)>,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no scheme before a colon.
    #[error("an address begins with a scheme, as in shm:NAME or udp:HOST:PORT")]
    NoScheme,
    /// The scheme is no word of lower-case letters and digits.
    #[error("a scheme consists of lower-case letters and digits, as in shm:NAME or udp:HOST:PORT")]
    InvalidScheme,
    /// The name is empty, too long, or has a character that is not allowed.
    #[error("a name has 1 to 64 letters, digits or -_. characters")]
    InvalidName,
    /// The device is empty before its `@`, too long, or has a character that is not allowed.
    #[error("a device has 1 to 64 letters, digits or -_./: characters before the @")]
    InvalidDevice,
    /// The host is too long or has a character that is not allowed.
    #[error(
        "a host is a name or an address, an IPv6 address in brackets, as in udp:[::1]:9000; it may \
         be empty behind an @"
    )]
    InvalidHost,
    /// There is no port, or it is no number up to 65535.
    #[error("a port is missing at the end, as in udp:HOST:9000")]
    InvalidPort,
    /// An option has no `=`.
    #[error("options are written ?KEY=VALUE&KEY=VALUE")]
    InvalidOption,
}

/// The option that names an agent.
const VIA: &str = "via";

/// The longest scheme, device, host or option.
const LONGEST: usize = 64;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once(':').ok_or(AddressError::NoScheme)?;
        match scheme {
            "shm" if segment::control::is_valid_name(rest) => Ok(Self::Shm(rest.to_owned())),
            "shm" => Err(AddressError::InvalidName),
            _ => NetworkAddress::parse(scheme, rest).map(Self::Network),
        }
    }
}

fn is_word(text: &str, also: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
    (1..=LONGEST).contains(&text.len()) && text.chars().all(allowed)
}

impl NetworkAddress {
    fn parse(scheme: &str, rest: &str) -> Result<Self, AddressError> {
        if !is_word(scheme, "") || scheme.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(AddressError::InvalidScheme);
        }
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (device, at) = match rest.split_once('@') {
            Some((device, at)) if is_word(device, "-_./:,=") => (device, at),
            Some(_) => return Err(AddressError::InvalidDevice),
            None => ("", rest),
        };
        let (host, port) = at.rsplit_once(':').ok_or(AddressError::InvalidPort)?;
        let port = port.parse().map_err(|_| AddressError::InvalidPort)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if is_word(inner, ":.%-_") => inner,
            None if host.is_empty() && !device.is_empty() => host,
            None if is_word(host, "-_.") => host,
            _ => return Err(AddressError::InvalidHost),
        };
        let pair = |option: &str| {
            let (key, value) = option.split_once('=').ok_or(AddressError::InvalidOption)?;
            let fits = is_word(key, "-_") && is_word(value, "-_.,:/");
            fits.then(|| (key.to_owned(), value.to_owned())).ok_or(AddressError::InvalidOption)
        };
        let options = options.split('&').filter(|option| !option.is_empty());
        Ok(Self {
            scheme: scheme.to_owned(),
            device: device.to_owned(),
            host: host.to_owned(),
            port,
            options: options.map(pair).collect::<Result<_, _>>()?,
        })
    }

    /// The name of the agent that is to mediate, if one is (`?via=NAME`).
    pub fn via(&self) -> Option<&str> {
        let mut found = self.options.iter().filter(|(key, _)| key == VIA);
        found.next_back().map(|(_, value)| value.as_str())
    }

    /// The same address, as the agent reads it.
    #[must_use]
    pub fn without_via(&self) -> Self {
        let mut address = self.clone();
        address.options.retain(|(key, _)| key != VIA);
        address
    }

    /// The host's addresses, as the system's resolver has them; for an address, itself.
    ///
    /// # Errors
    /// The resolver's.
    ///
    /// # Cost
    /// Waits for the resolver, if the host is a name.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![canonical((address, self.port).into())]);
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs()?;
        Ok(found.map(canonical).collect())
    }
}

/// An IPv4 address that is written as one of IPv6 is one of IPv4: so its packets say.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shm(name) => write!(f, "shm:{name}"),
            Self::Network(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if !self.device.is_empty() {
            write!(f, "{}@", self.device)?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        for (place, (key, value)) in self.options.iter().enumerate() {
            write!(f, "{}{key}={value}", if place == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_prints() {
        for text in [
            "shm:echo-1",
            "udp:localhost:9000",
            "udp:[fe80::1%eth0]:9000",
            "xdp:eth0/1@10.0.0.2:9000?mode=generic&busy-poll=64",
            "xdp:eth0@:9000",
            "sim:net@[fd00::1]:0",
            "vfio:0000:00:03.0@:9000",
            "udp:10.0.0.2:9000?via=unetd",
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_network_address_is_taken_apart() {
        let address: Address = "xdp:eth0/1@[fd00::2]:7?mode=native".parse().expect("it is valid");
        let Address::Network(address) = address else { panic!("it is a network's") };
        assert_eq!((address.scheme.as_str(), address.device.as_str()), ("xdp", "eth0/1"));
        assert_eq!(address.resolve().expect("it is one"), ["[fd00::2]:7".parse().expect("valid")]);
        assert_eq!(address.options, [("mode".to_owned(), "native".to_owned())]);
    }

    #[test]
    fn an_agent_is_named_by_an_option_that_it_does_not_hear_of() {
        let address: Address =
            "udp:10.0.0.2:9?via=unetd&path=sockets".parse().expect("it is valid");
        let Address::Network(address) = address else { panic!("it is a network's") };
        assert_eq!(address.via(), Some("unetd"));
        assert_eq!(address.without_via().to_string(), "udp:10.0.0.2:9?path=sockets");
        assert_eq!(address.without_via().via(), None);
    }

    #[test]
    fn a_bad_address_says_what_is_wrong() {
        let parse = |text: &str| text.parse::<Address>().unwrap_err();
        assert_eq!(parse("echo"), AddressError::NoScheme);
        assert_eq!(parse("Udp:localhost:1"), AddressError::InvalidScheme);
        assert_eq!(parse(":localhost:1"), AddressError::InvalidScheme);
        assert_eq!(parse("shm:a/b"), AddressError::InvalidName);
        assert_eq!(parse("udp:localhost"), AddressError::InvalidPort);
        assert_eq!(parse("udp:localhost:65536"), AddressError::InvalidPort);
        assert_eq!(parse("udp::1"), AddressError::InvalidHost);
        assert_eq!(parse("udp:::1:1"), AddressError::InvalidHost);
        assert_eq!(parse("xdp:@:1"), AddressError::InvalidDevice);
        assert_eq!(parse("udp:localhost:1?fast"), AddressError::InvalidOption);
        assert_eq!(parse(&format!("udp:{}:1", "a".repeat(65))), AddressError::InvalidHost);
    }
}
