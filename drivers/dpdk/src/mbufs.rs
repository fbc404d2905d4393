//! Mempools of mbufs whose bytes are elsewhere: in the memory of a device's pool.
//!
//! # Invariants
//!
//! 1. An mbuf of [`Mbufs`] is in its mempool, where DPDK may take it; in DPDK's hands; or out, in the device's. Only
//!    one that is out is written here.
//! 2. The mempool is freed only when no mbuf of it is in DPDK's hands: else it is leaked, with what the mbufs say.

use std::ffi::CString;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys as sys;
use fbufs::RegisteredMemory;

use crate::device::BURST;
use crate::eal;
use crate::error::Error;

/// An mbuf that is out.
pub(crate) type Mbuf = *mut sys::rte_mbuf;

/// How many mempools there were: each has a name of its own.
static NAMES: AtomicU64 = AtomicU64::new(0);

/// A mempool, and its mbufs by number.
pub(crate) struct Mbufs {
    mempool: *mut sys::rte_mempool,
    /// What each mbuf says of its bytes: by its place here, an mbuf has a number.
    infos: *mut sys::rte_mbuf_ext_shared_info,
    all: Box<[Mbuf]>,
    base: usize,
    buffer_bytes: usize,
}

impl Mbufs {
    /// Makes `count` of them over a memory, number by number; all are out. `shared` says whether other threads than the
    /// port's give them back.
    pub fn new(
        count: usize,
        memory: &RegisteredMemory,
        socket: i32,
        shared: bool,
    ) -> Result<Self, Error> {
        let name = format!("unet-{}", NAMES.fetch_add(1, Ordering::Relaxed));
        let name = CString::new(name).unwrap_or_default();
        let room = u16::try_from(memory.buffer_bytes)
            .map_err(|_| Error::Unsupported("its buffers are larger than 65,535 bytes"))?;
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        // SAFETY: the name lives for the call, which copies it.
        let mempool =
            unsafe { sys::unet_mempool(name.as_ptr(), wanted, room, socket, shared.into()) };
        if mempool.is_null() {
            return Err(Error::Memory(eal::said()));
        }
        let mut all = vec![ptr::null_mut(); count].into_boxed_slice();
        // SAFETY: there is room for `wanted`; what is taken is out (invariant 1).
        let taken = unsafe { sys::unet_take(mempool, all.as_mut_ptr(), wanted) };
        let infos = vec![sys::rte_mbuf_ext_shared_info::default(); count].into_boxed_slice();
        let infos = Box::into_raw(infos).cast();
        let it =
            Self { mempool, infos, all, base: memory.address, buffer_bytes: memory.buffer_bytes };
        if taken != wanted {
            it.free(taken as usize);
            return Err(Error::Memory(eal::said()));
        }
        for number in 0..count {
            it.point(number, number % memory.buffers);
        }
        Ok(it)
    }

    fn buffer(&self, buffer: usize) -> *mut std::ffi::c_void {
        (self.base + buffer * self.buffer_bytes) as *mut _
    }

    /// Points an mbuf that is out at a buffer.
    fn point(&self, number: usize, buffer: usize) {
        let bytes = self.buffer(buffer);
        let info = self.infos.wrapping_add(number);
        // SAFETY: invariant 1. The info is this mbuf's alone, and lives as long as the mbuf (invariant 2).
        unsafe { sys::unet_point(self.all[number], bytes, self.buffer_bytes as u16, info) };
    }

    /// Makes an mbuf that is out a segment: these bytes of a buffer, which lie in it.
    #[inline(always)]
    pub fn fill(&self, number: usize, buffer: usize, range: Range<usize>) -> Mbuf {
        let (mbuf, bytes) = (self.all[number], self.buffer(buffer));
        // SAFETY: invariant 1.
        unsafe { sys::unet_fill(mbuf, bytes, range.start as u16, range.len() as u16) };
        mbuf
    }

    /// The number of a segment's mbuf, if it is one of these.
    #[inline(always)]
    pub fn number(&self, segment: &sys::unet_segment) -> Option<usize> {
        if segment.mempool != self.mempool {
            return None;
        }
        let number = (segment.info as usize).wrapping_sub(self.infos as usize)
            / size_of::<sys::rte_mbuf_ext_shared_info>();
        (number < self.all.len()).then_some(number)
    }

    /// Puts mbufs that are out into the mempool.
    #[inline(always)]
    pub fn give(&self, numbers: &[u32]) {
        let mut some = [ptr::null_mut(); BURST];
        for numbers in numbers.chunks(BURST) {
            for (mbuf, number) in some.iter_mut().zip(numbers) {
                *mbuf = self.all[*number as usize];
            }
            // SAFETY: invariant 1: they are out, and not any more.
            unsafe { sys::unet_give(self.mempool, some.as_mut_ptr(), numbers.len() as u32) };
        }
    }

    /// Takes mbufs out of the mempool, as many as there are and fit.
    #[inline(always)]
    pub fn take(&self, into: &mut [Mbuf]) -> usize {
        // SAFETY: there is room for as many; what is taken is out (invariant 1).
        unsafe { sys::unet_take(self.mempool, into.as_mut_ptr(), into.len() as u32) as usize }
    }

    /// The mempool, for a port to take from.
    pub fn mempool(&self) -> *mut sys::rte_mempool {
        self.mempool
    }

    /// Frees the mempool, of which `out` mbufs are out. Whether none was in DPDK's hands; else it stays.
    pub fn free(self, mut out: usize) -> bool {
        let mut some = [ptr::null_mut(); BURST];
        loop {
            match self.take(&mut some) {
                0 => break,
                taken => out += taken,
            }
        }
        let is_whole = out == self.all.len();
        if is_whole {
            // SAFETY: invariant 2.
            unsafe { sys::rte_mempool_free(self.mempool) };
            let infos = ptr::slice_from_raw_parts_mut(self.infos, self.all.len());
            // SAFETY: `new` made it, and no mbuf that points there is left.
            drop(unsafe { Box::from_raw(infos) });
        }
        is_whole
    }
}
