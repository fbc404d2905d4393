//! A device of either path, by value.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Kick, Outgoing, Received, Statistics,
};
use unet::{Fbuf, FbufMut, Pool};

pub struct Boxed {
    pub device: Box<dyn Datagrams>,
    /// It is attended to whenever its destinations change, so that the only one has its own socket at once.
    pub attended: bool,
}

impl Boxed {
    fn attend(&mut self) {
        if self.attended {
            _ = self.device.maintain();
        }
    }
}

impl AsFd for Boxed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Device for Boxed {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn statistics(&mut self) -> Statistics {
        self.device.statistics()
    }

    fn pool(&mut self) -> &mut Pool {
        self.device.pool()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.device.arm()
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.device.maintain()
    }
}

impl Datagrams for Boxed {
    fn local(&self) -> SocketAddr {
        self.device.local()
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        let opened = self.device.open(to);
        self.attend();
        opened
    }

    fn close(&mut self, destination: Destination) {
        self.device.close(destination);
        self.attend();
    }

    fn max_payload(&self, destination: Destination) -> usize {
        self.device.max_payload(destination)
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        self.device.transmit(datagrams)
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        self.device.receive(into)
    }

    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        self.device.transmit_one(to, payload, kick)
    }

    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        self.device.receive_one()
    }
}
