//! How a device is opened.

use std::time::Duration;

use unet::device::{OpenError, Opening};

use crate::socket::RELEASE;

/// Which way into the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// For the first queue of an interface of software (veth, TUN, bridge): generic, since its driver
    /// would first convert every packet for XDP, which is slower than the kernel's stack doing it. For
    /// its other queues native: behind the generic hook what veth's peer sends on queue N arrives on
    /// N - 1. For hardware the first of zero-copy, native, generic that the driver can do.
    #[default]
    Auto,
    /// Behind the kernel's generic hook.
    Generic,
    /// In the driver, with a copy.
    Native,
    /// In the driver, without.
    ZeroCopy,
}

/// Polling of the driver in this process's system calls, instead of by interrupts. Where the driver can:
/// on veth it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long a system call may poll.
    pub micros: u16,
    /// How many packets it handles at most.
    pub budget: u16,
}

/// How a device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which way into the interface.
    pub way: Way,
    /// The UDP port whose packets are ours; any that is free, if 0.
    pub port: u16,
    /// Keep the port from the kernel's sockets, and the kernel from refusing what comes for it to a queue
    /// that is not ours. Not for the second queue of the same port in one process.
    pub reserve: bool,
    /// How many buffers; half of them are for receiving.
    pub buffers: u32,
    /// Bytes of a buffer, 2048 or 4096; 256 of them are the kernel's. 4096 for an MTU that does not fit
    /// into one of 2048, if `None`.
    pub buffer_bytes: Option<u32>,
    /// Use frames of several pieces; where the interface's MTU needs it, if `None`.
    pub pieces: Option<bool>,
    /// Use 2 MiB pages, which an administrator must have set aside.
    pub huge_pages: bool,
    /// Polling of the driver.
    pub busy_poll: Option<BusyPoll>,
    /// How long opening waits for the queue's last socket to be released.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            way: Way::Auto,
            port: 0,
            reserve: true,
            buffers: 2048,
            buffer_bytes: None,
            pieces: None,
            huge_pages: false,
            busy_poll: None,
            patience: RELEASE,
        }
    }
}

/// The options of an address, in the words of [`Opening::only_options`].
pub const KNOWN: &str = "mode, frames, frame-bytes, huge-pages, busy-poll, busy-poll-budget, agent";

impl Options {
    /// The options of an address: `mode=auto|generic|native|zero-copy`, `frames=N` (buffers),
    /// `frame-bytes=2048|4096`, `huge-pages=yes|no`, `busy-poll=MICROSECONDS`, `busy-poll-budget=N`.
    ///
    /// # Errors
    /// [`OpenError::UnknownOption`], [`OpenError::BadValue`].
    pub fn of(opening: &Opening<'_>) -> Result<Self, OpenError> {
        opening.only_options(KNOWN)?;
        let mut options = Self { port: opening.port, ..Self::default() };
        options.way = match opening.option("mode") {
            None | Some("auto") => Way::Auto,
            Some("generic") => Way::Generic,
            Some("native") => Way::Native,
            Some("zero-copy") => Way::ZeroCopy,
            _ => return Err(OpenError::BadValue("mode=auto, generic, native or zero-copy")),
        };
        let buffers = number(opening, "frames", "frames=N, from 16 to 65536")?;
        let asked = buffers.unwrap_or(opening.buffers.max(16));
        if !(16..=65_536).contains(&asked) {
            return Err(OpenError::BadValue("frames=N, from 16 to 65536"));
        }
        options.buffers = asked as u32;
        options.buffer_bytes = match number(opening, "frame-bytes", "frame-bytes=2048 or 4096")? {
            None => None,
            Some(bytes @ (2048 | 4096)) => Some(bytes as u32),
            Some(_) => return Err(OpenError::BadValue("frame-bytes=2048 or 4096")),
        };
        options.huge_pages = match opening.option("huge-pages") {
            None | Some("no") => false,
            Some("yes") => true,
            _ => return Err(OpenError::BadValue("huge-pages=yes or no")),
        };
        let micros = number(opening, "busy-poll", "busy-poll=MICROSECONDS, below 65536")?;
        let budget = number(opening, "busy-poll-budget", "busy-poll-budget=N, below 65536")?;
        let short = |value: usize| {
            let wrong = OpenError::BadValue("busy-poll and busy-poll-budget below 65536");
            u16::try_from(value).map_err(|_| wrong)
        };
        options.busy_poll = match (micros, budget) {
            (None, None) => None,
            (None, Some(_)) => return Err(OpenError::BadValue("busy-poll-budget with busy-poll")),
            (Some(micros), budget) => {
                Some(BusyPoll { micros: short(micros)?, budget: short(budget.unwrap_or(64))? })
            }
        };
        Ok(options)
    }
}

fn number(
    opening: &Opening<'_>,
    name: &str,
    should: &'static str,
) -> Result<Option<usize>, OpenError> {
    let value = opening.option(name).map(str::parse);
    value.transpose().map_err(|_| OpenError::BadValue(should))
}

/// Which queues of an interface a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// This one.
    One(u32),
    /// All that there are.
    Every,
}

/// The interface and the queues of `eth0` (the first), `eth0/3` or `eth0/all`.
///
/// # Errors
/// [`OpenError::BadValue`].
pub fn interface_and_queues(device: &str) -> Result<(&str, Queues), OpenError> {
    let wrong = OpenError::BadValue("an interface and a queue, such as eth0/1, or eth0/all");
    match device.split_once('/') {
        None if device.is_empty() => Err(wrong),
        None => Ok((device, Queues::One(0))),
        Some((name, "all")) => Ok((name, Queues::Every)),
        Some((name, queue)) => {
            queue.parse().map(|queue| (name, Queues::One(queue))).map_err(|_| wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[(&str, &str)]) -> Result<Options, OpenError> {
        let pairs: Vec<_> = text.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let (local, remote) = (None, None);
        Options::of(&Opening {
            device: "v0",
            local,
            port: 7,
            remote,
            options: &pairs,
            buffers: 256,
        })
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let options = parse(&[("mode", "native"), ("frames", "512"), ("busy-poll", "20")]);
        let options = options.expect("all known");
        assert_eq!((options.way, options.buffers, options.port), (Way::Native, 512, 7));
        assert_eq!(options.busy_poll, Some(BusyPoll { micros: 20, budget: 64 }));
        assert_eq!(parse(&[]).expect("none").buffers, 256);
        assert_eq!(parse(&[("colour", "red")]), Err(OpenError::UnknownOption(KNOWN)));
        for wrong in [
            ("mode", "fast"),
            ("frames", "0"),
            ("frames", "many"),
            ("frame-bytes", "8192"),
            ("huge-pages", "2"),
            ("busy-poll", "70000"),
            ("busy-poll-budget", "8"),
        ] {
            assert!(matches!(parse(&[wrong]), Err(OpenError::BadValue(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_device_is_an_interface_and_a_queue() {
        assert_eq!(interface_and_queues("eth0"), Ok(("eth0", Queues::One(0))));
        assert_eq!(interface_and_queues("eth0/3"), Ok(("eth0", Queues::One(3))));
        assert_eq!(interface_and_queues("eth0/all"), Ok(("eth0", Queues::Every)));
        for wrong in ["", "eth0/", "eth0/x", "eth0/-1"] {
            assert!(interface_and_queues(wrong).is_err(), "{wrong}");
        }
    }
}
