//! The page of counters: every refusal and every drop, by reason.
//!
//! A channel's counters stand in its own segment's control page, an endpoint's in a page of their
//! own. Both are written by their owner alone and can be read by whoever may open the descriptor:
//! the peer, a supervisor that was given it, or a tool of the same user through `/proc/PID/fd`. A
//! reader that holds the descriptor can still read when the owner has crashed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread};

use crate::Fault;
use crate::geometry::{COUNTERS, MAGIC, OwnSegment};
use crate::memory::{Backing, CreateError, OwnMemory};
use crate::sync::{AtomicU64, Ordering};
use crate::view::View;

/// How many words there are.
pub const CELLS: usize = 64;
/// How many further words stand behind them in an endpoint's page: for a device's counts, in its owner's
/// order.
pub const DEVICE_CELLS: usize = 32;
const DEVICE: usize = COUNTERS + CELLS * 8;
pub(crate) const FIRST_FAULT: usize = 32;
pub(crate) const FIRST_OF_RPC: usize = 48;
const PAGE_MAGIC: u64 = u64::from_le_bytes(*b"UNETCNT\0");

/// What is counted. The number is the word's place in the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[non_exhaustive]
pub enum Counter {
    /// Process that counts.
    OwnPid = 0,
    /// Process on the other side; 0 for an endpoint's page.
    PeerPid = 1,
    /// User on the other side.
    PeerUid = 2,
    /// Messages sent: on this host published when the channel closes and each time it falls asleep, over a
    /// network with each message.
    Sent = 3,
    /// Messages received, published likewise.
    Received = 4,
    /// Sends refused because the send queue was full.
    QueueFull = 5,
    /// Allocations refused because no buffer of that size was free.
    NoBuffer = 6,
    /// Messages refused because they are larger than the largest buffer.
    TooLarge = 7,
    /// Sends refused because the channel is closed.
    Closed = 8,
    /// Buffers taken back from a peer that closed or died with them.
    BuffersReclaimed = 9,
    /// Doorbells rung.
    DoorbellsRung = 10,
    /// Connections refused by the policy on users.
    RefusedByPolicy = 11,
    /// Connections refused by the application.
    RefusedByApplication = 12,
    /// Connections refused because the segment failed its verification.
    RefusedSegment = 13,
    /// Connections refused because of another protocol version.
    RefusedVersion = 14,
    /// Connections that said nothing in time, or nonsense.
    HandshakeFailed = 15,
    /// Connections refused because resources were short.
    RefusedResources = 16,
    /// Calls refused: unknown procedure, arguments that are no value, nesting too deep.
    CallsRefused = 17,
    /// Messages dropped because the channel closed before anybody took them.
    LostAtClose = 18,
    /// Sends refused because the buffer belongs to another channel.
    ForeignBuffer = 19,
    /// Sends refused because the peer holds as much as it may.
    OverQuota = 20,
    /// Buffers taken back from a peer that was too slow with them.
    BuffersRevoked = 21,
    /// Datagrams dropped because they are no messages, or make no sense.
    WireMalformed = 22,
    /// Datagrams dropped because their checksum was wrong.
    WireChecksum = 23,
    /// Datagrams dropped because they were for a channel that there is not.
    WireUnknown = 24,
    /// Datagrams dropped because they were for another incarnation of a channel.
    WireStale = 25,
    /// Datagrams dropped because they came before, or so late that nobody knows.
    WireReplayed = 26,
    /// Datagrams dropped because they came from another address than the channel's peer.
    WireForeign = 27,
    /// Messages that the peer sent and that did not come, by their sequence.
    WireLost = 28,
    /// Messages dropped because the channel had its share of buffers waiting to be received.
    WireOverrun = 29,
    /// Times that a silent peer was asked whether it is there.
    Probes = 30,
    /// Packets of calls that have no header, and messages that are no packets.
    RpcMalformed = 48,
    /// Packets of no request of their session.
    RpcForeign = 49,
    /// Packets of clients that have no session.
    RpcSessionless = 50,
    /// Openings of sessions that were rejected.
    RpcRejected = 51,
    /// Clients that could not be accepted, or that speak another protocol.
    RpcUnaccepted = 52,
    /// Clients that asked for no session in time, or did not read.
    RpcIdle = 53,
    /// Calls that handlers refused.
    RpcRefused = 54,
    /// Calls that began and had no reply.
    RpcFailed = 55,
    /// Replies longer than their client takes.
    RpcTooLarge = 56,
    /// Sessions given up, since their channel did not carry a packet as long as agreed.
    RpcUnsendable = 57,
    /// Answers whose client, or its session, had gone.
    RpcLate = 58,
}

