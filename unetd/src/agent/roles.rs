//! What each channel of the agent's endpoint is.

use unet::{ChannelId, Credentials, MAX_INLINE, Message, NetworkAddress};

use super::accounts::ProcessKey;

/// A message of a client's that waits for its turn, or for the network.
pub(crate) struct Waiting {
    pub tag: u16,
    pub inline: [u8; MAX_INLINE],
    pub len: u8,
    pub message: Message,
}

impl Waiting {
    pub fn inline(&self) -> &[u8] {
        &self.inline[..usize::from(self.len).min(MAX_INLINE)]
    }

    pub fn bytes(&self) -> usize {
        usize::from(self.len) + self.message.len()
    }
}

/// The client's end of a mediated channel.
pub(crate) struct Client {
    pub process: ProcessKey,
    pub who: Credentials,
    /// The network's end.
    pub network: ChannelId,
    /// What the policy was asked for, to be asked again when it changes: an address that was connected to, or
    /// a port that was listened at.
    pub asked: Asked,
    pub local: String,
    pub remote: String,
    pub waiting: Option<Waiting>,
    pub sent: (u64, u64),
    pub received: (u64, u64),
    pub dropped: u64,
}

/// What a channel is allowed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    To(NetworkAddress),
    At(NetworkAddress),
}

/// A port that a client listens at.
pub(crate) struct Port {
    pub process: ProcessKey,
    pub who: Credentials,
    /// As the client wrote it.
    pub at: NetworkAddress,
    /// As it is opened.
    pub opened: NetworkAddress,
    /// The name at which the client hears of who asks.
    pub name: String,
    /// What it takes of the agent's memory.
    pub bytes: u64,
    /// Clients of the network that wait for a decision there.
    pub pending: usize,
}

/// What a channel is.
pub(crate) enum Role {
    Client(Box<Client>),
    /// The network's end of a mediated channel, and the client's.
    Network(ChannelId),
    Port(Box<Port>),
    /// Somebody who asks how things are.
    Inspector(Credentials, ProcessKey),
}

/// The roles of all channels, by their place in the endpoint.
#[derive(Default)]
pub(crate) struct Roles {
    places: Vec<Option<(ChannelId, Role)>>,
}

impl Roles {
    pub fn insert(&mut self, id: ChannelId, role: Role) {
        let index = id.index();
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.places[index] = Some((id, role));
    }

    #[inline]
    pub fn get_mut(&mut self, id: ChannelId) -> Option<&mut Role> {
        let (own, role) = self.places.get_mut(id.index())?.as_mut()?;
        (*own == id).then_some(role)
    }

    #[inline]
    pub fn client_mut(&mut self, id: ChannelId) -> Option<&mut Client> {
        match self.get_mut(id) {
            Some(Role::Client(client)) => Some(client),
            _ => None,
        }
    }

    pub fn remove(&mut self, id: ChannelId) -> Option<Role> {
        let place = self.places.get_mut(id.index())?;
        if place.as_ref().is_some_and(|(own, _)| *own == id) {
            return place.take().map(|(_, role)| role);
        }
        None
    }

    /// All of them, from a place on.
    pub fn from(&self, first: usize) -> impl Iterator<Item = (usize, ChannelId, &Role)> {
        let places = self.places.iter().enumerate().skip(first);
        places.filter_map(|(index, place)| place.as_ref().map(|(id, role)| (index, *id, role)))
    }

    /// The port that is open at an address.
    pub fn port_at(&self, opened: &NetworkAddress) -> Option<(ChannelId, &Port)> {
        self.from(0).find_map(|(_, id, role)| match role {
            Role::Port(port) if port.opened == *opened => Some((id, &**port)),
            _ => None,
        })
    }
}
