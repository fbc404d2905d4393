//! The pool's memory, as DPDK knows it.

use std::sync::atomic::{AtomicUsize, Ordering};

use dpdk_sys as sys;
use fbufs::RegisteredMemory;

use crate::eal;
use crate::error::Error;
use crate::port::step;

const PAGE: usize = 4096;

/// How many memories DPDK knows that are not of its own making.
static KNOWN: AtomicUsize = AtomicUsize::new(0);

/// A memory that may be known to DPDK; it is forgotten again when this is dropped.
pub(crate) struct Registered {
    memory: RegisteredMemory,
    is_known: bool,
}

impl Registered {
    /// How many are known, of all ports.
    pub fn all() -> usize {
        KNOWN.load(Ordering::Relaxed)
    }

    /// Not known yet.
    pub fn new(memory: RegisteredMemory) -> Self {
        Self { memory, is_known: false }
    }

    pub fn register(&mut self) -> Result<(), Error> {
        let len = self.memory.buffers * self.memory.buffer_bytes;
        let (pages, page) = (len / PAGE, PAGE);
        // SAFETY: the memory is there as long as this is: its owner drops this first.
        let done = unsafe {
            let address = self.memory.address as *mut _;
            sys::rte_extmem_register(address, len, std::ptr::null_mut(), pages as u32, page)
        };
        if done < 0 {
            return Err(step("register the buffers", eal::errno()));
        }
        self.is_known = true;
        KNOWN.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub fn forget(&mut self) {
        if std::mem::take(&mut self.is_known) {
            KNOWN.fetch_sub(1, Ordering::Relaxed);
            let len = self.memory.buffers * self.memory.buffer_bytes;
            // SAFETY: it was registered, and no port is left that uses it.
            unsafe { sys::rte_extmem_unregister(self.memory.address as *mut _, len) };
        }
    }

    pub fn memory(&self) -> &RegisteredMemory {
        &self.memory
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.forget();
    }
}
