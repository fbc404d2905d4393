//! Channels that their owner wants nothing of for a while: what the peer sends waits in the peer's memory.

use super::{ChannelId, Endpoint, Place};
use crate::channel::Channel;

impl Endpoint {
    /// Receives nothing from a channel of this host until it is released: neither messages nor, until then,
    /// its end. The owner may still take from it ([`Endpoint::channel_mut`]). Over a network it has no
    /// effect.
    ///
    /// # Cost
    /// A walk over the active channels.
    pub fn hold(&mut self, id: ChannelId) {
        // Which disarms it, and makes it active.
        let is_local = self.channel_mut(id).is_some_and(|channel| channel.local().is_some());
        let Some(entry) = self.entries.get_mut(id.index as usize).filter(|_| is_local) else {
            return;
        };
        match std::mem::replace(&mut entry.place, Place::Held) {
            Place::Active => self.active.retain(|other| *other != id.index),
            Place::Quiet => self.quiet.retain(|other| *other != id.index),
            Place::Held | Place::Link => return,
        }
        if entry.armed
            && let Some(channel) = entry.channel.as_mut().and_then(Channel::local_mut)
        {
            channel.sleeper.disarm();
            entry.armed = false;
        }
        self.held += 1;
    }

    /// Watches a held channel no more that has ended: it would keep the thread awake until it is released.
    #[cold]
    pub(super) fn ignore_end(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let ended = entry.local().filter(|channel| channel.closed().is_some());
        if entry.place == Place::Held
            && let Some(channel) = ended
        {
            self.readiness.forget(channel.socket());
            if let Some(pidfd) = channel.pidfd() {
                self.readiness.forget(pidfd);
            }
        }
    }

    /// Ends [`Endpoint::hold`].
    pub fn release(&mut self, id: ChannelId) {
        let is_held = |entry: &&mut super::Entry| {
            entry.generation == id.generation
                && entry.place == Place::Held
                && entry.channel.is_some()
        };
        if let Some(entry) = self.entries.get_mut(id.index as usize).filter(is_held) {
            entry.place = Place::Active;
            entry.vain_looks = 0;
            self.held -= 1;
            self.active.push(id.index);
        }
    }
}
