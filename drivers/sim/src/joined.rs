//! What devices of frames and of datagrams on a network have in common.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use fbufs::{Fbuf, FbufMut};
use unet::device::{Count, DeviceError, OpenError, Piece, Statistics};

use crate::Network;
use crate::network::{Name, PortId};
use crate::stock::{DeviceOptions, Stock, count, first_packet};
use crate::wake::Wake;

/// A device's place in a network, and its buffers.
pub(crate) struct Joined {
    network: Network,
    pub id: PortId,
    pub stock: Stock,
    pub options: DeviceOptions,
    /// The network's, as it was when last asked.
    pub mtu: usize,
    said: Statistics,
    wake: Arc<Wake>,
}

/// One packet of a burst to be sent: what is to be known before its bytes are taken.
pub(crate) struct Leaving {
    /// Where to; nowhere, where the destination is none.
    pub to: Option<Name>,
    /// The bytes that the MTU does not count.
    pub header: usize,
}

impl Joined {
    pub fn new(network: &Network, name: Name, options: DeviceOptions) -> Result<Self, OpenError> {
        let mut stock = Stock::new(&options)?;
        let wake =
            Wake::new().map_err(|errno| OpenError::Kernel { step: "make a timer", errno })?;
        let wake = Arc::new(wake);
        let ready = stock.refill();
        let mut state = network.state();
        let id = state.join(name, &options, ready, wake.clone())?;
        let mtu = state.mtu.min(options.mtu);
        drop(state);
        let (network, said) = (network.clone(), Statistics::default());
        Ok(Self { network, id, stock, options, mtu, said, wake })
    }

    pub fn statistics(&self) -> Statistics {
        let mut said = self.said;
        if let Some(port) = self.network.state().port(self.id) {
            said += port.dropped;
        }
        said
    }

    pub fn arm(&mut self) -> Result<bool, DeviceError> {
        let ready = self.stock.refill();
        let mut state = self.network.state();
        if let Some(port) = state.port(self.id) {
            port.set_stock(ready);
        }
        state.arm(self.id)
    }

    pub fn maintain(&mut self) -> Result<(), DeviceError> {
        let ready = self.stock.refill();
        let mut state = self.network.state();
        state.pump();
        self.mtu = state.mtu.min(self.options.mtu);
        let port = state.usable(self.id)?;
        port.set_stock(ready);
        Ok(())
    }

    /// Transmits packets from the front of `queue`, as long as there is room.
    pub fn transmit<P>(
        &mut self,
        queue: &mut VecDeque<P>,
        look: impl Fn(&P) -> &Piece<Fbuf>,
        strip: impl Fn(P) -> Fbuf,
        leaving: impl Fn(&P) -> Leaving,
    ) -> Result<(), DeviceError> {
        let ready = self.stock.refill();
        let mut state = self.network.state();
        state.pump();
        state.usable(self.id)?.set_stock(ready);
        while let Some(pieces) = first_packet(queue, |piece| look(piece).more) {
            let Some(Leaving { to, header }) = queue.front().map(&leaving) else { break };
            let lengths = header..=self.mtu.saturating_add(header);
            let packet = queue.iter().take(pieces).map(|piece| &look(piece).bytes);
            let refusal = self.stock.refusal(packet, self.options.pieces, lengths);
            let refusal = refusal.or(to.is_none().then_some(Count::Unresolved));
            let (Some(to), None) = (to, refusal) else {
                self.said.add(refusal.unwrap_or(Count::Unresolved), 1);
                queue.drain(..pieces).for_each(|piece| self.stock.pool.recycle(strip(piece)));
                continue;
            };
            let port = state.usable(self.id)?;
            if !port.has_room() {
                port.wants_to_send = true;
                break;
            }
            let mut bytes = state.take_spare();
            self.stock.take(queue.drain(..pieces).map(&strip), &mut bytes);
            count(&mut self.said, Count::Sent, Count::SentBytes, bytes.len());
            state.carry(self.id, to, bytes.len() - header, bytes);
            state.pump();
        }
        Ok(())
    }

    /// Receives a burst.
    pub fn receive(
        &mut self,
        mut hand: impl FnMut(Name, Piece<FbufMut>),
    ) -> Result<(), DeviceError> {
        let mut state = self.network.state();
        state.pump();
        let up = state.usable(self.id).map(|_| ());
        let Some(port) = state.port(self.id) else { return up };
        port.disarm();
        let mut received = 0;
        while received < self.options.burst
            && let Some(port) = state.port(self.id)
            && let Some(arrived) = port.queue.pop_front()
        {
            let from = arrived.from;
            if self.stock.land(&arrived.bytes, |piece| hand(from, piece)) {
                let len = arrived.bytes.len();
                count(&mut self.said, Count::Received, Count::ReceivedBytes, len);
            } else {
                self.said.add(Count::NoBuffer, 1);
            }
            state.put_spare(arrived.bytes);
            received += 1;
        }
        let ready = self.stock.refill();
        if let Some(port) = state.port(self.id) {
            port.set_stock(ready);
        }
        if received > 0 { Ok(()) } else { up }
    }
}

impl AsFd for Joined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.network.state().remove(self.id);
    }
}
