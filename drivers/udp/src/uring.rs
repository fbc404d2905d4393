//! The path by io_uring.
//!
//! One request for each socket receives for ever: the kernel takes a buffer from the ring of provided ones
//! for each datagram, writes who sent it before the payload, and posts a completion. Where it is certain who
//! sends ([`crate::peer`]), another kind of request leaves the name out, which is faster. To look is to read
//! memory; a system call is made only when the kernel has said that there is something to be fetched. Task work is
//! cooperative rather than deferred, since a deferring ring belongs to one thread for ever and a device
//! may move. A single datagram is sent by a plain system call, which costs less than a request; a burst
//! is one submission of linked requests, so that the order holds and what follows a refused one is not
//! sent before it. Completions are checked against private tables.
//!
//! # Invariants
//!
//! 1. Of a request, what it points to lives until it has ended: buffers and names by the tables
//!    ([`provided`], [`sends`]), the receive request's header by `header`.
//! 2. When a device is dropped, its requests are cancelled and have ended, or what they point to is
//!    leaked, before anything is freed. The ring is closed before the buffers are freed.

mod completions;
mod device;
mod provided;
mod sends;
mod setup;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use unet::device::{Capabilities, Count, DeviceError, Mode, OpenError, Outgoing, Received};

use crate::calls::BURST;
use crate::favoured::Side;
use crate::name::Name;
use crate::options::ZERO_COPY_BYTES;
use crate::port::Port;
use completions::{HEADER, arrival, settle};
use provided::Provided;
use sends::Sends;
use setup::{GROUP, Header, STOCK};
pub(crate) use setup::{Rings, rings};

/// What the completions of requests other than sends are marked with.
const RECEIVE: u64 = u64::MAX;
const ROOM: u64 = u64::MAX - 1;
const CANCEL: u64 = u64::MAX - 2;
const RECEIVE_FAVOURED: u64 = u64::MAX - 3;

const SIDES: [(Side, u64); 2] = [(Side::Open, RECEIVE), (Side::Favoured, RECEIVE_FAVOURED)];

/// A device over io_uring. The ring is the first field: it is closed before the rest is freed.
pub(crate) struct Uring {
    ring: IoUring,
    provided: Provided,
    sends: Sends,
    header: Header,
    port: Port,
    /// Datagrams that arrived while something else was looked for.
    arrived: VecDeque<Received>,
    /// The receive request of either socket is under way.
    receiving: [bool; 2],
    /// From whom all comes that it brings, if the kernel does not say.
    sole: [Option<SocketAddr>; 2],
    /// A request that waits for room to send is under way.
    watching: bool,
    /// Why receiving failed, until it is told.
    failure: Option<DeviceError>,
    /// The thread that the receive requests belong to: the kernel does its work there.
    thread: usize,
    zero_copy: bool,
    capabilities: Capabilities,
}

/// Names a thread, among those that live, cheaply.
#[inline(always)]
fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place) as usize)
}

impl Uring {
    pub fn new(port: Port, rings: Rings, zero_copy: bool) -> Result<Self, OpenError> {
        let Rings(ring, provided) = rings;
        let name_len = Name::len_of(port.local.is_ipv6());
        let stock = STOCK.min(port.pool.total() / 2);
        let mut device = Self {
            capabilities: port.capabilities(Mode::IoUring, HEADER + name_len, stock),
            arrived: VecDeque::with_capacity(stock),
            ring,
            provided,
            sends: Sends::new(),
            header: Header::new(name_len),
            port,
            receiving: [false; 2],
            sole: [None; 2],
            watching: false,
            failure: None,
            thread: this_thread(),
            zero_copy,
        };
        device.restock();
        device.ready().and_then(|()| device.take_failure()).map_err(|error| match error {
            DeviceError::Kernel(errno) => OpenError::Kernel { step: "receive by io_uring", errno },
            _ => {
                OpenError::Unsupported("the kernel does not receive by io_uring: take path=sockets")
            }
        })?;
        Ok(device)
    }

    fn restock(&mut self) {
        let before = self.provided.held();
        while self.provided.held() < self.capabilities.stock {
            let Some(buffer) = self.port.free_buffer() else { break };
            self.provided.give(buffer);
        }
        if self.provided.held() > before {
            self.provided.publish();
        }
    }

