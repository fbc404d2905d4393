//! Mediated channels: a client's channel leads to the agent by shared memory, and goes on over the agent's
//! device.
//!
//! ```text
//!   connect:   client ──Request──► policy ──► begin_connect over the network ─ Welcome ─► accept the client
//!   listen:    client ──Request──► policy ──► listen at the port
//!              Hello over the network ──► begin_connect to the client's name ─ Welcome ─► accept the network
//! ```
//!
//! Nobody is waited for: in between stands a [`Pending`], bounded in number and in time.

use std::time::Duration;

use unet::mediated::Introduction;
use unet::{
    Address, AttemptId, ChannelId, ChannelOptions, ConnectError, ConnectOptions, Credentials,
    Incoming, ListenError, ListenOptions, NetworkAddress, Refusal,
};

use crate::agent::{Agent, Asked, Client, Port, Reason, Role, channel_bytes, geometry, port_bytes};

/// How long the other side may take to decide.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many of one user's own connections may have no outcome yet, and how many clients of the network may
/// wait at one port of a user's: strangers who ask there do not keep the user from connecting.
const MAX_PENDING: usize = 32;
const MAX_WAITING_AT_PORT: usize = 16;

/// A connection that was begun for somebody who waits for its outcome.
pub(crate) struct Pending {
    /// Who waits: a client that asked for a channel, or one of the network that asked at a client's port.
    incoming: Incoming,
    /// The client's process.
    who: Credentials,
    asked: Asked,
    /// The port at which a client of the network asked; `None` where the client asked for a channel.
    port: Option<ChannelId>,
}

impl Pending {
    pub fn who(&self) -> Credentials {
        self.who
    }
}

impl Agent {
    /// A client asks for a channel.
    pub(crate) fn connect_for(
        &mut self,
        who: Credentials,
        incoming: Incoming,
        to: NetworkAddress,
        private: Vec<u8>,
    ) {
        let Some((rule, device)) = self.policy.may_connect(who, &to) else {
            return self.refuse(who, incoming, Refusal::Forbidden, Reason::RefusedForbidden);
        };
        let (rule, device) = (rule.clone(), device.clone());
        if self.accounts.user(who.uid, &rule).pending >= MAX_PENDING {
            return self.refuse(who, incoming, Refusal::Busy, Reason::RefusedBusy);
        }
        if !self.reserve(who, &rule, channel_bytes()) {
            return self.refuse(who, incoming, Refusal::Quota, Reason::RefusedQuota);
        }
        let options = ConnectOptions {
            private,
            timeout: PATIENCE,
            network: self.network(&device),
            ..ConnectOptions::default()
        };
        let address = Address::Network(device.address(&to.host, to.port));
        let begun = self.endpoint.begin_connect(&address, options);
        let pending = Pending { incoming, who, asked: Asked::To(to), port: None };
        match begun {
            Ok(attempt) => self.await_outcome(attempt, pending),
            Err(error) => self.not_connected(pending, error),
        }
    }

    fn await_outcome(&mut self, attempt: AttemptId, pending: Pending) {
        if let Some(count) = self.undecided(&pending) {
            *count += 1;
        }
        self.pending.insert(attempt, pending);
    }

    /// Where those are counted that have no outcome yet.
    fn undecided(&mut self, pending: &Pending) -> Option<&mut usize> {
        match pending.port {
            None => self.accounts.user_mut(pending.who.uid).map(|user| &mut user.pending),
            Some(id) => match self.roles.get_mut(id) {
                Some(Role::Port(port)) => Some(&mut port.pending),
                // It was given back meanwhile.
                _ => None,
            },
        }
    }

    /// A client of the network asks at a client's port.
    pub(crate) fn introduce(&mut self, incoming: Incoming) {
        let found = incoming.listened_at().and_then(|at| self.roles.port_at(at));
        let (Some((id, port)), Some(from)) = (found, incoming.address()) else {
            // The port has just been given back.
            return self.endpoint.refuse_because(incoming, Refusal::Other);
        };
        let (who, at, name) = (port.who, port.at.clone(), port.name.clone());
        let waiting = port.pending;
        let Some(rule) = self.policy.rule(who).cloned() else {
            return self.endpoint.refuse_because(incoming, Refusal::Other);
        };
        let introduction = Introduction { from, private: incoming.private().to_vec() };
        let Ok(private) = introduction.encode() else {
            return self.refuse(who, incoming, Refusal::PrivateTooLarge, Reason::RefusedMalformed);
        };
        if waiting >= MAX_WAITING_AT_PORT {
            return self.refuse(who, incoming, Refusal::Busy, Reason::RefusedBusy);
        }
        if !self.reserve(who, &rule, channel_bytes()) {
            return self.refuse(who, incoming, Refusal::Busy, Reason::RefusedQuota);
        }
        let limit = incoming.limit().and_then(|limit| u16::try_from(limit).ok());
        let options = ConnectOptions {
            channel: ChannelOptions { geometry: geometry(), ..ChannelOptions::default() },
            // The name is that very user's, or the client is not told of anybody.
            policy: unet::Policy::Users(vec![who.uid]),
            private,
            timeout: PATIENCE,
            limit,
            ..ConnectOptions::default()
        };
        let begun = self.endpoint.begin_connect(&Address::Shm(name), options);
        let pending = Pending { incoming, who, asked: Asked::At(at), port: Some(id) };
        match begun {
            Ok(attempt) => self.await_outcome(attempt, pending),
            Err(error) => self.not_connected(pending, error),
        }
    }

