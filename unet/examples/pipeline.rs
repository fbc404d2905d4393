//! Three processes that need not trust each other pass megabyte messages on without a copy.
//!
//! ```text
//!   driver ───────────────► protocol ───────────────► application
//!   its own pool:           takes the driver's        checks the header,
//!   1 MiB and a header      header off, puts one of   reads the payload once
//!                           its own pool before it
//! ```
//!
//! ```sh
//! cargo run --release --example pipeline            # 20,000 messages
//! cargo run --release --example pipeline -- 100     # or as many as you say
//! ```
//!
//! The program is the driver, and starts itself again as the other two. Each pool is memory that its
//! process alone can write, by the kernel's word; the others have mapped it to be read, before the first
//! message. What is sent is a descriptor. A message's buffers are free again when the application has
//! dropped it: by way of the protocol, which gives back what it passed on.

use std::error::Error;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use unet::{
    Address, Channel, ChannelId, Class, ConnectError, ConnectOptions, Endpoint, EndpointOptions,
    Event, ListenOptions, Message, Part, Path, Pool, PoolOptions,
};

const PAYLOAD: usize = 1 << 20;
/// The driver's header says the message's number, the protocol's says it again, and how long it is.
const DRIVER_HEADER: usize = 8;
const PROTOCOL_HEADER: usize = 16;
/// So long somebody who is to connect, or to give a buffer back, may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => drive(20_000),
        [count] => drive(count.parse().map_err(|_| "say how many messages")?),
        ["protocol", here, next] => protocol(&here.parse()?, &next.parse()?),
        ["application", here] => application(&here.parse()?),
        _ => Err("say nothing, or how many messages".into()),
    }
}

/// A pool of buffers of one size, in a region of its own.
fn pool(buffer_bytes: usize, buffers: u32) -> Result<Pool, Box<dyn Error>> {
    let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
    // A multiple of 64.
    let buffer_bytes = buffer_bytes.next_multiple_of(64) as u32;
    options.classes[0] = Class { buffer_bytes, buffers };
    Ok(Pool::new(options)?)
}

/// Options to connect along a path. The channel's own pool is not used here.
fn along(path: Path) -> ConnectOptions {
    let mut options = ConnectOptions { path, timeout: PATIENCE, ..ConnectOptions::default() };
    options.channel.geometry.classes = Default::default();
    options
}

/// Connects to a process that is just being started.
fn connect<T>(mut attempt: impl FnMut() -> Result<T, ConnectError>) -> Result<T, ConnectError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(ConnectError::NobodyListens) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            outcome => return outcome,
        }
    }
}

/// The first domain. Starts the others, and sends.
fn drive(count: u64) -> Result<(), Box<dyn Error>> {
    let name = |part: &str| format!("shm:pipeline-{part}-{}", std::process::id());
    let (middle, last) = (name("protocol"), name("application"));
    let mut application = Stage::start(&["application", &last])?;
    let mut protocol = Stage::start(&["protocol", &middle, &last])?;

    let mut pool = pool(DRIVER_HEADER + PAYLOAD, 8)?;
    receive_from_device(&mut pool)?;
    let (address, path) = (middle.parse::<Address>()?, Path::of(&pool)?);
    let mut channel = connect(|| Channel::connect(&address, along(path.clone())))?;

    for number in 0..count {
        let message = produce(&mut channel, &mut pool, number)?;
        // Waits where the queue is full. An error says that the protocol has gone, or why not.
        channel.send_message(0, message, b"")?;
    }
    // Closing revokes what is still on its way, so everything has to come back first.
    let deadline = Instant::now() + PATIENCE;
    while channel.lent() != (0, 0) {
        if let Some(reason) = channel.closed() {
            return Err(reason.into());
        }
        if Instant::now() > deadline {
            return Err("the application does not give the last messages back".into());
        }
        std::thread::yield_now();
    }
    println!("driver: {} bytes copied", channel.copied() + pool.copied());
    drop(channel);
    protocol.ends()?;
    application.ends()
}

/// Writes every buffer once. A device would go on writing them; what is measured is passing them on.
fn receive_from_device(pool: &mut Pool) -> Result<(), Box<dyn Error>> {
    let len = DRIVER_HEADER + PAYLOAD;
    let buffers = (0..pool.total()).map(|_| pool.alloc(len)).collect::<Result<Vec<_>, _>>()?;
    buffers.into_iter().for_each(|mut buffer| buffer.fill(1));
    Ok(())
}

/// A message of the driver's: a header, and what a device would have written after it.
fn produce(channel: &mut Channel, pool: &mut Pool, number: u64) -> Result<Message, Box<dyn Error>> {
    // The buffer that came back last comes first. If none is free the application is slow.
    let fbuf = channel.alloc_from_timeout(pool, DRIVER_HEADER + PAYLOAD, PATIENCE)?;
    let mut message: Message = fbuf.ok_or("no buffer came back in time")?.into();
    // The room for the header: cut off, it becomes headroom, into which the header goes in place.
    message.skip(DRIVER_HEADER);
    message.push(&number.to_le_bytes())?;
    Ok(message)
}