    /// Puts a request into the ring. `false` without room, which there is after a submission.
    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to lives until it has ended (invariant 1).
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    fn submit(&mut self) -> Result<(), DeviceError> {
        self.port.counted.add(Count::Kicks, 1);
        match self.ring.submit() {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                // It is tried again with the next look.
                Some(Errno::AGAIN | Errno::BUSY | Errno::INTR) => Ok(()),
                errno => Err(DeviceError::Kernel(errno.unwrap_or(Errno::IO))),
            },
        }
    }

    /// Whether what comes to either socket is received, by this thread.
    #[inline(always)]
    fn is_ready(&self) -> bool {
        self.receiving == [true, self.port.favoured.is_some()] && self.thread == this_thread()
    }

    /// Sees to it that the receive requests are under way, where there are buffers, and are this thread's.
    #[inline(always)]
    fn ready(&mut self) -> Result<(), DeviceError> {
        if self.is_ready() { Ok(()) } else { self.rearm() }
    }

    /// Has a receive request end, if there is one.
    fn cancel(&mut self, side: Side) -> Result<(), DeviceError> {
        let (_, mark) = SIDES[side as usize];
        let cancel = opcode::AsyncCancel::new(mark).build().user_data(CANCEL);
        if self.receiving[side as usize] && self.push(&cancel) {
            self.submit()?;
        }
        Ok(())
    }

    /// Has the kernel leave out the name of the favoured one.
    fn leave_out_name(&mut self) -> Result<(), DeviceError> {
        let side = Side::Favoured;
        if self.sole[side as usize].is_none() && self.port.sole_sender(side).is_some() {
            self.cancel(side)?;
            self.reap();
        }
        Ok(())
    }

    #[cold]
    fn rearm(&mut self) -> Result<(), DeviceError> {
        if self.receiving != [false; 2] && self.thread != this_thread() {
            // The device has moved: the requests end, and the next ones are this thread's.
            self.thread = this_thread();
            self.cancel(Side::Open)?;
            return self.cancel(Side::Favoured);
        }
        if !self.receiving[Side::Favoured as usize] {
            self.port.forget_last();
        }
        self.restock();
        if self.provided.held() == 0 {
            return Ok(());
        }
        let header: *const libc::msghdr = &*self.header.0;
        let mut begun = false;
        for (side, mark) in SIDES {
            let is_there = side == Side::Open || self.port.favoured.is_some();
            if self.receiving[side as usize] || !is_there {
                continue;
            }
            let fd = Fd(self.port.at(side).as_raw_fd());
            let sole = self.port.sole_sender(side);
            let receive = match sole {
                // With the whole length of what did not fit.
                Some(_) => opcode::RecvMulti::new(fd, GROUP).flags(libc::MSG_TRUNC).build(),
                None => opcode::RecvMsgMulti::new(fd, header, GROUP).build(),
            };
            if self.push(&receive.user_data(mark)) {
                self.sole[side as usize] = sole;
                (self.receiving[side as usize], self.thread) = (true, this_thread());
                begun = true;
            }
        }
        if begun {
            self.submit()?;
            self.reap();
        }
        Ok(())
    }

    fn take_failure(&mut self) -> Result<(), DeviceError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Takes what the kernel has posted, and has it post what it holds back.
    #[inline(always)]
    fn look(&mut self) -> Result<(), DeviceError> {
        if self.reap() {
            return Ok(());
        }
        let submission = self.ring.submission();
        if submission.taskrun() || submission.cq_overflow() || !submission.is_empty() {
            drop(submission);
            self.submit()?;
            self.reap();
        }
        Ok(())
    }

    /// Takes what the kernel has posted by now. Whether there was anything.
    #[inline(always)]
    fn reap(&mut self) -> bool {
        let mut any = false;
        let mut posted = self.ring.completion();
        // As many as there are now: a fast sender must not keep us here.
        let count = posted.len();
        for entry in posted.by_ref().take(count) {
            any = true;
            match entry.user_data() {
                mark @ (RECEIVE | RECEIVE_FAVOURED) => {
                    let side = usize::from(mark == RECEIVE_FAVOURED);
                    self.receiving[side] &= cqueue::more(entry.flags());
                    let (port, provided) = (&mut self.port, &mut self.provided);
                    let (result, flags) = (entry.result(), entry.flags());
                    match arrival(result, flags, self.sole[side], port, provided) {
                        Ok(Some(received)) => self.arrived.push_back(received),
                        Ok(None) => {}
                        Err(errno) => {
                            let failed = port.receive_failed(errno);
                            self.failure = self.failure.or(failed.err());
                        }
                    }
                }
                ROOM => (self.watching, self.port.blocked) = (false, None),
                CANCEL => {}
                mark => match self.sends.completed(mark, entry.result(), entry.flags()) {
                    Ok(None) => {}
                    Ok(Some(late)) => settle(&mut self.port, late, None),
                    Err(()) => self.port.counted.add(Count::Fault, 1),
                },
            }
        }
        any
    }

    /// Sends some of a queue in one submission. Whether the next may be tried.
    fn send_many(&mut self, queue: &mut VecDeque<Outgoing>) -> Result<bool, DeviceError> {
        if self.sends.room() == 0 {
            self.look()?;
        }
        let submission = self.ring.submission();
        if submission.capacity() - submission.len() <= BURST {
            // The kernel did not take what was submitted before.
            drop(submission);
            self.submit()?;
            return Ok(false);
        }
        drop(submission);
        let mut places = [0; BURST];
        let mut count = 0;
        let mut last: Option<squeue::Entry> = None;
        let mut by: Option<Side> = None;
        while count < BURST.min(self.sends.room() + count) {
            let Some(first) = queue.front() else { break };
            let Ok(entry) = self.port.check(first) else { break };
            let (side, name) = self.port.way(entry);
            let name = name.copied();
            if *by.get_or_insert(side) != side {
                break;
            }
            let zero_copy = self.zero_copy && first.piece.bytes.len() >= ZERO_COPY_BYTES;
            let Some(first) = queue.pop_front() else { break };
            let socket = self.port.at(side).as_raw_fd();
            let datagram = (first.to, name, first.piece.bytes);
            let Some((place, entry)) = self.sends.request(socket, datagram, zero_copy) else {
                break;
            };
            if let Some(before) = last.replace(entry) {
                self.push(&before.flags(squeue::Flags::IO_LINK));
            }
            places[count] = place;
            count += 1;
        }
        let Some(last) = last else {
            let refused = queue.front().and_then(|first| self.port.check(first).err());
            return Ok(refused.is_some_and(|count| self.port.drop_first(queue, count)));
        };
        self.push(&last);
        self.submit()?;
        self.reap();
        // Answered by now: none of them waits. From behind, so that what comes back is in order.
        self.port.blocked = None;
        let before = queue.len();
        for place in places[..count].iter().rev() {
            if let Some(outcome) = self.sends.outcome(*place) {
                settle(&mut self.port, outcome, Some(queue));
            }
        }
        let back = queue.len() - before;
        if by == Some(Side::Favoured) && back > 0 && self.port.blocked.is_none() {
            // What is wrong with the first, if it is that one, the other socket says.
            return Ok(self.port.send_first(queue));
        }
        Ok(back < count && self.port.blocked.is_none())
    }

    /// Whether no request is under way.
    fn is_quiet(&self) -> bool {
        self.receiving == [false; 2] && !self.watching && self.sends.under_way() == 0
    }

    /// Cancels every request, and waits until all have ended, for a second at most: the longest wait is
    /// for another thread that the device has come from, or for hardware that still reads.
    fn end(&mut self) -> bool {
        const TURNS: usize = 100;
        let turn = Timespec::new().nsec(10_000_000);
        let all = CancelBuilder::any().all();
        _ = self.ring.submit();
        _ = self.ring.submitter().register_sync_cancel(Some(turn), all);
        for _ in 0..TURNS {
            self.reap();
            if self.is_quiet() {
                return true;
            }
            _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&turn));
        }
        false
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !self.end() {
            tracing::warn!("io_uring did not end its requests: their buffers are left to it");
            self.provided.leak();
            self.sends.leak();
            std::mem::forget(std::mem::replace(&mut self.header, Header::new(0)));
        }
    }
}
