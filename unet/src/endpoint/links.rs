//! An endpoint's devices: looked at in turn, beside the channels of this host.

use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use segment::control::timespec;
use segment::counters::Counter;
use std::os::fd::AsFd;

use super::{Arrival, ChannelId, Endpoint, Event, ListenError};
use crate::channel::Channel;
use crate::handshake::{ConnectError, ConnectOptions, ListenOptions, Refusal};
use crate::incoming::Incoming;
use crate::network::{self, Happened, RemoteChannel, Shared, lock};
use crate::readiness::Source;
use crate::{Delivery, LinkStatus, NetworkAddress};

/// Messages of this host after which the links are looked at though more of them are there.
const LOCAL_BEFORE_LINKS: u32 = 32;

/// A link, and which entry each of its channels has.
pub(super) struct LinkEntry {
    link: Shared,
    /// What connects by it; `None` for one that listens.
    leads: Option<Leads>,
    /// By the link's number of the channel: the entry's.
    entries: Vec<Option<u32>>,
}

/// What addresses a link can be connected to.
#[derive(PartialEq, Eq)]
struct Leads {
    scheme: String,
    device: String,
    options: Vec<(String, String)>,
    ipv6: bool,
}

impl LinkEntry {
    pub fn channels(&self) -> usize {
        self.entries.iter().flatten().count()
    }
}

/// Forgets a channel of a link.
pub(super) fn leave_link(links: &mut [LinkEntry], channel: &RemoteChannel) {
    let same = |entry: &&mut LinkEntry| std::sync::Arc::ptr_eq(&entry.link, &channel.link);
    if let Some(entry) = links.iter_mut().find(same)
        && let Some(place) = entry.entries.get_mut(channel.number as usize)
    {
        *place = None;
    }
}

impl Endpoint {
    pub(super) fn listen_on_network(
        &mut self,
        address: &NetworkAddress,
        options: ListenOptions,
    ) -> Result<(), ListenError> {
        self.drop_failed_links();
        let link = network::listen(address, &options.network)?;
        self.add_link(link, None).map_err(ListenError::Kernel)
    }

    pub(super) fn connect_over_network(
        &mut self,
        address: &NetworkAddress,
        options: &ConnectOptions,
    ) -> Result<Channel, ConnectError> {
        let leads = |to: &std::net::SocketAddr| Leads {
            scheme: address.scheme.clone(),
            device: address.device.clone(),
            options: address.options.clone(),
            ipv6: to.is_ipv6(),
        };
        self.drop_failed_links();
        let (link, number) = network::connect(address, options, |to| {
            let leads = Some(leads(to));
            let mut links = self.links.iter().filter(|entry| entry.leads == leads);
            links.find(|entry| !lock(&entry.link).has_failed()).map(|entry| entry.link.clone())
        })?;
        let wait = options.channel.wait;
        let channel = RemoteChannel::new(link.clone(), number, wait);
        let channel = channel.ok_or(ConnectError::PeerDied)?;
        if !self.links.iter().any(|entry| std::sync::Arc::ptr_eq(&entry.link, &link)) {
            self.add_link(link, Some(leads(&channel.address)))?;
        }
        Ok(channel.into())
    }

    /// Lets go of devices that are of no more use, once their channels' ends were received: what they held
    /// can be had anew. The endpoint's counters keep what they counted.
    fn drop_failed_links(&mut self) {
        let mut number = 0;
        while let Some(entry) = self.links.get(number) {
            let link = entry.link.clone();
            let mut link = lock(&link);
            if entry.channels() > 0 || !link.has_failed() {
                number += 1;
                continue;
            }
            self.readiness.forget(link.device().as_fd());
            self.counters.absorb(link.counters());
            self.links.swap_remove(number);
            // The last one has taken its place.
            if let Some(moved) = self.links.get(number) {
                let mut moved = lock(&moved.link);
                let device = moved.device();
                self.readiness.forget(device.as_fd());
                // It was watched a moment ago; at worst the timer has it looked at.
                _ = self.readiness.watch(device.as_fd(), Source::Device(number as u32));
            }
        }
    }

    fn add_link(&mut self, link: Shared, leads: Option<Leads>) -> Result<(), Errno> {
        if self.timer.is_none() {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            self.readiness.watch(timer.as_fd(), Source::Timer)?;
            self.timer = Some(timer);
        }
        let number = self.links.len() as u32;
        self.readiness.watch(lock(&link).device().as_fd(), Source::Device(number))?;
        self.links.push(LinkEntry { link, leads, entries: Vec::new() });
        Ok(())
    }

