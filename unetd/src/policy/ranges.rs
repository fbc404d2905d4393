//! Ports, and prefixes of addresses with ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Ports, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(Vec<RangeInclusive<u16>>);

impl Ports {
    /// Reads `9000`, `9000-9010` or `*`, and adds it. Port 0 is none.
    pub fn add(&mut self, text: &str) -> Option<()> {
        self.0.push(range(text)?);
        Some(())
    }

    pub fn covers(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    if text == "*" {
        return Some(1..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (*range.start() > 0 && !range.is_empty()).then_some(range)
}

/// A prefix of addresses, and ports there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    prefix: IpAddr,
    bits: u32,
    ports: RangeInclusive<u16>,
}

impl Remote {
    /// Reads `10.0.0.0/24:9000`, `10.0.0.1:*` or `[fd00::]/64:9000-9010`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, ports) = text.rsplit_once(':')?;
        let (address, bits) = match address.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (address, None),
        };
        let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let prefix: IpAddr = inner.unwrap_or(address).parse().ok()?;
        if prefix.is_ipv6() != inner.is_some() {
            return None;
        }
        let most = if prefix.is_ipv6() { 128 } else { 32 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(())?;
        let remote = Self { prefix, bits, ports: range(ports)? };
        // A prefix with bits behind its end is a slip of the pen: which of both was meant?
        let host_bits = number(prefix) & !mask(bits, most);
        (host_bits == 0).then_some(remote)
    }

    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        // What is an IPv4 address on the wire is judged as one, however it is written.
        let address = address.to_canonical();
        let most = if self.prefix.is_ipv6() { 128 } else { 32 };
        let mask = mask(self.bits, most);
        address.is_ipv6() == self.prefix.is_ipv6()
            && number(address) & mask == number(self.prefix) & mask
            && self.ports.contains(&port)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The upper `bits` of `most`.
fn mask(bits: u32, most: u32) -> u128 {
    let all = u128::MAX >> (128 - most);
    all & !all.checked_shr(bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(remote: &str, address: &str, port: u16) -> bool {
        let address = address.parse().expect("an address");
        Remote::parse(remote).expect(remote).covers(address, port)
    }

    #[test]
    fn prefixes_cover_what_is_in_them_and_no_more() {
        assert!(covers("10.0.0.0/24:9000", "10.0.0.255", 9000));
        assert!(!covers("10.0.0.0/24:9000", "10.0.1.0", 9000));
        assert!(!covers("10.0.0.0/24:9000", "10.0.0.1", 9001));
        assert!(covers("10.0.0.1:*", "10.0.0.1", 1));
        assert!(!covers("10.0.0.1:*", "10.0.0.2", 1));
        assert!(covers("0.0.0.0/0:1-2", "255.1.2.3", 2));
        assert!(!covers("0.0.0.0/0:1-2", "::1", 2));
        assert!(covers("[fd00::]/64:9", "fd00::ffff", 9));
        assert!(!covers("[fd00::]/64:9", "fd00:0:0:1::", 9));
        assert!(covers("[::]/0:9", "::1", 9));
        assert!(covers("10.0.0.1:9", "::ffff:10.0.0.1", 9));
        assert!(!covers("[::]/0:9", "::ffff:10.0.0.1", 9));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "10.0.0.1",
            "10.0.0.1/24:9",
            "10.0.0.0/33:9",
            "fd00::/64:9",
            "[10.0.0.0]/8:9",
            "host:9",
            "10.0.0.0/8:0",
            "10.0.0.0/8:9-8",
            "10.0.0.0/8:",
            ":9",
            "[fd00::]/129:9",
        ] {
            assert_eq!(Remote::parse(text), None, "{text}");
        }
    }
}
