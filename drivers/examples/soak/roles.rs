//! The server and the clients.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::{
    Address, Arrival, ChannelId, ConnectError, ConnectOptions, Delivery, Endpoint, EndpointOptions,
    Event, ListenOptions, NetworkOptions, Offer,
};

use crate::traffic::{Random, SHORTEST, Seen, write};

/// How many channels a client has to each address.
const CHANNELS: usize = 2;
/// How long the queue and the port of one that was killed may still be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Made once in a process, for queues of one interface share a program if one driver has opened them.
fn network() -> NetworkOptions {
    let silence = Duration::from_secs(2);
    NetworkOptions { drivers: drivers::linked(), silence, ..NetworkOptions::default() }
}

/// Copies a message out of its buffers.
fn read(message: &Delivery, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(message.inline());
    let inline = bytes.len();
    bytes.resize(message.len(), 0);
    message.message().peek(0, &mut bytes[inline..]).expect("it is this process's own");
}

/// Accepts everybody, checks what comes, and sends a part of it back.
pub fn serve(addresses: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    let options = ListenOptions { network: network(), ..ListenOptions::default() };
    let begin = Instant::now();
    for address in addresses {
        let address: Address = address.parse()?;
        while let Err(error) = endpoint.listen(&address, options.clone()) {
            if begin.elapsed() > PATIENCE {
                return Err(format!("{address:?} cannot be had again: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mut seen: HashMap<ChannelId, Seen> = HashMap::new();
    let (mut message, mut bytes) = (Delivery::default(), Vec::new());
    loop {
        match endpoint.recv_into(&mut message) {
            Arrival::Message(from) => {
                read(&message, &mut bytes);
                seen.entry(from).or_default().check(&bytes);
                if bytes[0] % 4 == 0
                    && let Some(channel) = endpoint.channel_mut(from)
                {
                    // Who does not read gets no answer.
                    _ = channel.try_send(&bytes);
                }
            }
            Arrival::Other => match endpoint.take_event() {
                Some(Event::Incoming(incoming)) => _ = endpoint.accept(incoming, b""),
                Some(Event::Closed(id, _)) => _ = seen.remove(&id),
                _ => {}
            },
        }
    }
}

/// One channel of a client.
struct Caller {
    address: Address,
    stream: u64,
    next: u64,
    id: Option<ChannelId>,
    seen: Seen,
}

impl Caller {
    fn connect(
        &mut self,
        endpoint: &mut Endpoint,
        stream: u64,
        options: ConnectOptions,
    ) -> Result<(), ConnectError> {
        (self.stream, self.next, self.seen) = (stream, 0, Seen::default());
        self.id = Some(endpoint.connect(&self.address, options)?);
        Ok(())
    }

    /// Sends as many, until there is no room.
    fn flood(&mut self, endpoint: &mut Endpoint, random: &mut Random, count: u64) {
        let Some(channel) = self.id.and_then(|id| endpoint.channel_mut(id)) else { return };
        let mut bytes = [0; 2048];
        for _ in 0..count {
            let longest = channel.limit().min(bytes.len());
            if longest < SHORTEST {
                return;
            }
            let shorter = if random.below(4) == 0 { longest } else { longest.min(256) };
            let len = SHORTEST + random.below((shorter - SHORTEST) as u64 + 1) as usize;
            write(&mut bytes[..len], self.stream, self.next);
            match channel.try_send(&bytes[..len]) {
                Ok(Offer::Taken) => self.next += 1,
                Ok(Offer::Full(())) | Err(_) => return,
            }
        }
    }
}

/// Sends to every address, in all sizes and at all speeds. A byte on the standard input makes it pause, and
/// another one go on; its end ends the client. It answers a pause once nothing more comes.
pub fn call(seed: u64, addresses: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut random = Random(seed);
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    let network = network();
    let mut callers = Vec::new();
    for address in addresses.iter().flat_map(|address| [address; CHANNELS]) {
        let address = address.parse()?;
        callers.push(Caller { address, stream: 0, next: 0, id: None, seen: Seen::default() });
    }
    let (mut paused, mut answered) = (false, false);
    let mut first = true;
    loop {
        if is_told()? {
            paused = !paused;
            answered = false;
        }
        if paused {
            let more = take(&mut endpoint, &mut callers, Duration::from_millis(20));
            if !more && !answered {
                // Nothing is left in its sockets.
                answered = true;
                std::io::stdout().write_all(b".")?;
                std::io::stdout().flush()?;
            }
            continue;
        }
        for caller in &mut callers {
            if caller.id.is_none() {
                // What a link that was given up had sent would be in nobody's books.
                let timeout = Duration::from_millis(if first { 3_600_000 } else { 300 });
                let network = network.clone();
                let options = ConnectOptions { network, timeout, ..ConnectOptions::default() };
                let connected = caller.connect(&mut endpoint, random.below(u64::MAX), options);
                // Later its server may just have been killed.
                if first && let Err(error) = connected {
                    return Err(format!("{:?}: {error}", caller.address).into());
                }
            }
        }
        first = callers.iter().any(|caller| caller.id.is_none()) && first;
        let chosen = random.below(callers.len() as u64) as usize;
        match random.below(1000) {
            0 => {
                if let Some(id) = callers[chosen].id.take() {
                    endpoint.close(id);
                }
            }
            1..300 => callers[chosen].flood(&mut endpoint, &mut random, 2000),
            300..600 => callers[chosen].flood(&mut endpoint, &mut random, 64),
            _ => callers[chosen].flood(&mut endpoint, &mut random, 1),
        }
        let wait = Duration::from_micros([0, 0, 100, 2000][random.below(4) as usize]);
        for _ in 0..256 {
            if !take(&mut endpoint, &mut callers, wait) {
                break;
            }
        }
    }
}

/// Takes what came. Whether something did.
fn take(endpoint: &mut Endpoint, callers: &mut [Caller], wait: Duration) -> bool {
    let mut bytes = Vec::new();
    match endpoint.recv_timeout(wait) {
        Some(Event::Message(from, message)) => {
            read(&message, &mut bytes);
            let caller = callers.iter_mut().find(|caller| caller.id == Some(from));
            caller.expect("only its own channels").seen.check(&bytes);
        }
        Some(Event::Closed(id, _)) => {
            for caller in callers.iter_mut().filter(|caller| caller.id == Some(id)) {
                caller.id = None;
            }
        }
        Some(_) => {}
        None => return false,
    }
    true
}

/// Whether the judge said something.
fn is_told() -> Result<bool, Box<dyn Error>> {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0 {
        return Ok(false);
    }
    match stdin.lock().read(&mut [0])? {
        0 => Err("the judge is gone".into()),
        _ => Ok(true),
    }
}
