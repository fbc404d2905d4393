//! How an endpoint comes by names, ports and channels.

use segment::control::Listener;

use super::{ChannelId, Endpoint, Event, ListenError};
use crate::channel::CloseReason;
use crate::connecting::connect_here;
use crate::handshake::{ConnectError, ConnectOptions, ListenOptions};
use crate::{Address, NetworkAddress, Policy, mediated};

/// A port that an agent listens at for this endpoint.
pub(super) struct LentPort {
    address: NetworkAddress,
    /// The name at which the agent introduces the clients.
    name: String,
    /// The channel that holds the port.
    held_by: ChannelId,
}

impl Endpoint {
    /// Binds a name, or a port; clients that ask for it arrive as [`Event::Incoming`]. Held until the
    /// endpoint is dropped, or its process ends in whatever way.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&mut self, address: &Address, options: ListenOptions) -> Result<(), ListenError> {
        if !options.channel.geometry.is_valid() {
            return Err(ListenError::Geometry);
        }
        let name = match address {
            Address::Shm(name) => name,
            Address::Network(address) if address.via().is_some() => {
                return self.listen_by_agent(address, options);
            }
            Address::Network(address) => return self.listen_on_network(address, options),
        };
        let listener = Listener::bind(name)?;
        let name = (name.clone(), false);
        self.listening.add(listener, name, options, &self.readiness).map_err(ListenError::Kernel)
    }

    fn listen_by_agent(
        &mut self,
        address: &NetworkAddress,
        mut options: ListenOptions,
    ) -> Result<(), ListenError> {
        let (listener, name, held) = mediated::listen(address, &options)?;
        // The agent is that very user, and it alone introduces clients.
        options.policy = Policy::Users(vec![held.credentials().uid]);
        let held_by = self.adopt(held.into()).map_err(ListenError::Kernel)?;
        let listening =
            self.listening.add(listener, (name.clone(), true), options, &self.readiness);
        if let Err(errno) = listening {
            self.close(held_by);
            return Err(ListenError::Kernel(errno));
        }
        self.lent.push(LentPort { address: address.clone(), name, held_by });
        Ok(())
    }

    /// Listens at an address no more: clients find nobody there. Channels that it gave stay; a port is free
    /// when the last of them has ended. `false` if nothing listens there.
    pub fn stop_listening(&mut self, address: &Address) -> bool {
        let address = match address {
            Address::Shm(name) => return self.listening.remove(name, &self.readiness),
            Address::Network(address) => address,
        };
        let Some(place) = self.lent.iter().position(|lent| lent.address == *address) else {
            return self.stop_listening_on_network(address);
        };
        let lent = self.lent.swap_remove(place);
        self.listening.remove(&lent.name, &self.readiness);
        self.close(lent.held_by);
        true
    }

    /// Takes note of the end of a channel that held a port.
    pub(super) fn port_is_lost(&mut self, id: ChannelId, reason: CloseReason) -> Option<Event> {
        let place = self.lent.iter().position(|lent| lent.held_by == id)?;
        let lent = self.lent.swap_remove(place);
        self.listening.remove(&lent.name, &self.readiness);
        Some(Event::NotListening(Address::Network(lent.address), reason))
    }

    /// Connects to a listener, and holds the channel. Waits until the listener has decided: not for
    /// a name of this same thread. [`Endpoint::begin_connect`] does not wait.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &mut self,
        address: &Address,
        mut options: ConnectOptions,
    ) -> Result<ChannelId, ConnectError> {
        options.channel.wait = self.wait;
        let channel = match address {
            Address::Shm(name) => connect_here(name, options)?.into(),
            Address::Network(address) if address.via().is_some() => {
                mediated::connect(address, options)?.into()
            }
            Address::Network(address) => self.connect_over_network(address, &options)?,
        };
        self.adopt(channel).map_err(ConnectError::from)
    }
}
