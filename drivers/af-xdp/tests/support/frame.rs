//! Ethernet frames with UDP in them, put together by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a frame is made of.
#[derive(Clone, Copy, Debug)]
pub struct Udp4 {
    pub to: [u8; 6],
    pub from: [u8; 6],
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub port: u16,
}

impl Udp4 {
    pub fn between(from: [u8; 6], to: [u8; 6], port: u16) -> Self {
        let (source, destination) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
        Self { to, from, source, destination, port }
    }

    /// The frame, with a valid IP checksum and none of UDP.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        self.with_options(0, payload)
    }

    /// With so many words of IP options.
    pub fn with_options(&self, words: usize, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.ethernet(0x0800);
        let header = 20 + 4 * words;
        let udp = 8 + payload.len();
        let at = frame.len();
        frame.extend_from_slice(&[0x40 | (header / 4) as u8, 0]);
        frame.extend_from_slice(&((header + udp) as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend_from_slice(&self.source.octets());
        frame.extend_from_slice(&self.destination.octets());
        frame.extend(std::iter::repeat_n(1u8, 4 * words));
        let sum = checksum(&frame[at..at + header]);
        frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        self.udp(&mut frame, payload);
        frame
    }

    /// In IPv6.
    pub fn frame6(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.ethernet(0x86dd);
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        frame.extend_from_slice(&[17, 64]);
        frame.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        frame.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        self.udp(&mut frame, payload);
        frame
    }

    fn ethernet(&self, kind: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend_from_slice(&self.to);
        frame.extend_from_slice(&self.from);
        frame.extend_from_slice(&kind.to_be_bytes());
        frame
    }

    fn udp(&self, frame: &mut Vec<u8>, payload: &[u8]) {
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.extend_from_slice(&self.port.to_be_bytes());
        frame.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(payload);
    }
}

fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16 + (sum >> 16) as u16)
}
