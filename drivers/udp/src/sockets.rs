//! The path by plain sockets.
//!
//! One datagram is one system call each way, straight into and out of the pool's buffers; where the last
//! looks all found one, the next look asks for a burst. Without a free buffer nothing is read: what
//! arrives stays in the socket's queue, and when that is full the kernel drops it and counts.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use fbufs::{Fbuf, FbufMut, Pool};
use rustix::io::Errno;
use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Kick, Mode, OpenError, Outgoing,
    Received, Statistics, Waiting,
};

use crate::calls::{self, Arrival, BURST};
use crate::favoured::Side;
use crate::name::Name;
use crate::port::Port;

/// A device over a plain non-blocking socket.
pub(crate) struct Sockets {
    port: Port,
    waiting: Waiting,
    /// For the favoured socket.
    waiting_favoured: Waiting,
    /// Buffers to receive into, each as its whole: `capabilities.stock` of them, or what there was.
    stock: Vec<FbufMut>,
    /// Looks in a row that found something, of either socket: from two on, more is likely to be there.
    found: [u8; 2],
    /// What the last look for one said, in vain, until it is told.
    looked: Option<Result<(), DeviceError>>,
    capabilities: Capabilities,
}

impl Sockets {
    pub fn new(port: Port) -> Result<Self, OpenError> {
        let waiting = Waiting::new()?;
        let most = BURST.min(port.pool.total() / 2);
        let capabilities = port.capabilities(Mode::Sockets, 0, most);
        let mut device = Self {
            port,
            waiting_favoured: waiting.another()?,
            waiting,
            stock: Vec::with_capacity(most),
            found: [0; 2],
            looked: None,
            capabilities,
        };
        device.restock();
        Ok(device)
    }

    fn restock(&mut self) {
        while self.stock.len() < self.capabilities.stock {
            let Some(buffer) = self.port.free_buffer() else { break };
            self.stock.push(buffer);
        }
    }

    /// Waits for either socket.
    fn wait(&mut self) -> Result<(), DeviceError> {
        let (port, room) = (&self.port, |side| self.port.blocked == Some(side));
        self.waiting.arm(&port.socket, room(Side::Open))?;
        match &port.favoured {
            Some(favoured) => self.waiting_favoured.arm(&favoured.socket, room(Side::Favoured)),
            None => Ok(()),
        }
    }

    /// Waits no more. Whether something may have come to either socket.
    #[inline(always)]
    fn wait_no_more(&mut self) -> bool {
        self.waiting.disarm(&self.port.socket);
        let was_armed = self.waiting_favoured.is_armed();
        self.waiting_favoured.disarm(self.port.at(Side::Favoured));
        was_armed
    }

    /// Receives one datagram. What was longer than a buffer is dropped, and the next one tried.
    #[inline(always)]
    fn receive_next(&mut self, side: Side) -> Result<Option<Received>, DeviceError> {
        for _ in 0..BURST {
            let Some(buffer) = self.stock.last_mut() else { break };
            let mut from = Name::EMPTY;
            match calls::receive(self.port.at(side), buffer, &mut from) {
                Ok(len) => {
                    self.port.looked(side, 1);
                    let buffer = self.stock.pop();
                    let received = buffer.and_then(|it| self.port.hand_over(it, 0..len, &from));
                    if received.is_some() {
                        self.found[side as usize] = self.found[side as usize].saturating_add(1);
                        return Ok(received);
                    }
                }
                Err(Errno::AGAIN) => {
                    self.found[side as usize] = 0;
                    self.port.looked(side, 0);
                    // Nothing is waiting for this.
                    if self.stock.len() < self.capabilities.stock {
                        self.restock();
                    }
                    break;
                }
                Err(errno) => {
                    self.port.looked(side, 1);
                    self.port.receive_failed(errno)?;
                }
            }
        }
        Ok(None)
    }

    /// Receives several in one call.
    fn receive_many(&mut self, side: Side, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        let mut arrivals: [Arrival; BURST] = [(Name::EMPTY, 0); BURST];
        let first = self.stock.len().saturating_sub(BURST);
        let got = calls::receive_many(self.port.at(side), &mut self.stock[first..], &mut arrivals);
        let got = match got {
            Ok(got) => got,
            Err(errno) => {
                self.found[side as usize] = 0;
                self.port.looked(side, usize::from(errno != Errno::AGAIN));
                return self.port.receive_failed(errno);
            }
        };
        if got < 2 {
            self.found[side as usize] = 0;
        }
        self.port.looked(side, got);
        let buffers = self.stock.drain(first..first + got);
        for (buffer, (from, len)) in buffers.zip(&arrivals) {
            if let Some(received) = self.port.hand_over(buffer, 0..*len, from) {
                into.push(received);
            }
        }
        Ok(())
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}

impl Device for Sockets {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn statistics(&mut self) -> Statistics {
        self.port.statistics()
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.port.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.restock();
        self.looked = self.looked.filter(Result::is_err);
        if self.stock.is_empty() {
            // The descriptor would be readable for what cannot be read.
            return Ok(false);
        }
        self.wait()?;
        Ok(true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.port.favour();
        if self.waiting.is_armed() {
            self.wait()?;
        }
        self.port.maintain(self.capabilities.mtu)
    }
}

impl Datagrams for Sockets {
    fn local(&self) -> SocketAddr {
        self.port.local
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        self.port.open_destination(to, self.capabilities.mtu)
    }

    fn close(&mut self, destination: Destination) {
        self.port.close_destination(destination);
    }

    fn max_payload(&self, destination: Destination) -> usize {
        self.port.max_payload(destination)
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        if datagrams.len() == 1 {
            self.port.send_first(datagrams);
            return Ok(());
        }
        // Each turn takes one out of the queue, or is the last.
        while !datagrams.is_empty() && self.port.send_many(datagrams) {}
        Ok(())
    }

    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        match kick {
            Kick::Now => self.port.send_one(to, payload),
            // One system call sends many that wait.
            Kick::Later => Err(payload),
        }
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        let is_woken = self.wait_no_more();
        if let Some(vain) = self.looked.take() {
            return vain;
        }
        let side = self.port.next_side();
        if self.found[side as usize] >= 2 {
            self.restock();
            if self.stock.len() > 1 {
                return self.receive_many(side, into);
            }
        } else if self.stock.is_empty() {
            self.restock();
        }
        let mut received = self.receive_next(side)?;
        if is_woken && received.is_none() {
            received = self.receive_next(side.other())?;
        }
        into.extend(received);
        Ok(())
    }

    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        let side = self.port.next_side();
        let has_failed = matches!(self.looked, Some(Err(_)));
        if has_failed
            || self.waiting.is_armed()
            || self.found[side as usize] >= 2
            || self.stock.is_empty()
        {
            return None;
        }
        match self.receive_next(side) {
            Ok(Some(received)) => {
                // What an earlier look said is over.
                self.looked = None;
                Some((received.from, received.piece.bytes))
            }
            vain => {
                // Told to who asks for a burst now, instead of another look.
                self.looked = Some(vain.map(drop));
                None
            }
        }
    }
}
