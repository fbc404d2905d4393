//! What the kernel's four have in common: descriptors that are read and written.
//!
//! Each system's own file only makes the descriptors. The client makes both ends and passes the
//! server's over the control socket. A message's first word is its sequence number, checked by
//! whoever receives it; [`END`] in its place ends a phase.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use crate::fault::{During, Fault};
use crate::measure::halves::{Arrival, Echo, EchoServer, Receiver, Sender};
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// The first word of the message that ends a phase.
pub const END: u64 = u64::MAX;
/// A message holds at least its first word.
const WORD: usize = size_of::<u64>();
/// What a receiver of a byte stream takes from the kernel at once.
const CHUNK: usize = 64 << 10;
/// Polls before an adaptive side sleeps.
const POLLS_BEFORE_SLEEP: u64 = 256;
/// Polls in vain, each a system call, after which a spinning side gives up: several seconds.
const POLLS_BEFORE_SILENCE: u64 = 1 << 25;
/// How long a side sleeps for a datagram that may be lost.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The descriptors of one process, before they are put to use.
pub struct Ends {
    /// Where messages come from.
    pub incoming: OwnedFd,
    /// Where messages go.
    pub outgoing: OwnedFd,
}

impl Ends {
    /// Both directions over one socket.
    pub fn of_socket(socket: OwnedFd) -> Result<Self, Fault> {
        let incoming = socket.try_clone().during("duplicating a socket")?;
        Ok(Self { incoming, outgoing: socket })
    }
}

/// One of the kernel's mechanisms: what it is called, and how the two ends of a connection are made.
/// All of them are read and written alike.
pub struct Kernel {
    /// What `--system` calls it.
    pub name: &'static str,
    /// What the records call its transport.
    pub transport: &'static str,
    /// What it is, for the list of systems.
    pub about: &'static str,
    /// Whether messages are datagrams, which keep their bounds and may be lost.
    pub datagrams: bool,
    /// Makes a connection: the client's ends, then the server's.
    pub connect: fn() -> Result<(Ends, Ends), Fault>,
}

impl System for Kernel {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        self.transport
    }

    fn about(&self) -> &'static str {
        self.about
    }

    /// A message holds its sequence number at least.
    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(WORD)
    }

    fn refuses(&self, bench: Bench, payload: usize, _: Wait) -> Option<String> {
        if self.datagrams && payload > LARGEST_DATAGRAM {
            return Some(format!("carries at most {LARGEST_DATAGRAM} bytes in a datagram"));
        }
        (bench == Bench::Scale)
            .then(|| "has no bindings to a server thread, which `scale` is about".to_owned())
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        let bytes = self.payload(bench, asked);
        (bench == Bench::NullRpc).then(|| {
            format!("the kernel has no procedures: the nearest is a message of {bytes} bytes and its echo")
        })
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        let (ours, theirs) = (self.connect)()?;
        server.ask(
            &Request::Open(task.clone()),
            &[theirs.incoming.as_fd(), theirs.outgoing.as_fd()],
        )?;
        server.expect_ready()?;
        server.expect_done()?;
        // The server's are closed here, so that its death is seen as the end of the stream.
        drop(theirs);
        Ok(client_half(End::new(ours, task, self.datagrams)?, task))
    }

    fn server(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        ready: Ready<'_>,
    ) -> Result<ServerHalf, Fault> {
        let datagrams = self.datagrams;
        let fds: Result<[OwnedFd; 2], _> = fds.try_into();
        let [incoming, outgoing] =
            fds.map_err(|_| Fault::Other("two descriptors were to come along".into()))?;
        let end = End::new(Ends { incoming, outgoing }, task, datagrams)?;
        ready()?;
        Ok(server_half(end, task))
    }
}

/// The client's half over descriptors that are connected.
pub fn client_half(end: End, task: &Task) -> ClientHalf {
    let client =
        Client { end, sequence: 0, out: vec![0; task.payload], back: vec![0; task.payload] };
    match task.bench.one_way() {
        true => ClientHalf::OneWay(Box::new(client)),
        false => ClientHalf::Echo(Box::new(client)),
    }
}

/// The server's half.
pub fn server_half(end: End, task: &Task) -> ServerHalf {
    if !task.bench.one_way() {
        return ServerHalf::Echo(Box::new(Mirror { end, buffer: vec![0; task.payload] }));
    }
    let chunk = if end.datagrams { task.payload } else { CHUNK.max(task.payload) };
    ServerHalf::OneWay(Box::new(Inbox {
        end,
        payload: task.payload,
        buffer: vec![0; chunk + task.payload],
        filled: 0,
        expected: 0,
        lost: 0,
        ended: false,
    }))
}

/// The most that UDP over IPv4 carries in one datagram.
const LARGEST_DATAGRAM: usize = 65_507;

/// One process's descriptors, with its way of waiting.
pub struct End {
    ends: Ends,
    wait: Wait,
    same_core: bool,
    datagrams: bool,
}

impl End {
    /// Puts descriptors to use.
    pub fn new(ends: Ends, task: &Task, datagrams: bool) -> Result<Self, Fault> {
        for end in [&ends.incoming, &ends.outgoing] {
            ioctl_fionbio(end, task.wait != Wait::Park).during("choosing how to wait")?;
        }
        Ok(Self { ends, wait: task.wait, same_core: task.same_core, datagrams })
    }

    /// Reads something: at least a byte, at most the buffer; a whole datagram where there are any.
    #[inline]
    fn read(&self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let fd = &self.ends.incoming;
        let call = || rustix::io::read(fd, &mut *buffer);
        match self.patiently(fd, PollFlags::IN, call)? {
            0 => Err(Fault::PeerGone),
            count => Ok(count),
        }
    }

