//! A frame of UDP over IPv4, put together once.

use std::net::Ipv4Addr;

/// Ethernet's, IPv4's and UDP's headers.
pub const HEADERS: usize = ETHERNET + IP + UDP;
/// What fits behind them into a packet of 1500 bytes.
pub const MAX_PAYLOAD: usize = 1500 - IP - UDP;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;

/// From where to where frames go.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// This end's Ethernet address.
    pub from: [u8; 6],
    /// The next hop's.
    pub to: [u8; 6],
    /// This end's address.
    pub source: Ipv4Addr,
    /// The other end's.
    pub destination: Ipv4Addr,
    /// The port of both.
    pub port: u16,
}

impl Ends {
    /// The frame of a datagram of so many bytes, with IP's checksum and none of UDP.
    pub fn frame(&self, payload: usize) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADERS + payload);
        frame.extend_from_slice(&self.to);
        frame.extend_from_slice(&self.from);
        frame.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
        frame.extend_from_slice(&((IP + UDP + payload) as u16).to_be_bytes());
        // Not to be cut into fragments; 64 hops; UDP; the checksum comes last.
        frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend_from_slice(&self.source.octets());
        frame.extend_from_slice(&self.destination.octets());
        let sum = checksum(&frame[ETHERNET..]);
        frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.extend_from_slice(&((UDP + payload) as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.resize(HEADERS + payload, 1);
        frame
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16 + (sum >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_its_headers_say_and_its_sum_is_right() {
        let ends = Ends {
            from: [2, 0, 0, 0, 0, 1],
            to: [2, 0, 0, 0, 0, 2],
            source: [10, 77, 0, 1].into(),
            destination: [10, 77, 0, 2].into(),
            port: 9000,
        };
        let frame = ends.frame(64);
        assert_eq!(frame.len(), 42 + 64);
        assert_eq!(frame[16..18], 92_u16.to_be_bytes());
        assert_eq!(frame[38..40], 72_u16.to_be_bytes());
        // With its sum in it, a header sums up to nothing.
        assert_eq!(checksum(&frame[14..34]), 0);
    }
}
