//! The traits of a device.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use fbufs::{Fbuf, FbufMut, Pool};
use io_uring::opcode;
use io_uring::types::Fd;
use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Kick, Outgoing, Received, Statistics,
};

use super::{ROOM, Uring};
use crate::calls::BURST;
use crate::favoured::Side;

impl AsFd for Uring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Device for Uring {
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
        self.ready()?;
        if let Some(side) = self.port.blocked
            && !self.watching
        {
            let fd = Fd(self.port.at(side).as_raw_fd());
            let room = opcode::PollAdd::new(fd, libc::POLLOUT as u32).build().user_data(ROOM);
            if self.push(&room) {
                self.watching = true;
                self.submit()?;
            }
        }
        // Work that the kernel holds back is done before this thread sleeps, here or in the call that
        // waits. That there is some is no reason not to: a thread that ended may have left the mark.
        self.look()?;
        // Without a buffer, nothing would be posted.
        Ok(self.is_ready() && self.arrived.is_empty())
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        // While all that has come was received, in order, by this thread.
        if self.is_ready() {
            self.port.favour();
            self.leave_out_name()?;
            if self.port.has_last() {
                // Nothing comes there any more. It is closed when this has ended.
                self.cancel(Side::Favoured)?;
                self.reap();
            }
            self.ready()?;
        }
        self.port.maintain(self.capabilities.mtu)
    }
}

impl Datagrams for Uring {
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
        if self.sends.has_unanswered() {
            // In order: a datagram that the kernel has put off goes first.
            self.submit()?;
            self.reap();
            if self.sends.has_unanswered() {
                self.port.blocked = Some(Side::Open);
                return Ok(());
            }
        }
        if datagrams.len() == 1 && !self.zero_copy {
            self.port.send_first(datagrams);
            return Ok(());
        }
        // Each turn takes one out of the queue, or is the last.
        while !datagrams.is_empty() && self.send_many(datagrams)? {}
        Ok(())
    }

    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        if kick == Kick::Later || self.zero_copy || self.sends.has_unanswered() {
            return Err(payload);
        }
        self.port.send_one(to, payload)
    }

    #[inline]
    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        if self.arrived.is_empty()
            && let Err(error) = self.look()
        {
            self.failure = self.failure.or(Some(error));
        }
        let Received { from, piece } = self.arrived.pop_front()?;
        if self.provided.held() < self.capabilities.stock / 2 {
            self.restock();
        }
        Some((from, piece.bytes))
    }

    #[inline]
    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        if self.arrived.is_empty() {
            self.look()?;
        }
        self.ready()?;
        if self.arrived.is_empty() {
            // Nothing is waiting for this.
            if self.provided.held() < self.capabilities.stock {
                self.restock();
            }
            return self.take_failure();
        }
        let count = self.arrived.len().min(BURST);
        into.extend(self.arrived.drain(..count));
        if self.provided.held() < self.capabilities.stock / 2 {
            self.restock();
        }
        Ok(())
    }
}