    /// Fills the message.
    #[inline]
    pub fn read_message(&self, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..])?;
            if self.datagrams && filled < buffer.len() {
                return Err(Fault::Other(format!("a datagram of {filled} bytes arrived")));
            }
        }
        Ok(())
    }

    /// Writes it.
    #[inline]
    pub fn write_message(&self, message: &[u8]) -> Result<(), Fault> {
        self.write_by(message, |fd, rest| rustix::io::write(fd, rest))
    }

    /// Writes a message by calls of `write`, which says how much it took.
    #[inline]
    pub fn write_by(
        &self,
        mut message: &[u8],
        write: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<usize>,
    ) -> Result<(), Fault> {
        let fd = &self.ends.outgoing;
        while !message.is_empty() {
            let call = || write(fd, message);
            message = &message[self.patiently(fd, PollFlags::OUT, call)?..];
        }
        Ok(())
    }

    /// Repeats a call until the kernel does not ask to try again.
    #[inline]
    fn patiently(
        &self,
        fd: &OwnedFd,
        event: PollFlags,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Result<usize, Fault> {
        let mut polls = 0;
        loop {
            match call() {
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                result => return result.during("moving a message"),
            }
            polls += 1;
            match self.wait {
                Wait::Spin if polls < POLLS_BEFORE_SILENCE => std::hint::spin_loop(),
                Wait::Adaptive if polls % POLLS_BEFORE_SLEEP == 0 => self.sleep(fd, event)?,
                Wait::Adaptive if self.same_core => rustix::thread::sched_yield(),
                Wait::Adaptive => std::hint::spin_loop(),
                // A blocking call that says so has waited for its whole timeout.
                Wait::Spin | Wait::Park => return Err(Fault::Silent),
            }
        }
    }

    #[cold]
    fn sleep(&self, fd: &OwnedFd, event: PollFlags) -> Result<(), Fault> {
        let patience = Timespec::try_from(PATIENCE).ok();
        let timeout = if self.datagrams { patience } else { None };
        match poll(&mut [PollFd::new(fd, event)], timeout.as_ref()) {
            Ok(0) => Err(Fault::Silent),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).during("sleeping for a message"),
        }
    }
}

/// A message's first word.
pub fn first_word(message: &[u8]) -> u64 {
    message.first_chunk().map_or(END, |word| u64::from_le_bytes(*word))
}

/// Puts a message's first word in its place.
pub fn set_first_word(message: &mut [u8], word: u64) {
    if let Some(first) = message.first_chunk_mut() {
        *first = word.to_le_bytes();
    }
}

struct Client {
    end: End,
    sequence: u64,
    out: Vec<u8>,
    back: Vec<u8>,
}

impl Client {
    #[inline]
    fn exchange(&mut self, word: u64) -> Result<(), Fault> {
        set_first_word(&mut self.out, word);
        self.end.write_message(&self.out)?;
        self.end.read_message(&mut self.back)?;
        match first_word(&self.back) {
            found if found == word => Ok(()),
            found => Err(Fault::OutOfOrder { expected: word, found }),
        }
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.exchange(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.exchange(END)
    }
}

impl Sender for Client {
    fn begin(&mut self) {
        self.sequence = 0;
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        set_first_word(&mut self.out, self.sequence);
        self.sequence += 1;
        self.end.write_message(&self.out)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        set_first_word(&mut self.out, END);
        self.end.write_message(&self.out)
    }

    fn lossy(&self) -> bool {
        self.end.datagrams
    }
}

struct Mirror {
    end: End,
    buffer: Vec<u8>,
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.end.read_message(&mut self.buffer)?;
        self.end.write_message(&self.buffer)?;
        Ok(first_word(&self.buffer) != END)
    }
}

struct Inbox {
    end: End,
    payload: usize,
    buffer: Vec<u8>,
    filled: usize,
    expected: u64,
    lost: u64,
    /// The end came in the same read as the last messages.
    ended: bool,
}

impl Receiver for Inbox {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.filled, self.expected, self.lost, self.ended) = (0, 0, 0, false);
        if self.end.datagrams {
            // Where messages get lost, the last phase's end was sent more than once.
            let incoming = &self.end.ends.incoming;
            ioctl_fionbio(incoming, true).during("emptying the socket")?;
            while rustix::io::read(incoming, &mut self.buffer[..]).is_ok() {}
            ioctl_fionbio(incoming, self.end.wait != Wait::Park).during("emptying the socket")?;
        }
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        if self.ended {
            return Ok(Arrival::End);
        }
        loop {
            self.filled += self.end.read(&mut self.buffer[self.filled..])?;
            let whole = self.filled / self.payload;
            for number in 0..whole {
                let word = first_word(&self.buffer[number * self.payload..]);
                if word == END {
                    self.ended = true;
                    return Ok(match number {
                        0 => Arrival::End,
                        before => Arrival::Messages(before as u64),
                    });
                }
                if word != self.expected && !self.end.datagrams {
                    return Err(Fault::OutOfOrder { expected: self.expected, found: word });
                }
                if word < self.expected {
                    // A network may deliver it late: it was counted as lost before.
                    self.lost = self.lost.saturating_sub(1);
                    continue;
                }
                self.lost = self.lost.saturating_add(word - self.expected);
                self.expected = word + 1;
            }
            let used = whole * self.payload;
            self.buffer.copy_within(used..self.filled, 0);
            self.filled -= used;
            if whole > 0 {
                return Ok(Arrival::Messages(whole as u64));
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