/// The domain in the middle.
fn protocol(here: &Address, next: &Address) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(here, ListenOptions { regions: 2, ..ListenOptions::default() })?;
    let Some(Event::Incoming(mut driver)) = endpoint.recv_timeout(PATIENCE) else {
        return Err("no driver has come".into());
    };
    // The driver's region is verified and mapped here, this one's is added, and the application maps
    // both. Only then is the driver accepted: so when it sends, everybody can read.
    let mut pool = pool(PROTOCOL_HEADER, 64)?;
    let path = driver.path()?.then(&pool)?;
    let down = connect(|| endpoint.connect(next, along(path.clone())))?;
    let up = endpoint.accept(driver, b"")?;

    let mut copied = 0;
    loop {
        match endpoint.recv() {
            Event::Message(from, mut delivery) if from == up => {
                let message = delivery.take_message();
                if let Err(error) = pass_on(&mut endpoint, down, &mut pool, message) {
                    eprintln!("protocol: a message was dropped: {error}");
                }
                let copies = |id| endpoint.channel_mut(id).map_or(0, |channel| channel.copied());
                copied = [up, down].into_iter().map(copies).sum();
            }
            // Neither end is of use without the other. What is held of either goes back with them.
            Event::Closed(id, reason) => {
                let who = if id == up { "driver" } else { "application" };
                println!("protocol: {} bytes copied ({who}: {reason})", copied + pool.copied());
                return Ok(());
            }
            _ => {}
        }
    }
}

/// Takes the driver's header off, puts one of this process's before the rest: a message of two regions.
fn pass_on(
    endpoint: &mut Endpoint,
    down: ChannelId,
    pool: &mut Pool,
    mut message: Message,
) -> Result<(), Box<dyn Error>> {
    // Copied out, then believed: the driver could still change it.
    let mut number = [0; DRIVER_HEADER];
    message.pop(&mut number)?;
    let mut header = [0; PROTOCOL_HEADER];
    header[..8].copy_from_slice(&number);
    header[8..].copy_from_slice(&(message.len() as u64).to_le_bytes());
    let down = endpoint.channel_mut(down).ok_or("the application has gone")?;
    // Takes note of the headers that came back.
    down.lent();
    message.push_with(pool, &header)?;
    Ok(down.send_message(0, message, b"")?)
}

/// The last domain.
fn application(here: &Address) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(here, ListenOptions { regions: 2, ..ListenOptions::default() })?;
    let Some(Event::Incoming(protocol)) = endpoint.recv_timeout(PATIENCE) else {
        return Err("no protocol has come".into());
    };
    let up = endpoint.accept(protocol, b"")?;
    let (mut messages, mut bytes, mut sum, mut copied) = (0u64, 0, 0u64, 0);
    let mut begin = None;
    loop {
        match endpoint.recv() {
            Event::Message(_, mut delivery) => {
                begin.get_or_insert_with(Instant::now);
                let mut message = delivery.take_message();
                match read(&mut message, messages) {
                    Ok((read, words)) => (bytes, sum) = (bytes + read, sum.wrapping_add(words)),
                    // A domain before this one took it back, or says what is not so.
                    Err(error) => eprintln!("application: message {messages}: {error}"),
                }
                messages += 1;
                copied = endpoint.channel_mut(up).map_or(copied, |channel| channel.copied());
            }
            Event::Closed(..) => break,
            Event::Incoming(_) => {}
            _ => {}
        }
    }
    let seconds = begin.map_or(0.0, |begin| begin.elapsed().as_secs_f64());
    let rate = bytes as f64 / seconds.max(1e-9) / 1e9;
    println!("application: {messages} messages, {bytes} bytes read once (sum {sum:x})");
    println!("application: {rate:.1} GB/s, {copied} bytes copied");
    Ok(())
}

/// Checks the header, and reads every byte of the payload where it stands: how many, and their sum.
fn read(message: &mut Message, expected: u64) -> Result<(u64, u64), Box<dyn Error>> {
    let mut header = [0; PROTOCOL_HEADER];
    message.pop(&mut header)?;
    let (number, len) = header.split_at(8);
    let len = u64::from_le_bytes(len.try_into()?);
    if u64::from_le_bytes(number.try_into()?) != expected || len != message.len() as u64 {
        return Err("the header is not as it should be".into());
    }
    let mut sum = 0u64;
    for part in message.parts() {
        // Of another domain, which may change it while it is read: sums and copies are all there is.
        let Part::Peer(fbuf) = part else { continue };
        fbuf.for_each_word(|word| sum = sum.wrapping_add(word))?;
    }
    Ok((len, sum))
}

/// A process of the pipeline. Killed when dropped.
struct Stage(Child);

impl Stage {
    fn start(arguments: &[&str]) -> std::io::Result<Self> {
        Ok(Self(Command::new(std::env::current_exe()?).args(arguments).spawn()?))
    }

    /// Waits for its end.
    fn ends(&mut self) -> Result<(), Box<dyn Error>> {
        let status = self.0.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a process has failed: {status}").into())
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended, and been waited for, long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
