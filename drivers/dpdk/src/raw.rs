//! The baseline: a port of DPDK in the plainest way, as DPDK's own examples use it. Fixed frames in DPDK's own
//! buffers, one thread, which is one of DPDK's; no tokens, no checks, no statistics. Nothing but benchmarks uses it:
//! it shows what [`crate::Dpdk`] costs over nothing at all, with the same program and the same port.
//!
//! # Invariants
//!
//! 1. The port and its pools are used by the thread that opened them, and no other. The pools outlive the port.
//! 2. Whoever is on the other end sends frames like ours. What is read of others lies in their buffers all the same.
//! 3. DPDK's interrupt thread takes nothing away during a burst: each is guarded as the driver's are (`guard`), which is
//!    two stores and a load.

use unet::device::{OpenError, Opening};

/// Ethernet's, IPv4's and UDP's headers: a number stands behind them.
pub const HEADERS: usize = 14 + 20 + 8;

#[cfg(dpdk)]
pub use opened::Port;

#[cfg(dpdk)]
mod opened {
    use std::cell::Cell;
    use std::ffi::CString;
    use std::marker::PhantomData;
    use std::ptr;
    use std::sync::atomic::{AtomicU64, Ordering};

    use dpdk_sys as sys;

    use super::{HEADERS, OpenError, Opening};
    use crate::device::RECEIVE_HEADROOM;
    use crate::driver::opened::options;
    use crate::eal;
    use crate::error::Error;
    use crate::packets::Packets;
    use crate::port::{self, setup};

    const BURST: usize = sys::UNET_BARE_BURST as usize;
    thread_local! {
        static REGISTERED: Cell<bool> = const { Cell::new(false) };
    }
    /// Where the number stands.
    const PLACE: u16 = HEADERS as u16;
    /// The room of a buffer.
    const ROOM: usize = 2048;

    /// A port, opened as the driver opens it.
    pub struct Port {
        port: port::Port,
        mac: [u8; 6],
        receiving: Pool,
        sending: Pool,
        _thread: Registered,
    }

    /// DPDK's buffers.
    struct Pool(*mut sys::rte_mempool);

    /// Makes the calling thread one of DPDK's, which have caches of their own in each pool; once, as long as this is.
    struct Registered(PhantomData<*const ()>);

    impl Pool {
        fn new(count: u32, socket: i32) -> Result<Self, Error> {
            // SAFETY: the name lives for the call, which copies it.
            Self::of(unsafe { sys::unet_bare_pool(Self::name().as_ptr(), count, socket) })
        }

        /// For a port that takes it for granted that packets lie one behind the other; it has no cache.
        fn packed(count: u32, socket: i32) -> Result<Self, Error> {
            let room = ROOM as u16 + RECEIVE_HEADROOM as u16;
            // SAFETY: as above.
            Self::of(unsafe { sys::unet_packets(Self::name().as_ptr(), count, room, socket) })
        }

        fn name() -> CString {
            static NAMES: AtomicU64 = AtomicU64::new(0);
            let name = format!("unet-raw-{}", NAMES.fetch_add(1, Ordering::Relaxed));
            CString::new(name).unwrap_or_default()
        }

        fn of(pool: *mut sys::rte_mempool) -> Result<Self, Error> {
            if pool.is_null() { Err(Error::Memory(eal::said())) } else { Ok(Self(pool)) }
        }
    }

    impl Pool {
        /// Once no port takes from it any more.
        fn free(&mut self) {
            let pool = std::mem::replace(&mut self.0, ptr::null_mut());
            // SAFETY: invariant 1; of none, DPDK does nothing.
            unsafe { sys::rte_mempool_free(pool) };
        }
    }

    impl Drop for Pool {
        fn drop(&mut self) {
            self.free();
        }
    }

    impl Registered {
        fn new() -> Result<Self, Error> {
            // DPDK would take it twice, and forget the first.
            if REGISTERED.get() {
                return Err(Error::Unsupported("this thread has another bare port"));
            }
            // SAFETY: DPDK has begun.
            if unsafe { sys::rte_thread_register() } < 0 {
                return Err(Error::Step {
                    step: "take this thread for one of its own",
                    errno: eal::errno(),
                    said: eal::said(),
                });
            }
            REGISTERED.set(true);
            Ok(Self(PhantomData))
        }
    }

    impl Drop for Registered {
        fn drop(&mut self) {
            // SAFETY: this thread was registered, and this does not leave it.
            unsafe { sys::rte_thread_unregister() };
            REGISTERED.set(false);
        }
    }

    impl Port {
        /// Opens a port. Of the options the memory and the ring count.
        ///
        /// # Errors
        /// [`OpenError`].
        pub fn open(opening: &Opening<'_>) -> Result<Self, OpenError> {
            Ok(Self::try_open(opening.device, &options(opening)?)?)
        }

        fn try_open(device: &str, options: &port::Options) -> Result<Self, Error> {
            eal::begin(options.memory, port::is_card(device))?;
            let _turn = setup();
            let thread = Registered::new()?;
            let mut port = port::Port::find(device)?;
            let (manner, socket) = (port.manner(false), port.socket());
            let count = options.buffers.max(Packets::count(manner, options.ring));
            let pool = || match manner.packets {
                0 => Pool::new(count, socket),
                _ => Pool::packed(count, socket),
            };
            let (receiving, sending) = (pool()?, pool()?);
            match port.start(receiving.0, options.ring) {
                Ok(facts) => Ok(Self { port, mac: facts.mac, receiving, sending, _thread: thread }),
                Err(error) => {
                    // Before its pools are freed.
                    if !port.close() {
                        std::mem::forget((receiving, sending));
                    }
                    Err(error)
                }
            }
        }

