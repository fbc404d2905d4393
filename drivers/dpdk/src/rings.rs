//! Two ports of one process, joined by two rings of DPDK's: what one sends, the other receives.
//!
//! # Invariants
//!
//! 1. The rings are there until both ports are closed: each has a share in them.
//! 2. Both rings may be taken from by several threads: by the port that receives, and by the one that sends, when it
//!    is closed.

use std::ffi::CString;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::{self, said};
use crate::error::Error;

/// The longest name of a pair: DPDK's names are short.
const LONGEST_NAME: usize = 12;

struct Rings([*mut sys::rte_ring; 2]);

// SAFETY: rings are made for several threads (invariant 2).
unsafe impl Send for Rings {}
// SAFETY: as above.
unsafe impl Sync for Rings {}

impl Drop for Rings {
    fn drop(&mut self) {
        for ring in self.0 {
            // SAFETY: no port uses it any more (invariant 1); it does nothing with one that was not made.
            unsafe { sys::rte_ring_free(ring) };
        }
    }
}

/// What one port of a pair has of the rings.
pub(crate) struct End {
    rings: Arc<Rings>,
    /// Which one it sends into.
    sends: usize,
}

/// Makes the rings of a pair, with room for so many packets.
pub(crate) fn pair(name: &str, room: u16) -> Result<[End; 2], Error> {
    if name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::Unsupported("a pair's name has at most 12 letters and digits"));
    }
    let mut rings = Rings([std::ptr::null_mut(); 2]);
    let entries = u32::from(room.max(1)).saturating_add(1).next_power_of_two();
    for (number, ring) in rings.0.iter_mut().enumerate() {
        let name = CString::new(format!("unet-{name}-{number}")).unwrap_or_default();
        // SAFETY: the name lives for the call, which copies it.
        *ring = unsafe { sys::rte_ring_create(name.as_ptr(), entries, -1, 0) };
        if ring.is_null() {
            return Err(Error::Memory(said()));
        }
    }
    let rings = Arc::new(rings);
    Ok([0, 1].map(|sends| End { rings: Arc::clone(&rings), sends }))
}

impl End {
    /// Makes a port of it: its name to DPDK is `net_ring_` and this one.
    pub fn make_port(&self, name: &CString) -> Result<u16, Error> {
        let (send, receive) = (self.rings.0[self.sends], self.rings.0[1 - self.sends]);
        // SAFETY: name and lists live for the call, which copies them; the rings, until the port is closed.
        let made = unsafe { sys::rte_eth_from_rings(name.as_ptr(), &receive, 1, &send, 1, 0) };
        u16::try_from(made).map_err(|_| Error::Step {
            step: "make a port of two rings",
            errno: eal::errno(),
            said: said(),
        })
    }

    /// Takes back what was sent and not received: nothing more is sent.
    pub fn take_back(&self) {
        // SAFETY: invariants 1 and 2; what is taken out is in nobody else's hands.
        unsafe { sys::unet_drain(self.rings.0[self.sends]) };
    }
}
