//! A path as a test sees it: its first domain, which the test plays, and what is sent along it.

use unet::{
    Address, Channel, Class, ConnectOptions, Endpoint, EndpointOptions, Geometry, ListenOptions,
    Message, Path, Pool, PoolOptions, Quota, ReadError, Wait,
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
    let mut options = ListenOptions { regions: 7, ..ListenOptions::default() };
    options.channel.geometry = geometry();
    endpoint.listen(address, options).expect("the name is free");
    endpoint
}

pub fn connecting(path: Path, wait: Wait, quota: Quota) -> ConnectOptions {
    let mut options = ConnectOptions { path, regions: 7, ..ConnectOptions::default() };
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
    let mut others = vec![role::spawn("roles::role_last", &arguments)];
    others[0].expect("listening");
    for domain in 1..=middles {
        let here = address("path");
        let (step, nth) = fate_of(domain);
        let arguments = [&here.to_string(), &next.to_string(), manner, &wait, &step, &nth];
        let middle = role::spawn("roles::role_middle", &arguments);
        middle.expect("listening");
        others.push(middle);
        *next = here;
    }
    others
}