        /// Its Ethernet address.
        pub fn mac(&self) -> [u8; 6] {
            self.mac
        }

        /// Whether it has a link.
        pub fn is_up(&self) -> bool {
            self.port.is_up()
        }

        /// Writes a frame, at most 2048 bytes, into all frames that are sent.
        pub fn prepare(&mut self, bytes: &[u8]) {
            let len = bytes.len().min(ROOM) as u16;
            // SAFETY: so many bytes are there, and fit into a buffer; none is under way.
            unsafe { sys::unet_bare_write(self.sending.0, bytes.as_ptr().cast(), len) };
        }

        /// Sends the prepared frame, with a number behind its headers, `first` and on from there; `count` times, or
        /// as often as there is room, and 64 times at most: how often.
        #[inline]
        pub fn send_numbered(&mut self, first: u64, count: u32, len: u32) -> u32 {
            let pool = self.sending.0;
            let count = count.min(BURST as u32) as u16;
            let len = len.clamp(HEADERS as u32 + 8, ROOM as u32) as u16;
            let sent = self.port.burst_soon(|id| {
                // SAFETY: invariants 1 and 3.
                unsafe { sys::unet_bare_send(id, pool, first, count, len, PLACE) }
            });
            sent.unwrap_or(0).into()
        }

        /// Receives, with the number behind the headers of each frame: how many frames.
        #[inline]
        pub fn receive_numbered(&mut self, mut each: impl FnMut(u64)) -> u32 {
            let (mut mbufs, mut numbers) = ([ptr::null_mut(); BURST], [0; BURST]);
            let came = self.take(&mut mbufs, &mut numbers);
            if came > 0 {
                numbers[..came].iter().for_each(|number| each(*number));
                // SAFETY: they were received, and nobody else has them.
                unsafe { sys::unet_bare_free(mbufs.as_mut_ptr(), came as u16) };
            }
            came as u32
        }

        /// As [`Port::receive_numbered`], and each frame that is to be answered goes back as it is.
        #[inline]
        pub fn answer_numbered(&mut self, mut each: impl FnMut(u64) -> bool) -> u32 {
            let (mut mbufs, mut numbers) = ([ptr::null_mut(); BURST], [0; BURST]);
            let came = self.take(&mut mbufs, &mut numbers);
            let mut kept = 0;
            for (place, number) in numbers[..came].iter().enumerate() {
                if each(*number) {
                    mbufs.swap(kept, place);
                    kept += 1;
                }
            }
            let mut sent = 0;
            if kept > 0 {
                let taken = self.port.burst_soon(|id| {
                    // SAFETY: they were received; those that the port takes are not ours any more. Invariant 3.
                    unsafe { sys::unet_transmit(id, 0, mbufs.as_mut_ptr(), kept as u16) }
                });
                sent = usize::from(taken.unwrap_or(0)).min(kept);
            }
            if sent < came {
                // SAFETY: as above: the port did not take these.
                unsafe {
                    sys::unet_bare_free(mbufs[sent..].as_mut_ptr(), (came - sent) as u16);
                }
            }
            came as u32
        }

        #[inline(always)]
        fn take(
            &mut self,
            mbufs: &mut [*mut sys::rte_mbuf; BURST],
            numbers: &mut [u64; BURST],
        ) -> usize {
            let (bytes, numbers) = (mbufs.as_mut_ptr(), numbers.as_mut_ptr());
            let came = self.port.burst(|id| {
                // SAFETY: there is room for as many; invariants 2 and 3.
                unsafe { sys::unet_bare_receive(id, bytes, numbers, BURST as u16, PLACE) }
            });
            usize::from(came.unwrap_or(0)).min(BURST)
        }
    }

    impl Drop for Port {
        fn drop(&mut self) {
            let _turn = setup();
            if self.port.close() {
                self.receiving.free();
                self.sending.free();
            } else {
                self.receiving.0 = ptr::null_mut();
                self.sending.0 = ptr::null_mut();
            }
        }
    }
}

#[cfg(not(dpdk))]
pub use missing::Port;

/// What stands in its place where DPDK was missing: a port that there never is.
#[cfg(not(dpdk))]
mod missing {
    use super::{OpenError, Opening};
    use crate::error::Error;

    /// No port.
    pub enum Port {}

    impl Port {
        /// Says what is missing.
        ///
        /// # Errors
        /// Always.
        pub fn open(_: &Opening<'_>) -> Result<Self, OpenError> {
            Err(Error::Missing(crate::MISSING.unwrap_or("install DPDK")).into())
        }

        /// Its Ethernet address.
        pub fn mac(&self) -> [u8; 6] {
            match *self {}
        }

        /// Whether it has a link.
        pub fn is_up(&self) -> bool {
            match *self {}
        }

        /// Writes a frame.
        pub fn prepare(&mut self, _: &[u8]) {
            match *self {}
        }

        /// Sends.
        pub fn send_numbered(&mut self, _: u64, _: u32, _: u32) -> u32 {
            match *self {}
        }

        /// Receives.
        pub fn receive_numbered(&mut self, _: impl FnMut(u64)) -> u32 {
            match *self {}
        }

        /// Answers.
        pub fn answer_numbered(&mut self, _: impl FnMut(u64) -> bool) -> u32 {
            match *self {}
        }
    }
}
