//! What a link does now and then: the device's slow matters, and whether peers are still there.

use std::time::{Duration, Instant};

use segment::counters::Counter;

use super::account;
use super::link::{Happened, Link, Phase};
use crate::channel::CloseReason;
use crate::wire::Kind;

/// How often.
pub(super) const PERIOD: Duration = Duration::from_millis(100);
/// How long after a channel was opened the device is maintained, and how often, for it may do better then
/// what it does for that peer.
const SOON: Duration = Duration::from_millis(5);
const HURRIED: u8 = 4;
/// How many words a period may be said to strangers.
pub(super) const STRANGERS: u32 = 64;

impl Link {
    /// Does what is due. Called by whoever looks at the link, every few milliseconds.
    ///
    /// # Cost
    /// A look at the clock; every tenth of a second some system calls and a walk over the channels, and some
    /// system calls a few times after a channel was opened.
    #[cold]
    pub fn attend(&mut self) {
        let now = Instant::now();
        if now < self.next_maintenance {
            return;
        }
        let is_due = now >= self.next_period;
        if is_due {
            self.next_period = now + PERIOD;
        }
        self.hurried = self.hurried.saturating_sub(1);
        let next = if self.hurried > 0 { now + SOON } else { self.next_period };
        self.next_maintenance = next.min(self.next_period);
        match self.device.maintain() {
            Err(error) if !error.is_passing() => return self.fail(error),
            _ => {}
        }
        if is_due {
            self.attend_channels();
        }
    }

    /// A channel was opened.
    pub(super) fn hurry(&mut self) {
        self.hurried = HURRIED;
        self.next_maintenance = self.next_maintenance.min(Instant::now() + SOON);
    }

    /// Does what is due once in a period.
    fn attend_channels(&mut self) {
        self.stale_left = STRANGERS;
        account::publish(&self.counters, &self.device.statistics());
        if !self.outgoing.is_empty() || self.unkicked > 0 {
            self.flush();
        }
        let patience = self.options.silence.as_millis() / PERIOD.as_millis();
        let patience = patience.clamp(4, u128::from(u32::MAX)) as u32;
        for channel in 0..self.channels.len() as u32 {
            self.attend_channel(channel, patience);
        }
    }

    fn attend_channel(&mut self, channel: u32, patience: u32) {
        let Some(state) = self.state(channel) else { return };
        if state.phase != Phase::Open || state.closed.is_some() {
            return;
        }
        if std::mem::take(&mut state.heard) {
            state.silent_for = 0;
            return;
        }
        state.silent_for += 1;
        let (silent, quarter) = (state.silent_for, patience / 4);
        if silent >= patience {
            self.end(channel, CloseReason::PeerSilent);
        } else if silent >= quarter && (silent - quarter).is_multiple_of(quarter.div_ceil(4)) {
            state.counters.add(Counter::Probes, 1);
            self.send_to_peer(channel, Kind::Probe, &[]);
        }
    }

    /// Asks the device to make its descriptor readable when something arrives. `false` if something is there.
    pub fn prepare_to_sleep(&mut self) -> bool {
        self.flush();
        let idle = self.ready.is_empty() && self.happened.is_empty();
        // A device that is down, has no buffer or cannot be watched does not wake: the timer does.
        idle && (self.device.arm().unwrap_or(true) || self.is_starved())
    }

    /// Whether nothing can be received because the application holds every buffer: there is nothing to wait
    /// for but time then, since one that comes back wakes nobody.
    #[cold]
    pub(super) fn is_starved(&mut self) -> bool {
        let before = self.ready.len();
        self.outgoing.is_empty()
            && self.device.pool().free() == 0
            && self.poll().is_ok()
            && self.ready.len() == before
            && self.happened.is_empty()
    }

    /// Takes what happened beside messages: a client that asks, whatever comes on the channels that there
    /// are; a channel's end, once the messages that came on it before were taken.
    #[inline]
    pub fn take_happened(&mut self) -> Option<Happened> {
        if self.happened.is_empty() { None } else { self.take_due() }
    }

    #[cold]
    fn take_due(&mut self) -> Option<Happened> {
        let is_due = |happened: &Happened| match happened {
            Happened::Asked(..) => true,
            Happened::Closed(channel, _) => {
                let state = self.channels.get(*channel as usize).and_then(Option::as_ref);
                state.is_none_or(|state| state.queued == 0)
            }
        };
        let place = self.happened.iter().position(is_due)?;
        self.happened.remove(place)
    }

    /// Takes a client that asks, also before messages that came earlier.
    pub fn take_asked(&mut self) -> Option<Happened> {
        let asks = |happened: &Happened| matches!(happened, Happened::Asked(..));
        let place = self.happened.iter().position(asks)?;
        self.happened.remove(place)
    }

    /// How long nobody needs to look at the link, if nothing comes.
    pub fn idle_for(&self) -> Duration {
        self.next_maintenance.saturating_duration_since(Instant::now())
    }
}
