//! UDP in bursts: one system call for many datagrams (sendmmsg and recvmmsg). For messages one way.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use crate::fault::{During, Fault};
use crate::measure::halves::{Arrival, Receiver, Sender};
use crate::network::{Place, address};
use crate::process::server::Server;
use crate::systems::kernel::{END, first_word, set_first_word};
use crate::systems::network::sockets::Kind;
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, MAX_DATAGRAM, Task, Wait};

/// Datagrams in one system call.
const BURST: usize = 32;
/// Looks in vain, each a system call, after which a side gives up: several seconds.
const LOOKS_BEFORE_SILENCE: u64 = 1 << 25;
const KIND: Kind = Kind { stream: false, busy_poll: None };

/// UDP with sendmmsg and recvmmsg.
pub struct Bursts;

impl System for Bursts {
    fn name(&self) -> &'static str {
        "udp/mmsg"
    }

    fn transport(&self) -> &'static str {
        "udp:"
    }

    fn about(&self) -> &'static str {
        "one way, 32 datagrams in a system call (sendmmsg, recvmmsg)"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        (payload > MAX_DATAGRAM)
            .then(|| format!("carries at most {MAX_DATAGRAM} bytes in a datagram"))
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        None
    }

    fn answers(&self, bench: Bench) -> bool {
        bench.one_way()
    }

    fn waits(&self) -> Option<&'static [Wait]> {
        Some(&[Wait::Spin])
    }

    fn largest(&self) -> usize {
        MAX_DATAGRAM
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Bursts {
    fn bare(&self) -> Option<&'static str> {
        Some("udp")
    }

    fn crosses(&self, to: &unet::NetworkAddress) -> bool {
        to.scheme != address::DPDK
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        let socket = KIND.connect(task, place, server)?;
        Ok(ClientHalf::OneWay(Box::new(Outbox {
            socket,
            headers: MultiHeaders::preallocate(BURST, None),
            messages: vec![vec![0; task.payload]; BURST],
            ready: 0,
            sequence: 0,
        })))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        if !task.bench.one_way() {
            return Err(Fault::Other("udp/mmsg goes one way".into()));
        }
        let socket = KIND.serve(task, place, announce)?;
        Ok(ServerHalf::OneWay(Box::new(Inbox {
            socket,
            headers: MultiHeaders::preallocate(BURST, None),
            buffer: vec![0; BURST * task.payload],
            payload: task.payload,
            expected: 0,
            lost: 0,
            ended: false,
        })))
    }
}

struct Outbox {
    socket: OwnedFd,
    headers: MultiHeaders<()>,
    messages: Vec<Vec<u8>>,
    ready: usize,
    sequence: u64,
}

impl Outbox {
    fn put(&mut self, word: u64) {
        set_first_word(&mut self.messages[self.ready], word);
        self.ready += 1;
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut from = 0;
        let mut looks = 0;
        while from < self.ready {
            let batch = &self.messages[from..self.ready];
            let slices: [[IoSlice<'_>; 1]; BURST] =
                std::array::from_fn(|place| [IoSlice::new(batch.get(place).map_or(&[], |m| m))]);
            let slices = &slices[..batch.len()];
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            match sendmmsg(fd, &mut self.headers, slices, [None; BURST], [], flags) {
                Ok(sent) => from += sent.count(),
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS) => {}
                Err(error) => return Err(error).during("sending a burst"),
            }
            looks += 1;
            if looks > LOOKS_BEFORE_SILENCE {
                return Err(Fault::Silent);
            }
        }
        self.ready = 0;
        Ok(())
    }
}

impl Sender for Outbox {
    fn begin(&mut self) {
        (self.sequence, self.ready) = (0, 0);
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        self.put(self.sequence);
        self.sequence += 1;
        if self.ready == BURST { self.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        // The last of a burst is never full: there is room for one more.
        self.put(END);
        self.flush()
    }

    fn lossy(&self) -> bool {
        true
    }
}

struct Inbox {
    socket: OwnedFd,
    headers: MultiHeaders<()>,
    buffer: Vec<u8>,
    payload: usize,
    expected: u64,
    lost: u64,
    /// The end came in the same burst as the last messages.
    ended: bool,
}

impl Inbox {
    /// One burst, if there is one; the size of each datagram in `sizes`.
    fn take(&mut self, sizes: &mut [usize; BURST]) -> Result<usize, Fault> {
        let mut parts = self.buffer.chunks_exact_mut(self.payload);
        let mut slices: [[IoSliceMut<'_>; 1]; BURST] =
            std::array::from_fn(|_| [IoSliceMut::new(parts.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = self.socket.as_raw_fd();
        match recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(burst) => Ok(burst.zip(sizes).map(|(message, size)| *size = message.bytes).count()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error).during("receiving a burst"),
        }
    }
}

impl Receiver for Inbox {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.expected, self.lost, self.ended) = (0, 0, false);
        // Where messages get lost, the last phase's end was sent more than once.
        while self.take(&mut [0; BURST])? > 0 {}
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        let mut sizes = [0; BURST];
        for _ in 0..LOOKS_BEFORE_SILENCE {
            if self.ended {
                return Ok(Arrival::End);
            }
            let mut counted = 0;
            let count = self.take(&mut sizes)?;
            let messages = self.buffer.chunks_exact(self.payload).zip(sizes).take(count);
            for (message, size) in messages {
                match first_word(message) {
                    _ if size != self.payload => {}
                    END => self.ended = true,
                    word => {
                        counted += 1;
                        // What comes late was counted as lost before.
                        if word < self.expected {
                            self.lost = self.lost.saturating_sub(1);
                            continue;
                        }
                        self.lost = self.lost.saturating_add(word - self.expected);
                        self.expected = word + 1;
                    }
                }
            }
            if counted > 0 {
                return Ok(Arrival::Messages(counted));
            }
            std::hint::spin_loop();
        }
        Err(Fault::Silent)
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
