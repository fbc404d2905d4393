//! The domains of a path: the originator, which the test plays, and the roles of the others.

use std::time::Duration;

use allocation_counter::measure;
use segment::failpoint::arm;
use unet::{
    Address, Channel, ChannelId, Class, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    Geometry, ListenOptions, Message, Path, Pool, PoolOptions, Quota, ReadError, Wait,
};

use crate::support::role::{self, Role};
use crate::support::{self, PATIENCE, address};

/// What each middle domain puts before a message.
pub const HEADER: [u8; 8] = *b"a middle";
/// Asks a domain to say what it has seen, and to pass the question on.
pub const REPORT: u16 = 1;
/// Asks the last domain to look for allocations from now on; the number says over how many messages.
pub const MEASURE: u16 = 2;
/// Asks a middle domain to close its channel to the next one.
pub const PART: u16 = 3;
/// What is to be answered by a message of the last domain's own.
pub const ANSWER: u16 = 4;

/// A region of some buffers of every size that the tests use.
pub fn pool() -> Pool {
    let mut classes = <[Class; 6]>::default();
    classes[0] = Class { buffer_bytes: 2048, buffers: 64 };
    classes[1] = Class { buffer_bytes: 65_536, buffers: 16 };
    classes[2] = Class { buffer_bytes: 1 << 20, buffers: 4 };
    Pool::new(PoolOptions { classes, ..PoolOptions::default() }).expect("memory for a region")
}

fn geometry() -> Geometry {
    Geometry { slots: 128, ..support::small() }
}

pub fn listening(address: &Address, wait: Wait) -> Endpoint {
    let options = EndpointOptions { wait, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    let mut options = ListenOptions::default();
    options.channel.geometry = geometry();
    endpoint.listen(address, options).expect("the name is free");
    endpoint
}

pub fn connecting(path: Path, wait: Wait, quota: Quota) -> ConnectOptions {
    let mut options = ConnectOptions { path, ..ConnectOptions::default() };
    options.channel.geometry = geometry();
    options.channel.wait = wait;
    options.channel.quota = quota;
    options
}

/// The numbers by which the kernel knows the regions of a path.
pub fn inodes(path: &Path) -> Vec<u64> {
    let inode = |fd| rustix::fs::fstat(fd).expect("it is open").st_ino;
    path.descriptors().map(inode).collect()
}

/// A process's mappings of files with these numbers.
pub fn shared_maps(pid: u32, inodes: &[u64]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("procfs is mounted");
    let is_one = |line: &&str| {
        let inode = line.split_whitespace().nth(4).and_then(|inode| inode.parse().ok());
        inode.is_some_and(|inode| inodes.contains(&inode))
    };
    maps.lines().filter(is_one).map(str::to_owned).collect()
}

/// The bytes of a message: its number, and what follows from it.
pub fn fill(number: u64, len: usize) -> Vec<u8> {
    let bytes = (8..len).map(|at| byte(number, at));
    number.to_le_bytes().into_iter().take(len).chain(bytes).collect()
}

fn byte(number: u64, at: usize) -> u8 {
    (number as usize).wrapping_mul(31).wrapping_add(at.wrapping_mul(7)) as u8
}

/// The number of a message, if every byte is as it was sent.
pub fn check(message: &mut Message, headers: usize) -> Result<u64, String> {
    let mut word = [0; 8];
    let revoked = |error: ReadError| format!("{error:?}");
    for _ in 0..headers {
        message.pop(&mut word).map_err(revoked)?;
        if word != HEADER {
            return Err(format!("{word:?} is no header"));
        }
    }
    message.peek(0, &mut word).map_err(revoked)?;
    let number = u64::from_le_bytes(word);
    let (mut at, mut wrong) = (0, None);
    let each = |bytes: &[u8]| {
        for got in bytes {
            if at >= 8 && *got != byte(number, at) {
                wrong.get_or_insert(at);
            }
            at += 1;
        }
    };
    message.for_each_chunk(each).map_err(revoked)?;
    wrong.map_or(Ok(number), |at| Err(format!("byte {at} of message {number} is wrong")))
}

/// A path as a test sees it: its first domain, and the processes of the others, the last one first.
pub struct Line {
    pub pool: Pool,
    pub channel: Channel,
    pub others: Vec<Role>,
}

impl Line {
    /// A path with so many middle domains; the last one behaves in that manner.
    pub fn new(middles: usize, manner: &str, wait: Wait) -> Self {
        Self::with_quota(middles, manner, wait, Quota::default())
    }

    pub fn with_quota(middles: usize, manner: &str, wait: Wait, quota: Quota) -> Self {
        let mut next = address("path");
        let others = start(middles, manner, wait, &mut next, None);
        let pool = pool();
        let path = Path::of(&pool).expect("it is a region");
        let channel = Channel::connect(&next, connecting(path, wait, quota)).expect("connected");
        Self { pool, channel, others }
    }

    /// A message of one part with that number.
    pub fn message(&mut self, number: u64, len: usize) -> Message {
        let bytes = fill(number, len);
        let fbuf = self.channel.alloc_from_timeout(&mut self.pool, len, PATIENCE);
        let mut fbuf = fbuf.expect("they come back").expect("in time");
        fbuf.copy_from_slice(&bytes);
        fbuf.freeze().into()
    }

    pub fn send(&mut self, number: u64, len: usize) {
        let message = self.message(number, len);
        self.channel.send_message(0, message, b"").expect("the next domain is there");
    }

    /// Sends messages and takes the answers, until the path is at its end.
    pub fn converse(&mut self) -> unet::CloseReason {
        for number in 0.. {
            let message = self.message(number, 1000 + number as usize % 500);
            if self.channel.send_message(ANSWER, message, b"").is_err() {
                break;
            }
            // One is under way while the next is written.
            if number % 2 == 1 && (0..2).any(|_| self.channel.recv().is_err()) {
                break;
            }
        }
        while self.channel.recv().is_ok() {}
        self.channel.closed().expect("else it goes on")
    }

    /// Asks everybody what they have seen; the answers, the last domain's first.
    pub fn report(&mut self) -> Vec<String> {
        self.channel.send_message(REPORT, Message::new(), b"").expect("there is room");
        self.others.iter().map(|role| role.word().expect("it answers")).collect()
    }

    /// What everybody has to say now, the last domain first.
    pub fn words(&self) -> Vec<Option<String>> {
        self.others.iter().map(Role::word).collect()
    }

    /// Waits until every buffer of the originator is free.
    pub fn all_free(&mut self) {
        let Self { pool, channel, .. } = self;
        support::eventually("every buffer is free again", || {
            channel.lent() == (0, 0) && pool.free() == pool.total()
        });
    }
}

/// A domain that dies: which one, counted from the last; at which step; at the how manieth time.
pub type Fate<'a> = Option<(usize, &'a str, u32)>;

