//! The names of devices in the abstract namespace.

use std::io::Write;
use std::net::SocketAddr;

use rustix::net::SocketAddrUnix;
use unet::device::OpenError;

const PREFIX: &str = "unet-sim/";
/// The longest name of a network: with the longest address behind it, it fits into a socket's name.
const LONGEST: usize = 32;

/// The name of an address.
pub(super) fn of(network: &str, address: SocketAddr) -> Result<SocketAddrUnix, OpenError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let bad = OpenError::BadValue("a network's name of 1 to 32 letters, digits and -_. characters");
    if network.is_empty() || network.len() > LONGEST || !network.chars().all(allowed) {
        return Err(bad);
    }
    let name = format!("{PREFIX}{network}/{address}");
    SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(|_| bad)
}

/// The address that a name is of; `None` if it is none of this network's, written as [`of`] writes it.
pub(super) fn address(network: &str, name: &SocketAddrUnix) -> Option<SocketAddr> {
    let text = std::str::from_utf8(name.abstract_name()?).ok()?;
    let text = text.strip_prefix(PREFIX)?.strip_prefix(network)?.strip_prefix('/')?;
    let address: SocketAddr = text.parse().ok()?;
    // Written to the stack: this is done for every datagram.
    let mut written = [0; 64];
    let mut rest = &mut written[..];
    write!(rest, "{address}").ok()?;
    let left = rest.len();
    let same = written[..written.len() - left] == *text.as_bytes();
    (same && address.port() != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_the_address_it_was_made_of() {
        for text in ["10.0.0.1:1", "[fd00::1]:65535", "[fe80::1%4294967295]:9000"] {
            let at: SocketAddr = text.parse().expect("it is one");
            let name = of(&"n".repeat(LONGEST), at).expect("it fits");
            assert_eq!(address(&"n".repeat(LONGEST), &name), Some(at));
            assert_eq!(address("n", &name), None);
        }
    }

    #[test]
    fn what_is_no_device_of_the_network_has_no_address() {
        for text in
            ["unet-sim/n/10.0.0.1:0", "unet-sim/n/10.0.0.01:1", "unet-sim/m/10.0.0.1:1", "x"]
        {
            let name = SocketAddrUnix::new_abstract_name(text.as_bytes()).expect("it fits");
            assert_eq!(address("n", &name), None, "{text}");
        }
        assert!(of("", "10.0.0.1:1".parse().expect("it is one")).is_err());
        assert!(of("a/b", "10.0.0.1:1".parse().expect("it is one")).is_err());
    }
}
