//! The service of these tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Call, Message, service};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum NotFound {
    Never,
    Gone { since: u64 },
}

#[service(name = "everywhere", version = 1)]
pub trait Everywhere {
    fn double(&self, number: u64) -> u64;
    fn join(&self, parts: Vec<&str>, with: &str) -> String;
    fn find(&self, key: &str) -> Result<u64, NotFound>;
    /// The length of the key, and the sum of the bytes.
    fn sum(&self, key: &str, bytes: Message) -> u64;
    /// So many bytes of that value.
    fn make(&self, call: &Call<'_>, len: u32, value: u8) -> Result<Message, NotFound>;
    fn zeros(&self, len: u32) -> Vec<u8>;
    fn panic(&self);
    #[one_way]
    fn count(&self, by: u64);
    fn counted(&self) -> u64;
    /// Keeps the server's thread.
    fn sleep(&self, millis: u64);
    #[deadline("1s")]
    fn until(&self, number: u64) -> u64;
    /// Until the test lets it go.
    #[slow]
    fn slowly(&self, text: &str) -> String;
    #[slow]
    #[deadline("1s")]
    fn slow_until(&self, number: u64) -> u64;
    #[slow]
    fn slow_panic(&self);
    /// Counts down along a chain of calls, and adds one on the way back.
    fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, String>;
    /// How much time is left at the end of such a chain, in microseconds.
    #[deadline("20s")]
    fn left(&self, call: &Call<'_>, depth: u32) -> u64;
    /// Writes that it began; a server that is to be killed never ends it.
    #[idempotent]
    fn look(&self, number: u64) -> u64;
    /// The same, but it may not be repeated.
    fn change(&self, number: u64) -> u64;
}

/// What a test sees of the handler, and tells it.
#[derive(Default)]
pub struct Seen {
    pub counted: AtomicU64,
    pub sleeps: AtomicU64,
    pub until: AtomicU64,
    /// Slow calls that began, and that may end.
    pub slow: AtomicU64,
    pub go: AtomicU64,
}

/// Goes on with a chain of calls.
pub trait Chain: Send + Sync {
    fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, String>;
    fn left(&self, call: &Call<'_>, depth: u32) -> u64;
}

pub struct Handler {
    pub seen: Arc<Seen>,
    pub next: Option<Box<dyn Chain>>,
    /// What is done when `look` or `change` begins.
    pub began: Box<dyn Fn(u64) + Send + Sync>,
}

impl Handler {
    pub fn new(seen: &Arc<Seen>) -> Self {
        Self { seen: Arc::clone(seen), next: None, began: Box::new(|_| {}) }
    }
}

impl Everywhere for Handler {
    fn double(&self, number: u64) -> u64 {
        number.wrapping_mul(2)
    }

    fn join(&self, parts: Vec<&str>, with: &str) -> String {
        parts.join(with)
    }

    fn find(&self, key: &str) -> Result<u64, NotFound> {
        match key {
            "here" => Ok(7),
            "gone" => Err(NotFound::Gone { since: u64::MAX }),
            _ => Err(NotFound::Never),
        }
    }

    fn sum(&self, key: &str, bytes: Message) -> u64 {
        let bytes = bytes.to_vec().expect("it was not revoked");
        key.len() as u64 + bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    }

    fn make(&self, call: &Call<'_>, len: u32, value: u8) -> Result<Message, NotFound> {
        if value == 0 {
            return Err(NotFound::Never);
        }
        let mut buffer = call.alloc(len as usize).expect("a buffer is free");
        buffer.fill(value);
        Ok(buffer.freeze().into())
    }

    fn zeros(&self, len: u32) -> Vec<u8> {
        vec![0; len as usize]
    }

    fn panic(&self) {
        panic_quietly();
    }

    fn count(&self, by: u64) {
        self.seen.counted.fetch_add(by, Ordering::SeqCst);
    }

    fn counted(&self) -> u64 {
        self.seen.counted.load(Ordering::SeqCst)
    }

    fn sleep(&self, millis: u64) {
        self.seen.sleeps.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(millis));
    }

    fn until(&self, number: u64) -> u64 {
        self.seen.until.fetch_add(1, Ordering::SeqCst);
        number
    }

    fn slow_until(&self, number: u64) -> u64 {
        self.seen.until.fetch_add(1, Ordering::SeqCst);
        number
    }

    fn slowly(&self, text: &str) -> String {
        let turn = self.seen.slow.fetch_add(1, Ordering::SeqCst);
        until("it is let go", || self.seen.go.load(Ordering::SeqCst) > turn);
        text.to_uppercase()
    }

    fn slow_panic(&self) {
        panic_quietly();
    }

    fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, String> {
        match (&self.next, depth.checked_sub(1)) {
            (Some(next), Some(depth)) => next.descend(call, depth).map(|below| below + 1),
            _ => Ok(0),
        }
    }

    fn left(&self, call: &Call<'_>, depth: u32) -> u64 {
        match (&self.next, depth.checked_sub(1)) {
            (Some(next), Some(depth)) => next.left(call, depth),
            _ => call.remaining().expect("it has a deadline").as_micros() as u64,
        }
    }

    fn look(&self, number: u64) -> u64 {
        (self.began)(number);
        number
    }

    fn change(&self, number: u64) -> u64 {
        (self.began)(number);
        number
    }
}

/// Panics without the hook, whose backtrace keeps a busy machine's server silent for seconds.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("as it was asked to"))
}

/// Waits until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}
