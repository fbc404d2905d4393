//! A device that keeps what is sent, and receives what it is told to.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use unet::device::{
    Capabilities, Count, Device, DeviceError, Frames, Kick, Mode, Piece, Statistics,
};
use unet::{Class, Fbuf, FbufMut, Pool, PoolOptions};

/// Its Ethernet address.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Bytes of its buffers.
pub const BUFFER: usize = 2048;
/// How many there are.
pub const BUFFERS: usize = 64;

/// The device.
pub struct Wire {
    pool: Pool,
    fd: File,
    /// What it says of itself.
    pub capabilities: Capabilities,
    /// How many frames it takes before it is full.
    pub room: usize,
    /// What it answers.
    pub state: Result<(), DeviceError>,
    /// What was sent, frame by frame and piece by piece.
    pub sent: Vec<Vec<Vec<u8>>>,
    /// What will be received.
    pub arriving: VecDeque<Vec<Vec<u8>>>,
    /// Its address.
    pub mac: [u8; 6],
    statistics: Statistics,
}

impl Default for Wire {
    fn default() -> Self {
        let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
        options.classes[0] = Class { buffer_bytes: BUFFER as u32, buffers: BUFFERS as u32 };
        let capabilities = Capabilities {
            mode: Mode::Simulated,
            mtu: 1500,
            headroom: 0,
            piece_bytes: BUFFER,
            pieces: 1,
            burst: 32,
            stock: 0,
        };
        Self {
            pool: Pool::new(options).expect("memory is left"),
            fd: File::open("/dev/null").expect("it is there"),
            capabilities,
            room: usize::MAX,
            state: Ok(()),
            sent: Vec::new(),
            arriving: VecDeque::new(),
            mac: MAC,
            statistics: Statistics::default(),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device for Wire {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn statistics(&mut self) -> Statistics {
        self.statistics
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(self.arriving.is_empty())
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.state
    }
}

impl Frames for Wire {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        self.state?;
        while self.room > 0 && !frames.is_empty() {
            self.room -= 1;
            let mut pieces = Vec::new();
            while let Some(piece) = frames.pop_front() {
                self.statistics.add(Count::SentBytes, piece.bytes.len() as u64);
                pieces.push(piece.bytes.to_vec());
                if !piece.more {
                    break;
                }
            }
            self.statistics.add(Count::Sent, 1);
            self.sent.push(pieces);
        }
        Ok(())
    }

    fn transmit_one(&mut self, frame: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        if kick == Kick::Later || self.state.is_err() || self.room == 0 {
            return Err(frame);
        }
        let mut queue = VecDeque::from([Piece::whole(frame)]);
        self.transmit(&mut queue).expect("it is up");
        Ok(())
    }

    fn receive_one(&mut self) -> Option<FbufMut> {
        self.arriving.front().filter(|pieces| pieces.len() == 1)?;
        let burst = std::mem::replace(&mut self.capabilities.burst, 1);
        let mut one = Vec::new();
        let _ = self.receive(&mut one);
        self.capabilities.burst = burst;
        one.pop().map(|piece| piece.bytes)
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        for _ in 0..self.capabilities.burst {
            let Some(pieces) = self.arriving.pop_front() else { break };
            let last = pieces.len() - 1;
            for (number, bytes) in pieces.iter().enumerate() {
                // Some drivers leave room in front, so that places in the buffer and in the frame differ.
                let mut fbuf =
                    self.pool.alloc_with_headroom(16, bytes.len()).expect("a buffer is free");
                fbuf.copy_from_slice(bytes);
                into.push(Piece { bytes: fbuf, more: number < last });
            }
            self.statistics.add(Count::Received, 1);
        }
        self.state
    }
}
