//! A device of either path, by value.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Kick, Outgoing, Received, Statistics,
};
use unet::{Fbuf, FbufMut, Pool};

pub struct Boxed(pub Box<dyn Datagrams>);

impl AsFd for Boxed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device for Boxed {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn statistics(&mut self) -> Statistics {
        self.0.statistics()
    }

    fn pool(&mut self) -> &mut Pool {
        self.0.pool()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        self.0.arm()
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.0.maintain()
    }
}

impl Datagrams for Boxed {
    fn local(&self) -> SocketAddr {
        self.0.local()
    }

    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError> {
        self.0.open(to)
    }

    fn close(&mut self, destination: Destination) {
        self.0.close(destination);
    }

    fn max_payload(&self, destination: Destination) -> usize {
        self.0.max_payload(destination)
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        self.0.transmit(datagrams)
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        self.0.receive(into)
    }

    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        self.0.transmit_one(to, payload, kick)
    }

    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        self.0.receive_one()
    }
}