/// Starts the domains after the first; `next` is where the first one connects to.
pub fn start(
    middles: usize,
    manner: &str,
    wait: Wait,
    next: &mut Address,
    fate: Fate<'_>,
) -> Vec<Role> {
    let wait = format!("{wait:?}");
    let headers = if manner == "bare" { 0 } else { middles };
    let fate_of = |domain| match fate {
        Some((who, step, nth)) if who == domain => (step.to_owned(), nth.to_string()),
        _ => ("none".to_owned(), "0".to_owned()),
    };
    let (step, nth) = fate_of(0);
    let arguments = [&next.to_string(), manner, &headers.to_string(), &wait, &step, &nth];
    let mut others = vec![role::spawn("domains::role_last", &arguments)];
    others[0].expect("listening");
    for domain in 1..=middles {
        let here = address("path");
        let (step, nth) = fate_of(domain);
        let arguments = [&here.to_string(), &next.to_string(), manner, &wait, &step, &nth];
        let middle = role::spawn("domains::role_middle", &arguments);
        middle.expect("listening");
        others.push(middle);
        *next = here;
    }
    others
}

pub fn wait_of(name: &str) -> Wait {
    support::WAITS.into_iter().find(|wait| format!("{wait:?}") == name).expect("it is a wait")
}

pub fn arm_step(step: &str, nth: &str) {
    let nth = nth.parse().expect("a number");
    if step != "none" {
        assert!(arm(step, nth, rustix::process::Signal::KILL), "{step} is a step");
    }
}

/// The first domain, where it is no test: it sends until it cannot. Its arguments: the next domain's
/// address, how it waits, and the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_first() {
    let Some(arguments) = role::arguments() else { return };
    let [next, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let pool = pool();
    let options = connecting(Path::of(&pool).expect("a region"), wait_of(wait), Quota::default());
    let address = next.parse().expect("an address");
    let channel = Channel::connect(&address, options).expect("it listens");
    let mut line = Line { pool, channel, others: Vec::new() };
    let why = line.converse();
    role::say(&format!("{why:?}"));
}

