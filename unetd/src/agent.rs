//! The agent's one thread: who asks, what ends, and whose turn it is.

mod accounts;
mod answers;
mod bucket;
mod changing;
mod forwarding;
mod roles;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use unet::device::Drivers;
use unet::mediated::{Request, RequestError};
use unet::{
    Address, Arrival, AttemptId, ChannelId, ChannelOptions, Class, CloseReason, Credentials,
    Delivery, Endpoint, EndpointError, EndpointOptions, Event, Geometry, Incoming, ListenError,
    ListenOptions, NetworkOptions, Refusal, Wait,
};

pub(crate) use accounts::{Accounts, ProcessKey, Reason};
pub(crate) use roles::{Asked, Client, Port, Role, Roles};

use crate::modes::mediated::Pending;
use crate::policy::{Device, Policy, Rule};
use crate::report::{Lent, PoisonedRow};

/// How many clients of one user may be between connecting and their first word.
const UNDECIDED_PER_USER: usize = 8;
/// How many channels there are at most, of all users.
const MAX_CHANNELS: usize = 4096;
/// How much a turn takes in.
const BURST: usize = 256;
/// Messages from the network after which a round ends.
const MAX_BROUGHT: usize = 1024;
/// How soon is looked again where a message waits for the network.
const PAUSE: Duration = Duration::from_micros(500);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A name cannot be had.
    #[error("the name {name:?} cannot be had; is another agent running? ({error})")]
    Name {
        /// The name.
        name: String,
        /// What the kernel says.
        error: ListenError,
    },
    /// The endpoint could not be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// The agent.
pub struct Agent {
    pub(crate) endpoint: Endpoint,
    pub(crate) drivers: Drivers,
    pub(crate) policy: Policy,
    pub(crate) roles: Roles,
    pub(crate) accounts: Accounts,
    pub(crate) pending: HashMap<AttemptId, Pending>,
    /// Processes of which a message waits, in the order of their turns.
    ring: std::collections::VecDeque<ProcessKey>,
    /// Messages from the network in this round.
    brought: usize,
    delivery: Delivery,
    /// What direct mode beside it has lent, to be told.
    lent: Lent,
    begun: Instant,
}

/// The agent's half of a client's channel: as large as datagrams want it.
pub(crate) fn geometry() -> Geometry {
    let mut geometry = Geometry { slots: 128, ..Geometry::default() };
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 2 << 10, buffers: 64 };
    geometry.classes[1] = Class { buffer_bytes: 64 << 10, buffers: 8 };
    geometry
}

/// How much of the agent's memory a port takes, with its device.
pub(crate) fn port_bytes(device: &Device) -> u64 {
    channel_bytes() + device.buffers as u64 * (2 << 10)
}

/// How much of the agent's memory a channel takes.
pub(crate) fn channel_bytes() -> u64 {
    let classes = geometry().classes;
    let buffers = classes.iter().map(|c| u64::from(c.buffer_bytes) * u64::from(c.buffers));
    buffers.sum::<u64>() + (16 << 10)
}