    /// What became of a connection that was begun.
    pub(crate) fn connected(
        &mut self,
        attempt: AttemptId,
        outcome: Result<ChannelId, ConnectError>,
    ) {
        let Some(pending) = self.pending.remove(&attempt) else {
            if let Ok(id) = outcome {
                self.endpoint.close(id);
            }
            return;
        };
        if let Some(count) = self.undecided(&pending) {
            *count -= 1;
        }
        match outcome {
            Ok(id) => self.join(pending, id),
            Err(error) => self.not_connected(pending, error),
        }
    }

    /// The other side has agreed: now who waits is told, and both are one.
    fn join(&mut self, pending: Pending, reached: ChannelId) {
        let Pending { incoming, who, asked, port } = pending;
        let introduced = port.is_some();
        // The policy may have changed meanwhile.
        let allowed = match &asked {
            Asked::To(to) => self.policy.may_connect(who, to),
            Asked::At(at) => self.policy.may_listen(who, at),
        };
        let Some(rule) = allowed.map(|(rule, _)| rule.clone()) else {
            self.unreserve(who, channel_bytes());
            self.endpoint.close(reached);
            return self.refuse(who, incoming, Refusal::Forbidden, Reason::RefusedForbidden);
        };
        let (private, limit) = match self.endpoint.channel_mut(reached) {
            Some(channel) => (channel.private().to_vec(), channel.limit()),
            None => (Vec::new(), 0),
        };
        let accepted = if introduced {
            self.endpoint.accept(incoming, &private)
        } else {
            let limit = u16::try_from(limit).unwrap_or(u16::MAX);
            self.endpoint.accept_limited(incoming, &private, limit)
        };
        let Ok(accepted) = accepted else {
            self.unreserve(who, channel_bytes());
            return self.endpoint.close(reached);
        };
        let (client, network) = if introduced { (reached, accepted) } else { (accepted, reached) };
        let addresses = self.endpoint.channel_mut(network).map(|channel| {
            let show = |address: Option<std::net::SocketAddr>| {
                address.map(|address| address.to_string()).unwrap_or_default()
            };
            (show(channel.local_address()), show(channel.peer_address()))
        });
        let (local, remote) = addresses.unwrap_or_default();
        // Of a listener, another process of that user may have the name; it is that one's, then.
        let credentials = self.endpoint.channel_mut(client).map(|channel| channel.credentials());
        let who = credentials.unwrap_or(who);
        let process = self.accounts.join(who, &rule);
        let role = Client {
            process,
            who,
            network,
            asked,
            local,
            remote,
            waiting: None,
            sent: (0, 0),
            received: (0, 0),
            dropped: 0,
        };
        self.roles.insert(client, Role::Client(Box::new(role)));
        self.roles.insert(network, Role::Network(client));
    }

    /// It did not come about: who waits is told why.
    fn not_connected(&mut self, pending: Pending, error: ConnectError) {
        let Pending { incoming, who, port, .. } = pending;
        self.unreserve(who, channel_bytes());
        let (refusal, reason) = match error {
            ConnectError::Refused(refusal) => (refusal, Reason::RefusedByPeer),
            // What is the matter with a client is not the network's business.
            _ if port.is_some() => (Refusal::Busy, Reason::RefusedNoAnswer),
            ConnectError::TimedOut | ConnectError::PeerDied => {
                (Refusal::NoAnswer, Reason::RefusedNoAnswer)
            }
            ConnectError::PrivateTooLarge => (Refusal::PrivateTooLarge, Reason::RefusedMalformed),
            error => {
                tracing::warn!(%error, "a device does not do what the policy allows");
                (Refusal::Device, Reason::RefusedDevice)
            }
        };
        self.refuse(who, incoming, refusal, reason);
    }

    /// A client asks for a port.
    pub(crate) fn listen_for(
        &mut self,
        who: Credentials,
        incoming: Incoming,
        at: NetworkAddress,
        name: String,
    ) {
        let Some((rule, device)) = self.policy.may_listen(who, &at) else {
            return self.refuse(who, incoming, Refusal::Forbidden, Reason::RefusedForbidden);
        };
        let (rule, device) = (rule.clone(), device.clone());
        let opened = device.address(&at.host, at.port);
        if self.roles.port_at(&opened).is_some() {
            return self.refuse(who, incoming, Refusal::PortTaken, Reason::RefusedPortTaken);
        }
        let bytes = port_bytes(&device);
        if !self.reserve(who, &rule, bytes) {
            return self.refuse(who, incoming, Refusal::Quota, Reason::RefusedQuota);
        }
        let options = ListenOptions { network: self.network(&device), ..ListenOptions::default() };
        let address = Address::Network(opened.clone());
        if let Err(error) = self.endpoint.listen(&address, options) {
            self.unreserve(who, bytes);
            let taken = ListenError::Open(unet::device::OpenError::AddressInUse);
            if error == taken {
                return self.refuse(who, incoming, Refusal::PortTaken, Reason::RefusedPortTaken);
            }
            tracing::warn!(%error, %address, "a device does not do what the policy allows");
            return self.refuse(who, incoming, Refusal::Device, Reason::RefusedDevice);
        }
        match self.endpoint.accept(incoming, &[]) {
            Ok(id) => {
                let process = self.accounts.join(who, &rule);
                let port = Port { process, who, at, opened, name, bytes, pending: 0 };
                self.roles.insert(id, Role::Port(Box::new(port)));
            }
            Err(_) => {
                self.unreserve(who, bytes);
                self.endpoint.stop_listening(&address);
            }
        }
    }
}