/// A domain in the middle. Its arguments: its own address, the next one's, the manner, how it waits, and
/// the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_middle() {
    let Some(arguments) = role::arguments() else { return };
    let [here, next, manner, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let wait = wait_of(wait);
    let mut endpoint = listening(&here.parse().expect("an address"), wait);
    role::say("listening");
    let Some(Event::Incoming(mut incoming)) = endpoint.recv_timeout(PATIENCE) else {
        return role::say("nobody came");
    };
    let pool = pool();
    let path = incoming.path().expect("it is sealed").then(&pool).expect("it is a region");
    let options = connecting(path, wait, Quota::default());
    let down = match endpoint.connect(&next.parse().expect("an address"), options) {
        Ok(down) => down,
        Err(error) => return role::say(&format!("not connected: {error:?}")),
    };
    let channel = endpoint.channel_mut(down).expect("just connected");
    let back = channel.path().then(&pool).expect("it is a region");
    let up = match endpoint.accept_along(incoming, b"", &back) {
        Ok(up) => up,
        Err(error) => return role::say(&format!("not accepted: {error:?}")),
    };
    drop(back);
    let mut middle = Middle { endpoint, pool, up, down, headers: manner != "bare" };
    let end = middle.live();
    let (free, total) = (middle.pool.free(), middle.pool.total());
    drop(middle.endpoint);
    role::say(&format!("{end}; {} of {total} free", free));
}

struct Middle {
    endpoint: Endpoint,
    pool: Pool,
    up: ChannelId,
    down: ChannelId,
    headers: bool,
}

impl Middle {
    /// Passes messages on until one of the neighbours is gone; which one, and how.
    fn live(&mut self) -> String {
        let mut delivery = Delivery::default();
        loop {
            match self.endpoint.recv_into(&mut delivery) {
                unet::Arrival::Message(from) => {
                    if let Some(end) = self.pass_on(from, &mut delivery) {
                        return end;
                    }
                }
                unet::Arrival::Other => match self.endpoint.take_event() {
                    Some(Event::Closed(id, why)) => {
                        let which = if id == self.up { "up" } else { "down" };
                        // What it passed on comes back with the channels.
                        self.endpoint.close(self.down);
                        self.endpoint.close(self.up);
                        return format!("{which} {why:?}");
                    }
                    other => return format!("{other:?}"),
                },
            }
        }
    }

    fn pass_on(&mut self, from: ChannelId, delivery: &mut Delivery) -> Option<String> {
        let (tag, mut message) = (delivery.tag(), delivery.take_message());
        match tag {
            REPORT => self.say_copied(),
            PART => {
                self.endpoint.close(self.down);
                role::say("parted");
                return None;
            }
            MEASURE => {
                let count = u64::from_le_bytes(delivery.inline().try_into().expect("a number"));
                let down = self.endpoint.channel_mut(self.down)?;
                down.send_message(tag, message, delivery.inline()).expect("it is there");
                let counted = measure(|| (0..count).for_each(|_| self.one(delivery)));
                role::say(&format!("allocated {}", counted.count_total));
                return None;
            }
            _ => {}
        }
        if self.headers && !message.is_empty() {
            let pushed = message.push_with(&mut self.pool, &HEADER);
            assert_eq!(pushed, Ok(()), "headers come back as quickly as messages");
        }
        let to = if from == self.up { self.down } else { self.up };
        let channel = self.endpoint.channel_mut(to)?;
        // A refusal shows as the end of the channel, with the next event.
        let sent = channel.send_message(tag, message, delivery.inline());
        match sent {
            Err(unet::SendError::Closed(_)) | Ok(()) => None,
            Err(error) => Some(format!("{error:?}")),
        }
    }

    /// Receives one message and passes it on.
    fn one(&mut self, delivery: &mut Delivery) {
        match self.endpoint.recv_into(delivery) {
            unet::Arrival::Message(from) => assert!(self.pass_on(from, delivery).is_none()),
            unet::Arrival::Other => panic!("nobody was to leave"),
        }
    }

    fn say_copied(&mut self) {
        let mut copied = self.pool.copied();
        for id in [self.up, self.down] {
            copied += self.endpoint.channel_mut(id).expect("it is open").copied();
        }
        role::say(&format!("copied {copied}"));
    }
}