    /// Notes which entry a channel of a link has.
    pub(super) fn enter_link(&mut self, channel: &RemoteChannel, index: u32) {
        let same = |entry: &&mut LinkEntry| std::sync::Arc::ptr_eq(&entry.link, &channel.link);
        let Some(entry) = self.links.iter_mut().find(same) else { return };
        let number = channel.number as usize;
        if entry.entries.len() <= number {
            entry.entries.resize(number + 1, None);
        }
        entry.entries[number] = Some(index);
    }

    /// Looks at the links now and then, where messages of this host never end.
    #[inline(always)]
    pub(super) fn look_at_links_in_turn(&mut self, message: &mut Delivery) -> Option<Arrival> {
        self.since_links += 1;
        if self.since_links < LOCAL_BEFORE_LINKS { None } else { self.look_at_links(message) }
    }

    /// Takes a message, or what else happened, from the next link that has something.
    pub(super) fn look_at_links(&mut self, message: &mut Delivery) -> Option<Arrival> {
        self.since_links = 0;
        for _ in 0..self.links.len() {
            self.link_turn += 1;
            if self.link_turn >= self.links.len() {
                self.link_turn = 0;
            }
            let entry = &self.links[self.link_turn];
            let mut link = lock(&entry.link);
            let number = match link.pop(None, message) {
                Some(number) => Some(number),
                None => {
                    // Its failure ends the channels, which is what happened then.
                    let _ = link.poll();
                    link.pop(None, message)
                }
            };
            if let Some(number) = number {
                let index = entry.entries.get(number as usize).copied().flatten();
                drop(link);
                if let Some(arrival) = index.and_then(|index| self.arrived(index)) {
                    return Some(arrival);
                }
                continue;
            }
            let happened = link.take_happened();
            drop(link);
            if let Some(happened) = happened {
                self.happened(happened);
                return Some(Arrival::Other);
            }
        }
        None
    }

    #[inline(always)]
    fn arrived(&mut self, index: u32) -> Option<Arrival> {
        let generation = self.entries.get(index as usize)?.generation;
        self.last = index as usize;
        if self.pulse.tick() {
            self.service(Some(Duration::ZERO));
        }
        Some(Arrival::Message(ChannelId { index, generation }))
    }

    #[cold]
    fn happened(&mut self, happened: Happened) {
        let entry = &self.links[self.link_turn];
        match happened {
            Happened::Closed(number, reason) => {
                let index = entry.entries.get(number as usize).copied().flatten();
                if let Some(index) = index {
                    self.closed(index, reason);
                }
            }
            Happened::Asked(asking, private) => {
                let link = entry.link.clone();
                let waiting = |event: &&Event| matches!(event, Event::Incoming(_));
                let undecided = self.events.iter().filter(waiting).count();
                if self.has_space(undecided) {
                    let incoming = Incoming::from_network(link, asking, private);
                    self.events.push_back(Event::Incoming(incoming));
                } else {
                    self.counters.add(Counter::RefusedResources, 1);
                    lock(&link).refuse_client(asking, Refusal::Busy);
                }
            }
        }
    }

    /// The endpoint's devices, and what was counted on them.
    ///
    /// # Cost
    /// Some system calls for each.
    pub fn links(&self) -> Vec<LinkStatus> {
        self.links.iter().map(|entry| lock(&entry.link).status()).collect()
    }

    /// Asks the devices to wake the thread. `false` if one of them has something already.
    pub(super) fn arm_links(&mut self) -> bool {
        self.links.iter().all(|entry| lock(&entry.link).prepare_to_sleep())
    }

    /// Looks after the links: what is due, and no more.
    pub(super) fn attend_links(&mut self) {
        for entry in &self.links {
            lock(&entry.link).attend();
        }
    }

    /// How long the thread may sleep without looking after the links.
    pub(super) fn links_idle_for(&self) -> Option<Duration> {
        self.links.iter().map(|entry| lock(&entry.link).idle_for()).min()
    }

    /// Lets the descriptor become readable when a link is to be looked after.
    pub(super) fn set_timer(&mut self) {
        let (Some(timer), Some(idle)) = (&self.timer, self.links_idle_for()) else { return };
        let idle = idle.max(Duration::from_millis(1));
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(idle) };
        // It fails for a time that is none only.
        let _ = timerfd_settime(timer, TimerfdTimerFlags::empty(), &once);
    }

    pub(super) fn take_timer(&mut self) {
        if let Some(timer) = &self.timer {
            // Read, so that it is not readable any more.
            let _ = read(timer, &mut [0; 8]);
        }
    }
}