impl Counter {
    /// Every counter of channels but the faults, in the order of the page.
    pub const ALL: [(Counter, &'static str); 31] = [
        (Counter::OwnPid, "own-pid"),
        (Counter::PeerPid, "peer-pid"),
        (Counter::PeerUid, "peer-uid"),
        (Counter::Sent, "sent"),
        (Counter::Received, "received"),
        (Counter::QueueFull, "queue-full"),
        (Counter::NoBuffer, "no-buffer"),
        (Counter::TooLarge, "too-large"),
        (Counter::Closed, "closed"),
        (Counter::BuffersReclaimed, "buffers-reclaimed"),
        (Counter::DoorbellsRung, "doorbells-rung"),
        (Counter::RefusedByPolicy, "refused-by-policy"),
        (Counter::RefusedByApplication, "refused-by-application"),
        (Counter::RefusedSegment, "refused-segment"),
        (Counter::RefusedVersion, "refused-version"),
        (Counter::HandshakeFailed, "handshake-failed"),
        (Counter::RefusedResources, "refused-resources"),
        (Counter::CallsRefused, "calls-refused"),
        (Counter::LostAtClose, "lost-at-close"),
        (Counter::ForeignBuffer, "foreign-buffer"),
        (Counter::OverQuota, "over-quota"),
        (Counter::BuffersRevoked, "buffers-revoked"),
        (Counter::WireMalformed, "wire-malformed"),
        (Counter::WireChecksum, "wire-checksum"),
        (Counter::WireUnknown, "wire-unknown"),
        (Counter::WireStale, "wire-stale"),
        (Counter::WireReplayed, "wire-replayed"),
        (Counter::WireForeign, "wire-foreign"),
        (Counter::WireLost, "wire-lost"),
        (Counter::WireOverrun, "wire-overrun"),
        (Counter::Probes, "probes"),
    ];

    /// What the protocol of calls over channels drops and refuses, in the order of the page. It stands in the page
    /// of the endpoint of a service, as of the last second, or of its client, as of its last wait in vain; a client's
    /// is `RpcMalformed` alone.
    pub const OF_RPC: [(Counter, &'static str); 11] = [
        (Counter::RpcMalformed, "rpc-malformed"),
        (Counter::RpcForeign, "rpc-foreign"),
        (Counter::RpcSessionless, "rpc-sessionless"),
        (Counter::RpcRejected, "rpc-rejected"),
        (Counter::RpcUnaccepted, "rpc-unaccepted"),
        (Counter::RpcIdle, "rpc-idle"),
        (Counter::RpcRefused, "rpc-refused"),
        (Counter::RpcFailed, "rpc-failed"),
        (Counter::RpcTooLarge, "rpc-too-large"),
        (Counter::RpcUnsendable, "rpc-unsendable"),
        (Counter::RpcLate, "rpc-late"),
    ];
}

const _: () = assert!(Counter::ALL.len() <= FIRST_FAULT);
const _: () = assert!(FIRST_FAULT + Fault::ALL.len() <= FIRST_OF_RPC);
const _: () = assert!(FIRST_OF_RPC + Counter::OF_RPC.len() <= CELLS);

/// The writing end. One thread writes; anybody may read.
pub struct Counters {
    cells: View<AtomicU64>,
    /// Those of a device; none in a channel's segment.
    device: Option<View<AtomicU64>>,
    page: Option<OwnMemory>,
}

impl Counters {
    /// Those of a channel, in its segment.
    pub fn of_channel(own: &OwnSegment) -> Self {
        let counters = Self { cells: own.cells(COUNTERS, CELLS), device: None, page: None };
        counters.set(Counter::OwnPid, u64::from(std::process::id()));
        counters
    }

    /// Those of an endpoint, in a page of their own.
    ///
    /// # Errors
    /// What the kernel lacks.
    pub fn of_endpoint() -> Result<Self, CreateError> {
        let mut page =
            OwnMemory::create("unet-counters", DEVICE + DEVICE_CELLS * 8, Backing::default())?;
        let mut magic = page.carve(0, 8).ok_or(CreateError::Size)?;
        magic.copy_from_slice(&PAGE_MAGIC.to_ne_bytes());
        let cells = page.cells(COUNTERS, CELLS).ok_or(CreateError::Size)?;
        let device = Some(page.cells(DEVICE, DEVICE_CELLS).ok_or(CreateError::Size)?);
        let counters = Self { cells, device, page: Some(page) };
        counters.set(Counter::OwnPid, u64::from(std::process::id()));
        Ok(counters)
    }

    /// The page's descriptor, to be given to a supervisor; a channel's is its segment's.
    pub fn page(&self) -> Option<BorrowedFd<'_>> {
        self.page.as_ref().map(AsFd::as_fd)
    }

    /// Adds to a counter. Only from the thread that owns the channel.
    pub fn add(&self, counter: Counter, count: u64) {
        self.bump(counter as usize, count);
    }

    /// Sets a counter.
    pub fn set(&self, counter: Counter, value: u64) {
        self.cells[counter as usize].store(value, Ordering::Relaxed);
    }

    /// Adds to one of the device's words, by its place. A channel's segment has none.
    #[inline(always)]
    pub fn add_of_device(&self, place: usize, count: u64) {
        let cell = self.device.as_deref().and_then(|cells| cells.get(place));
        if let Some(cell) = cell {
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        }
    }

    /// Sets one of the device's words.
    pub fn set_of_device(&self, place: usize, value: u64) {
        if let Some(cell) = self.device.as_deref().and_then(|cells| cells.get(place)) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Counts a fault of the peer's.
    pub fn fault(&self, fault: Fault) {
        self.bump(FIRST_FAULT + fault as usize, 1);
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells[counter as usize].load(Ordering::Relaxed)
    }

    /// How often a fault was counted.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.cells[FIRST_FAULT + fault as usize].load(Ordering::Relaxed)
    }

    /// Adds what a channel, or a device, has counted that is being closed: its own page goes with it.
    pub fn absorb(&self, channel: &Counters) {
        for cell in Counter::Sent as usize..CELLS {
            self.bump(cell, channel.cells[cell].load(Ordering::Relaxed));
        }
        for (place, cell) in channel.device.iter().flat_map(|cells| cells.iter()).enumerate() {
            self.add_of_device(place, cell.load(Ordering::Relaxed));
        }
    }

    fn bump(&self, cell: usize, count: u64) {
        let value = self.cells[cell].load(Ordering::Relaxed);
        self.cells[cell].store(value.wrapping_add(count), Ordering::Relaxed);
    }
}

/// A copy of somebody's counters, taken without their help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether they are a channel's, or else an endpoint's.
    pub of_channel: bool,
    cells: [u64; CELLS],
    device: [u64; DEVICE_CELLS],
}

