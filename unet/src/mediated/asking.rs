//! How a process asks an agent: for a channel, or for a port.

use segment::Incarnation;
use segment::control::{BindError, Listener};

use super::Request;
use crate::NetworkAddress;
use crate::connecting::connect_here;
use crate::endpoint::ListenError;
use crate::handshake::{ConnectError, ConnectOptions, ListenOptions};
use crate::local::LocalChannel;

/// The options with which the agent is asked for a channel.
pub(crate) fn connect_options(
    address: &NetworkAddress,
    mut options: ConnectOptions,
) -> Result<ConnectOptions, ConnectError> {
    let private = std::mem::take(&mut options.private);
    let request = Request::Connect { to: address.without_via(), private };
    options.private = request.encode().map_err(|_| ConnectError::PrivateTooLarge)?;
    options.policy = options.network.agent.clone();
    Ok(options)
}

/// Asks an agent for a channel, and waits for it.
pub(crate) fn connect(
    address: &NetworkAddress,
    options: ConnectOptions,
) -> Result<LocalChannel, ConnectError> {
    let name = address.via().unwrap_or_default();
    connect_here(name, connect_options(address, options)?)
}

/// Asks an agent for a port: what the clients are introduced to, under which name, and the channel that
/// holds the port.
pub(crate) fn listen(
    address: &NetworkAddress,
    options: &ListenOptions,
) -> Result<(Listener, String, LocalChannel), ListenError> {
    let draw = || Incarnation::draw().ok_or(ListenError::Kernel(rustix::io::Errno::AGAIN));
    // Nobody who was not told can find it; and who finds it is no agent.
    let name = format!("by-agent-{:016x}{:016x}", draw()?.0, draw()?.0);
    let listener = Listener::bind(&name)?;
    let request = Request::Listen { at: address.without_via(), name: name.clone() };
    let private = request.encode().map_err(|_| ListenError::Bind(BindError::InvalidName))?;
    let mut connect = ConnectOptions { private, ..ConnectOptions::default() };
    connect.policy = options.network.agent.clone();
    connect.channel.geometry.slots = *segment::geometry::SLOTS.start();
    let via = address.via().unwrap_or_default();
    let held = connect_here(via, connect).map_err(ListenError::Agent)?;
    Ok((listener, name, held))
}
