//! What goes wrong how often.

use std::time::Duration;

use crate::description::OptionError;
use crate::{Instant, Message, Options, Participants, Slot};

/// When messages are lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    /// That a burst begins, and that it ends.
    pub begin: f64,
    pub end: f64,
    /// That a message is lost outside of a burst, and inside.
    pub good: f64,
    pub bad: f64,
}

/// The options.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chances {
    pub loss: Loss,
    pub duplicate: f64,
    pub corrupt: f64,
    pub reorder: f64,
    pub delay: Duration,
    pub jitter: Duration,
    pub late: Duration,
    pub held: usize,
    /// Only this way, if not both.
    down: Option<bool>,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Held {
    pub due: Instant,
    pub order: u64,
    pub slot: Slot,
    pub down: bool,
    pub message: Message,
    pub attributes: Participants,
}

const KNOWN: &[&str] = &[
    "seed",
    "way",
    "loss",
    "burst",
    "recover",
    "burst-loss",
    "duplicate",
    "corrupt",
    "delay",
    "jitter",
    "reorder",
    "late",
    "held",
];

impl Chances {
    /// The options, and the seed.
    pub fn from_options(options: &Options) -> Result<(Self, u64), OptionError> {
        options.only(KNOWN)?;
        let chance = |name: &str, otherwise: f64| {
            let wanted = "a probability from 0 to 1";
            Ok::<f64, OptionError>(options.within(name, 0.0..=1.0, wanted)?.unwrap_or(otherwise))
        };
        let time = |name: &str, otherwise: Duration| {
            Ok::<Duration, OptionError>(options.duration(name)?.unwrap_or(otherwise))
        };
        let down = match options.text("way") {
            None | Some("both") => None,
            Some("down") => Some(true),
            Some("up") => Some(false),
            Some(value) => {
                let (name, value) = ("way".to_owned(), value.to_owned());
                return Err(OptionError::Value { name, value, wanted: "up, down or both" });
            }
        };
        let loss = Loss {
            begin: chance("burst", 0.0)?,
            end: chance("recover", 0.25)?,
            good: chance("loss", 0.0)?,
            bad: chance("burst-loss", 1.0)?,
        };
        let chances = Self {
            loss,
            duplicate: chance("duplicate", 0.0)?,
            corrupt: chance("corrupt", 0.0)?,
            reorder: chance("reorder", 0.0)?,
            delay: time("delay", Duration::ZERO)?,
            jitter: time("jitter", Duration::ZERO)?,
            late: time("late", Duration::from_millis(1))?,
            held: options.get("held", "a number of messages")?.unwrap_or(1024),
            down,
        };
        Ok((chances, options.get("seed", "a whole number")?.unwrap_or(0)))
    }

    /// Whether messages that go this way are meant.
    pub fn way(&self, down: bool) -> bool {
        self.down.is_none_or(|only| only == down)
    }
}