impl Snapshot {
    /// Reads the counters in a segment or an endpoint's page.
    ///
    /// # Errors
    /// The kernel's, or `InvalidData` if the descriptor is neither.
    ///
    /// # Cost
    /// Three system calls.
    pub fn read(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let mut magic = [0u8; 8];
        let mut bytes = [0u8; CELLS * 8];
        let neither = || io::Error::new(io::ErrorKind::InvalidData, "not a page of counters");
        if pread(fd, &mut magic, 0)? != 8 || pread(fd, &mut bytes, COUNTERS as u64)? != CELLS * 8 {
            return Err(neither());
        }
        let of_channel = match u64::from_ne_bytes(magic) {
            MAGIC => true,
            PAGE_MAGIC => false,
            _ => return Err(neither()),
        };
        let (mut cells, mut device) = ([0; CELLS], [0; DEVICE_CELLS]);
        copy_words(&mut cells, &bytes);
        if !of_channel {
            let mut bytes = [0u8; DEVICE_CELLS * 8];
            if pread(fd, &mut bytes, DEVICE as u64)? != bytes.len() {
                return Err(neither());
            }
            copy_words(&mut device, &bytes);
        }
        Ok(Self { of_channel, cells, device })
    }

    /// Descriptors of all pages of counters of a process that this user may inspect. They can be
    /// read as long as they are kept, also when the process has ended.
    ///
    /// # Errors
    /// The kernel's, if the process is gone or another user's, or if there are more than this process may open.
    pub fn pages_of(pid: u32) -> io::Result<Vec<File>> {
        let mut pages = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let path = entry?.path();
            let is_page = std::fs::read_link(&path)
                .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:unet-"));
            if !is_page {
                continue;
            }
            // Whatever it is that is called so: nobody waits for it.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match open(&path, flags, Mode::empty()) {
                Ok(page) => pages.push(page.into()),
                Err(errno @ (Errno::MFILE | Errno::NFILE)) => return Err(errno.into()),
                // Closed meanwhile, or nobody's to read.
                Err(_) => {}
            }
        }
        Ok(pages)
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells[counter as usize]
    }

    /// One of a device's words, by its place.
    pub fn of_device(&self, place: usize) -> u64 {
        self.device.get(place).copied().unwrap_or(0)
    }

    /// How often a fault was counted.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.cells[FIRST_FAULT + fault as usize]
    }
}

fn copy_words(words: &mut [u64], bytes: &[u8]) {
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
}
