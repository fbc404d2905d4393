//! An endpoint's devices: looked at in turn, beside the channels of this host.

use std::time::Duration;

use rustix::io::{Errno, read};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use segment::control::timespec;
use segment::counters::Counter;
use segment::wait::{Step, Waiter};
use std::os::fd::AsFd;

use super::{Arrival, ChannelId, Endpoint, Event, ListenError};
use crate::channel::Channel;
use crate::handshake::{ConnectError, ConnectOptions, ListenOptions, Refusal};
use crate::incoming::Incoming;
use crate::network::{self, Asking, Greeting, Happened, RemoteChannel, Shared, Spin, lock};
use crate::readiness::Source;
use crate::{Delivery, LinkStatus, NetworkAddress};

/// Messages over networks after which clients that ask are heard though more of them are there.
const MESSAGES_BEFORE_CLIENTS: u32 = 32;

/// A link, and which entry each of its channels has.
pub(super) struct LinkEntry {
    link: Shared,
    /// Where it listens.
    listens_at: Option<NetworkAddress>,
    /// What connects by it; `None` for one that listens, or did.
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

impl Leads {
    fn of(address: &NetworkAddress, to: &std::net::SocketAddr) -> Self {
        Self {
            scheme: address.scheme.clone(),
            device: address.device.clone(),
            options: address.options.clone(),
            ipv6: to.is_ipv6(),
        }
    }
}

impl LinkEntry {
    pub fn channels(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    fn has_failed(&self) -> bool {
        lock(&self.link).has_failed()
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
        self.let_go_of_failed_links();
        let link = network::listen(address, &options.network)?;
        self.add_link(link, Some(address.clone()), None).map_err(ListenError::Kernel)
    }

    /// Lets no further client in at an address. `false` if nothing listens there.
    pub(super) fn stop_listening_on_network(&mut self, address: &NetworkAddress) -> bool {
        let is_it = |entry: &&mut LinkEntry| entry.listens_at.as_ref() == Some(address);
        let Some(entry) = self.links.iter_mut().find(is_it) else { return false };
        entry.listens_at = None;
        lock(&entry.link).listens = false;
        self.sweep_links();
        true
    }

    /// Lets go of devices that listen no more and over which no channel is left.
    pub(super) fn sweep_links(&mut self) {
        let is_of_use = |entry: &LinkEntry| {
            entry.listens_at.is_some() || entry.leads.is_some() || entry.channels() > 0
        };
        for entry in self.links.iter().filter(|entry| !is_of_use(entry)) {
            self.readiness.forget(lock(&entry.link).device().as_fd());
        }
        self.links.retain(is_of_use);
    }

    /// Begins to connect over a network.
    pub(super) fn greet(
        &mut self,
        address: &NetworkAddress,
        options: ConnectOptions,
    ) -> Result<Greeting, ConnectError> {
        self.let_go_of_failed_links();
        let mut leads = None;
        let (link, greeting) = network::greet(address, options, |to| {
            leads = Some(Leads::of(address, to));
            let leads_there = |entry: &&LinkEntry| entry.leads == leads && !entry.has_failed();
            self.links.iter().find(leads_there).map(|entry| entry.link.clone())
        })?;
        if !self.links.iter().any(|entry| std::sync::Arc::ptr_eq(&entry.link, &link)) {
            self.add_link(link, None, leads)?;
        }
        Ok(greeting)
    }

    pub(super) fn connect_over_network(
        &mut self,
        address: &NetworkAddress,
        options: &ConnectOptions,
    ) -> Result<Channel, ConnectError> {
        self.let_go_of_failed_links();
        let leads = |to: &std::net::SocketAddr| Leads::of(address, to);
        let (link, number) = network::connect(address, options, |to| {
            let leads = Some(leads(to));
            let leads_there = |entry: &&LinkEntry| entry.leads == leads && !entry.has_failed();
            self.links.iter().find(leads_there).map(|entry| entry.link.clone())
        })?;
        let wait = options.channel.wait;
        let channel = RemoteChannel::new(link.clone(), number, wait);
        let channel = channel.ok_or(ConnectError::PeerDied)?;
        if !self.links.iter().any(|entry| std::sync::Arc::ptr_eq(&entry.link, &link)) {
            self.add_link(link, None, Some(leads(&channel.address)))?;
        }
        Ok(channel.into())
    }

    /// What a failed device held, such as its port, is free again before another one is opened. One with
    /// channels stays until their ends were told. The endpoint's counters keep what was counted.
    fn let_go_of_failed_links(&mut self) {
        let (readiness, counters) = (&self.readiness, &self.counters);
        self.links.retain(|entry| {
            let stays = !entry.has_failed() || entry.channels() > 0;
            if !stays {
                let mut link = lock(&entry.link);
                readiness.forget(link.device().as_fd());
                counters.absorb(link.counters());
            }
            stays
        });
    }

    /// Makes the timer that wakes who waits for the descriptor.
    pub(super) fn make_timer(&mut self) -> Result<(), Errno> {
        if self.timer.is_none() {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            self.readiness.watch(timer.as_fd(), Source::Timer)?;
            self.timer = Some(timer);
        }
        Ok(())
    }

    fn add_link(
        &mut self,
        link: Shared,
        listens_at: Option<NetworkAddress>,
        leads: Option<Leads>,
    ) -> Result<(), Errno> {
        self.make_timer()?;
        let number = self.links.len() as u32;
        self.readiness.watch(lock(&link).device().as_fd(), Source::Device(number))?;
        self.links.push(LinkEntry { link, listens_at, leads, entries: Vec::new() });
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

    /// Whether nothing else can have a message.
    #[inline]
    pub(super) fn looks_at_link_only(&self) -> bool {
        self.links.len() == 1 && self.active.is_empty() && self.events.is_empty()
    }

    /// Takes a message, or what else happened, from the next link that has something. What `message` still
    /// holds is given back.
    #[inline(never)]
    pub(super) fn look_at_links(&mut self, message: &mut Delivery) -> Option<Arrival> {
        self.look_at_links_while(message, |_| false)
    }

    /// Waits a moment for what may come by the only link, if nothing else can have a message.
    ///
    /// # Errors
    /// What to do next, where nothing came.
    #[inline(never)]
    pub(super) fn wait_at_link(
        &mut self,
        message: &mut Delivery,
        waiter: &mut Waiter,
    ) -> Result<Arrival, Step> {
        if !self.looks_at_link_only() || !self.quiet.is_empty() {
            return Err(waiter.step(0, || false));
        }
        let mut spin = Spin::new(waiter);
        let arrival = self.look_at_links_while(message, |link| spin.again(link));
        arrival.ok_or_else(|| spin.end(self.links.first().map(|entry| &entry.link)))
    }

    #[inline(always)]
    fn look_at_links_while(
        &mut self,
        message: &mut Delivery,
        mut again: impl FnMut(&Shared) -> bool,
    ) -> Option<Arrival> {
        if self.since_asked >= MESSAGES_BEFORE_CLIENTS && self.take_asked() {
            drop(message.take_message());
            return Some(Arrival::Other);
        }
        for _ in 0..self.links.len() {
            self.link_turn += 1;
            if self.link_turn >= self.links.len() {
                self.link_turn = 0;
            }
            let entry = &self.links[self.link_turn];
            let mut link = lock(&entry.link);
            link.give_back(message);
            // Before messages, which may never end.
            if let Some(happened) = link.take_happened() {
                drop(link);
                self.happened(happened);
                return Some(Arrival::Other);
            }
            // A message may have come on a channel that is known only when its listener's answer is.
            let answered = link.answered;
            let number =
                if answered { None } else { link.next(None, message, || again(&entry.link)) };
            if number.is_none() && std::mem::take(&mut link.answered) {
                drop(link);
                self.attend_attempts();
                if !self.events.is_empty() {
                    return Some(Arrival::Other);
                }
                continue;
            }
            if let Some(number) = number {
                self.since_asked += 1;
                let index = entry.entries.get(number as usize).copied().flatten();
                drop(link);
                if let Some(arrival) = index.and_then(|index| self.arrived(index)) {
                    return Some(arrival);
                }
                drop(message.take_message());
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
                self.asked(link, asking, private);
            }
        }
    }

    /// Hears the clients that ask on any link, at most one of each. Whether there is one.
    #[cold]
    fn take_asked(&mut self) -> bool {
        self.since_asked = 0;
        let before = self.events.len();
        for index in 0..self.links.len() {
            let link = self.links[index].link.clone();
            let asked = lock(&link).take_asked();
            if let Some(Happened::Asked(asking, private)) = asked {
                self.asked(link, asking, private);
            }
        }
        self.events.len() > before
    }

    fn asked(&mut self, link: Shared, asking: Asking, private: Vec<u8>) {
        let waiting = |event: &&Event| matches!(event, Event::Incoming(_));
        let undecided = self.events.iter().filter(waiting).count();
        if self.has_space(undecided) {
            let same = |entry: &&LinkEntry| std::sync::Arc::ptr_eq(&entry.link, &link);
            let at = self.links.iter().find(same).and_then(|entry| entry.listens_at.clone());
            let incoming = Incoming::from_network(link, asking, private, at);
            self.events.push_back(Event::Incoming(incoming));
        } else {
            self.counters.add(Counter::RefusedResources, 1);
            lock(&link).refuse_client(asking, Refusal::Busy);
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

    /// How long the thread may sleep without looking after links, and connections that were begun.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        let links = self.links.iter().map(|entry| lock(&entry.link).idle_for()).min();
        links.into_iter().chain(self.attempts_idle_for()).min()
    }

    /// Lets the descriptor become readable when a link is to be looked after.
    pub(super) fn set_timer(&mut self) {
        let (Some(timer), Some(idle)) = (&self.timer, self.idle_for()) else { return };
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