impl Agent {
    /// Binds the policy's names.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(policy: Policy, drivers: Drivers) -> Result<Self, StartError> {
        let options = EndpointOptions { wait: Wait::Adaptive, max_channels: 2 * MAX_CHANNELS };
        let mut endpoint = Endpoint::new(options)?;
        for name in &policy.names {
            let options = ListenOptions {
                channel: ChannelOptions { geometry: geometry(), ..ChannelOptions::default() },
                // The policy decides, by the credentials.
                policy: unet::Policy::AnyUser,
                undecided_per_user: Some(UNDECIDED_PER_USER),
                ..ListenOptions::default()
            };
            endpoint
                .listen(&Address::Shm(name.clone()), options)
                .map_err(|error| StartError::Name { name: name.clone(), error })?;
        }
        Ok(Self {
            endpoint,
            drivers,
            policy,
            roles: Roles::default(),
            accounts: Accounts::default(),
            pending: HashMap::new(),
            ring: std::collections::VecDeque::new(),
            brought: 0,
            delivery: Delivery::default(),
            lent: Lent::default(),
            begun: Instant::now(),
        })
    }

    /// Tells it what direct mode, which runs beside it, has lent: for who asks how things are.
    pub fn set_lent(&mut self, lent: Lent) {
        self.lent = lent;
    }

    /// Does what there is to do, and waits at most so long for it. Waits for nobody in particular.
    ///
    /// # Cost
    /// O(active).
    pub fn turn(&mut self, timeout: Duration) {
        let mut delivery = std::mem::take(&mut self.delivery);
        let mut taken = 0;
        while taken < BURST {
            let Some(arrival) = self.endpoint.try_recv_into(&mut delivery) else { break };
            self.arrived(arrival, &mut delivery);
            taken += 1;
        }
        // A round ends when nobody who has a turn left has something to send; what the network brings has no
        // end of its own.
        let mut wait = None;
        if taken < BURST || self.brought >= MAX_BROUGHT {
            self.brought = 0;
            wait = self.begin_round();
        }
        if taken == 0 {
            // What waits for the network or for its rate is not told of by anybody.
            let timeout = wait.map_or(timeout, |wait| wait.clamp(PAUSE, timeout.max(PAUSE)));
            if let Some(arrival) = self.endpoint.recv_timeout_into(&mut delivery, timeout) {
                self.arrived(arrival, &mut delivery);
            }
        }
        self.delivery = delivery;
    }

    fn arrived(&mut self, arrival: Arrival, delivery: &mut Delivery) {
        match arrival {
            Arrival::Message(id) => self.message(id, delivery),
            Arrival::Other => {
                if let Some(event) = self.endpoint.take_event() {
                    self.event(event);
                }
            }
        }
    }

    #[cold]
    fn event(&mut self, event: Event) {
        match event {
            Event::Message(id, mut delivery) => self.message(id, &mut delivery),
            Event::Incoming(incoming) if incoming.listened_at().is_some() => {
                self.introduce(incoming);
            }
            Event::Incoming(incoming) => self.asked(incoming),
            Event::Connected(attempt, outcome) => self.connected(attempt, outcome),
            Event::Closed(id, reason) => self.closed(id, reason),
            _ => {}
        }
    }

    /// A client asks for something.
    fn asked(&mut self, incoming: Incoming) {
        let who = incoming.credentials();
        let Some(rule) = self.policy.rule(who).cloned() else {
            return self.refuse(who, incoming, Refusal::Policy, Reason::RefusedByPolicy);
        };
        // The account begins here, so that everything after this is counted as this user's.
        let _ = self.accounts.user(who.uid, &rule);
        match Request::decode(incoming.private()) {
            Ok(Request::Connect { to, private }) => self.connect_for(who, incoming, to, private),
            Ok(Request::Listen { at, name }) => self.listen_for(who, incoming, at, name),
            Ok(Request::Inspect) => self.inspect(who, incoming, &rule),
            Ok(_) => self.refuse(who, incoming, Refusal::Other, Reason::RefusedMalformed),
            Err(RequestError::Version(_)) => {
                self.refuse(who, incoming, Refusal::Version, Reason::RefusedMalformed);
            }
            Err(_) => self.refuse(who, incoming, Refusal::Other, Reason::RefusedMalformed),
        }
    }

    fn inspect(&mut self, who: Credentials, incoming: Incoming, rule: &Rule) {
        if !self.reserve(who, rule, channel_bytes()) {
            return self.refuse(who, incoming, Refusal::Quota, Reason::RefusedQuota);
        }
        match self.endpoint.accept(incoming, &[]) {
            Ok(id) => {
                let process = self.accounts.join(who, rule);
                self.roles.insert(id, Role::Inspector(who, process));
            }
            Err(_) => self.unreserve(who, channel_bytes()),
        }
    }

    pub(crate) fn refuse(
        &mut self,
        who: Credentials,
        incoming: Incoming,
        why: Refusal,
        reason: Reason,
    ) {
        self.accounts.count(who.uid, reason);
        tracing::debug!(who.uid, who.pid, %why, "refused");
        self.endpoint.refuse_because(incoming, why);
    }

    /// Takes a channel's place and memory out of a user's quota.
    pub(crate) fn reserve(&mut self, who: Credentials, rule: &Rule, bytes: u64) -> bool {
        let user = self.accounts.user(who.uid, rule);
        if user.channels >= rule.channels || user.bytes + bytes > rule.bytes {
            return false;
        }
        user.channels += 1;
        user.bytes += bytes;
        true
    }

    pub(crate) fn unreserve(&mut self, who: Credentials, bytes: u64) {
        if let Some(user) = self.accounts.user_mut(who.uid) {
            user.channels -= 1;
            user.bytes -= bytes;
        }
    }

    pub(crate) fn network(&self, device: &Device) -> NetworkOptions {
        NetworkOptions {
            drivers: self.drivers.clone(),
            buffers: device.buffers,
            ..NetworkOptions::default()
        }
    }

    /// A channel has ended, for whatever reason: so does what depends on it.
    fn closed(&mut self, id: ChannelId, reason: CloseReason) {
        match self.roles.remove(id) {
            Some(Role::Client(client)) => {
                if let CloseReason::Poisoned(fault) = reason {
                    self.accounts.count(client.who.uid, Reason::Poisoned);
                    let fault = fault.name().to_owned();
                    let Credentials { pid, uid, .. } = client.who;
                    self.accounts.remember_poisoned(PoisonedRow { pid, uid, fault });
                }
                self.forget(id, client.who, client.process, channel_bytes());
                self.roles.remove(client.network);
                // Which says good bye.
                self.endpoint.close(client.network);
            }
            Some(Role::Network(client)) => self.end_client(client, reason),
            Some(Role::Port(port)) => {
                self.endpoint.stop_listening(&Address::Network(port.opened));
                self.forget(id, port.who, port.process, port.bytes);
            }
            Some(Role::Inspector(who, process)) => {
                self.forget(id, who, process, channel_bytes());
            }
            None => {}
        }
    }

    /// Ends a client's channel, and tells it why.
    pub(crate) fn end_client(&mut self, id: ChannelId, reason: CloseReason) {
        if let Some(Role::Client(client)) = self.roles.remove(id) {
            self.forget(id, client.who, client.process, channel_bytes());
            self.roles.remove(client.network);
            self.endpoint.close(client.network);
        }
        self.endpoint.close_because(id, reason);
    }

    fn forget(&mut self, id: ChannelId, who: Credentials, process: ProcessKey, bytes: u64) {
        self.accounts.leave(process, id);
        self.unreserve(who, bytes);
    }
}