/// The last domain. Its arguments: its address, its manner, how many headers are before each message,
/// how it waits, and the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_last() {
    let Some(arguments) = role::arguments() else { return };
    let [here, manner, headers, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let mut endpoint = listening(&here.parse().expect("an address"), wait_of(wait));
    role::say("listening");
    let pool = pool();
    let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
        return role::say("nobody came");
    };
    let path = Path::of(&pool).expect("it is a region");
    let up = match endpoint.accept_along(incoming, b"", &path) {
        Ok(up) => up,
        Err(error) => return role::say(&format!("not accepted: {error:?}")),
    };
    drop(path);
    let headers = headers.parse().expect("a number");
    let held = Vec::new();
    let mut last = Last { endpoint, pool, up, headers, received: 0, held };
    let end = if manner == "hold" { last.hold() } else { last.check_all() };
    let (free, total) = (last.pool.free(), last.pool.total());
    role::say(&format!("{end}; {} of {total} free", free));
}

struct Last {
    endpoint: Endpoint,
    pool: Pool,
    up: ChannelId,
    headers: usize,
    received: u64,
    held: Vec<Message>,
}

impl Last {
    /// Checks all messages, which are numbered from 0, and answers those that ask for it.
    fn check_all(&mut self) -> String {
        let mut delivery = Delivery::default();
        loop {
            match self.endpoint.recv_into(&mut delivery) {
                unet::Arrival::Message(_) => match self.check_one(&mut delivery) {
                    Ok(()) => {}
                    // A domain before this one is at its end, and so will be the channel.
                    Err(wrong) if wrong == "Revoked" => self.received += 1,
                    Err(wrong) => return wrong,
                },
                unet::Arrival::Other => match self.endpoint.take_event() {
                    Some(Event::Closed(_, why)) => return format!("up {why:?}"),
                    other => return format!("{other:?}"),
                },
            }
        }
    }

    fn check_one(&mut self, delivery: &mut Delivery) -> Result<(), String> {
        match delivery.tag() {
            REPORT => {
                let channel = self.endpoint.channel_mut(self.up).expect("it is open");
                let copied = channel.copied() + self.pool.copied();
                role::say(&format!("received {} copied {copied}", self.received));
                return Ok(());
            }
            MEASURE => {
                let count = u64::from_le_bytes(delivery.inline().try_into().expect("a number"));
                let mut wrong = Ok(());
                let counted = measure(|| {
                    for _ in 0..count {
                        self.endpoint.recv_into(delivery);
                        wrong = std::mem::replace(&mut wrong, Ok(())).and(self.check_one(delivery));
                    }
                });
                role::say(&format!("allocated {}", counted.count_total));
                return wrong;
            }
            _ => {}
        }
        let mut message = delivery.take_message();
        let number = check(&mut message, self.headers)?;
        if number != self.received {
            return Err(format!("{number} came instead of {}", self.received));
        }
        self.received += 1;
        if delivery.tag() == ANSWER {
            let bytes = fill(number, message.len());
            let channel = self.endpoint.channel_mut(self.up).ok_or("it is closed")?;
            let answer = channel.alloc_from_timeout(&mut self.pool, bytes.len(), PATIENCE);
            let answer = answer.map_err(|error| format!("{error:?}"))?;
            let mut answer = answer.ok_or("no buffer came back")?;
            answer.copy_from_slice(&bytes);
            let sent = channel.send_message(ANSWER, answer.freeze().into(), b"");
            sent.map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }

    /// Keeps every message; for each line of the parent's it says what the oldest one reads as, and
    /// gives it back.
    fn hold(&mut self) -> String {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || while role::hear() && tell.send(()).is_ok() {});
        loop {
            match self.endpoint.recv_timeout(Duration::from_millis(1)) {
                Some(Event::Message(_, mut delivery)) => {
                    self.held.push(delivery.take_message());
                    role::say(&format!("held {}", self.held.len()));
                }
                Some(Event::Closed(_, why)) => role::say(&format!("up {why:?}")),
                Some(other) => return format!("{other:?}"),
                None => {}
            }
            if told.try_recv().is_ok() {
                if self.held.is_empty() {
                    return "done".to_owned();
                }
                let mut message = self.held.remove(0);
                let read = check(&mut message, self.headers);
                drop(message);
                role::say(&format!("{read:?}"));
            }
        }
    }
}
