//! The way of a frame in: from the port, by an mbuf, to the caller.

use dpdk_sys as sys;
use fbufs::FbufMut;
use unet::device::{Count, Piece};

use crate::device::{BURST, DpdkPort, segment};
use crate::mbufs::Mbuf;

impl DpdkPort {
    /// Hands a received packet on, or drops it. Whether it was handed on.
    pub(crate) fn accept(&mut self, mbuf: Mbuf, into: &mut Vec<Piece<FbufMut>>) -> bool {
        let first = segment(mbuf);
        let tables = self.mbufs.as_ref();
        if first.next.is_null() && tables.is_some_and(|it| it.receive.number(&first).is_some()) {
            return match self.own(&first) {
                Some(fbuf) => {
                    self.counts.add(Count::Received, 1);
                    self.counts.add(Count::ReceivedBytes, u64::from(first.len));
                    into.push(Piece::whole(fbuf));
                    true
                }
                None => false,
            };
        }
        self.accept_chain(mbuf, into)
    }

    /// The buffer of a segment that is one of this device's: its mbuf is out.
    #[inline(always)]
    fn own(&mut self, segment: &sys::unet_segment) -> Option<FbufMut> {
        let base = self.registered.memory().address;
        let address = (segment.bytes as usize).wrapping_sub(base) as u64;
        match self.receiving.take(address, segment.len) {
            Ok(fbuf) => Some(fbuf),
            Err(_) => {
                self.counts.add(Count::Fault, 1);
                None
            }
        }
    }

    /// A packet of several segments, or in memory that is not the pool's, is copied into one buffer.
    #[inline(never)]
    fn accept_chain(&mut self, head: Mbuf, into: &mut Vec<Piece<FbufMut>>) -> bool {
        let room = self.registered.memory().buffer_bytes;
        let mut copy = self.pool.alloc_to_receive(room);
        let (mut len, mut fits) = (0, copy.is_some());
        let mut mbuf = head;
        // So long a chain no port makes.
        for _ in 0..usize::from(u16::MAX) {
            let of = segment(mbuf);
            let end = len + of.len as usize;
            if let Some(copy) = copy.as_mut().filter(|_| end <= room) {
                // SAFETY: DPDK says that so many bytes are there, in this process (device, invariant 4), and nobody writes
                // them until the mbuf is freed.
                let bytes =
                    unsafe { std::slice::from_raw_parts(of.bytes.cast::<u8>(), of.len as usize) };
                copy[len..end].copy_from_slice(bytes);
            } else {
                fits = false;
            }
            len = end;
            if of.next.is_null() {
                break;
            }
            mbuf = of.next;
        }
        // SAFETY: it was received, and nobody else has it. What is of this device goes back to its mempool, from
        // where it is received into again: its token stays.
        unsafe { sys::unet_free(head) };
        let copy =
            copy.filter(|_| fits).and_then(|mut copy| copy.set_range(0..len).then_some(copy));
        match copy {
            Some(copy) => {
                self.counts.add(Count::Received, 1);
                self.counts.add(Count::ReceivedBytes, len as u64);
                self.counts.add(Count::Copied, 1);
                into.push(Piece::whole(copy));
                true
            }
            None => {
                self.counts.add(if len > room { Count::Truncated } else { Count::NoBuffer }, 1);
                false
            }
        }
    }

    /// Receives a burst: how many there are.
    #[inline(always)]
    pub(crate) fn look(&mut self, mbufs: &mut [Mbuf]) -> usize {
        let room = mbufs.len().min(BURST) as u16;
        let count = self.port.burst(|id| {
            // SAFETY: there is room for as many; each is out then, or another pool's, and nobody else's.
            unsafe { sys::unet_receive(id, 0, mbufs.as_mut_ptr(), room) }
        });
        usize::from(count.unwrap_or(0).min(room))
    }
}
