//! The way to the server that a run's measurements share.

use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use unet::NetworkAddress;

use crate::cli::Options;
use crate::cpus::Cpus;
use crate::fault::{During, Failure, Fault};
use crate::network::address::{self, Transport};
use crate::network::netns;
use crate::process::connection::Connection;
use crate::process::leash::Leash;
use crate::process::server::Server;

/// IPv6's and UDP's headers.
const HEADERS: usize = 40 + 8;
/// Room for a U-Net header, so that all systems carry messages of one size.
const OURS: usize = 64;

/// The way to a server across a network.
pub struct Way {
    address: NetworkAddress,
    servers: Vec<SocketAddr>,
    leash: Option<Leash>,
}

impl Way {
    /// Takes the calling thread to its namespace, and starts the server unless there is one already.
    /// `None` where no network is asked for.
    pub fn open(options: &Options, cpus: Cpus) -> Result<Option<Self>, Failure> {
        let usage = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        if options.client_device.is_some() && options.transport == Transport::Host {
            return usage("--client-device is for --transport xdp:DEVICE@HOST:PORT.");
        }
        let ours = options.client_device.as_deref();
        match (&options.to, &options.transport, &options.netns[..]) {
            (None, Transport::Host, []) => Ok(None),
            (None, Transport::Host, _) => {
                usage("--netns is for networks: give --transport udp:HOST:PORT, or --to.")
            }
            (Some(address), _, spaces @ ([] | [_])) => {
                spaces.iter().try_for_each(|space| netns::enter(space))?;
                Ok(Some(Self::to(address.clone(), None)?))
            }
            (Some(_), ..) => usage("With --to, --netns names the client's namespace only."),
            (None, Transport::Network(address), []) => {
                Self::start(address, ours, [netns::HERE; 2], cpus).map(Some)
            }
            (None, Transport::Network(address), [client, server]) => {
                Self::start(address, ours, [client, server], cpus).map(Some)
            }
            (None, Transport::Network(_), _) => {
                usage("--netns takes two namespaces, the client's and the server's.")
            }
        }
    }

    /// Starts the server at the address, and goes there by a device of our own if it is named.
    fn start(
        address: &NetworkAddress,
        ours: Option<&str>,
        [client, server]: [&str; 2],
        cpus: Cpus,
    ) -> Result<Self, Failure> {
        if address.host.is_empty() {
            let sentence = "The client must know the server's HOST: give it in --transport.";
            return Err(Failure::Usage(sentence.to_owned()));
        }
        let (leash, port) = Leash::start(address, server, cpus)?;
        netns::enter(client)?;
        let device = ours.unwrap_or(&address.device).to_owned();
        Self::to(NetworkAddress { port, device, ..address.clone() }, Some(leash))
    }

    fn to(address: NetworkAddress, leash: Option<Leash>) -> Result<Self, Failure> {
        let servers = address::control(&address).map_err(|error| {
            Failure::Run(format!("There is no host {}: {error}.", address.host))
        })?;
        Ok(Self { address, servers, leash })
    }

    /// Where it leads, as the client has it.
    pub fn address(&self) -> &NetworkAddress {
        &self.address
    }

    /// What records call it.
    pub fn label(&self) -> String {
        address::label(&self.address)
    }

    /// Whether both ends are on this host and read one clock.
    pub fn is_within_host(&self) -> bool {
        self.leash.is_some()
    }

    /// Connects to the server for one measurement.
    pub fn connect(&self) -> Result<Server, Fault> {
        Server::across(Connection::open(&self.address, &self.servers)?)
    }

    /// The largest message that needs one packet only, whatever the system.
    pub fn largest_message(&self) -> Result<usize, Fault> {
        const ASKING: &str = "asking for the MTU of the way";
        let Some(server) = self.servers.first() else { return Err(Fault::PeerGone) };
        let any: SocketAddr =
            if server.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).during(ASKING)?;
        socket.connect(server).during(ASKING)?;
        let mtu = if server.is_ipv4() { ip_mtu(&socket) } else { ipv6_mtu(&socket) };
        // The loopback device's packets are larger than any network's.
        let mtu = mtu.during(ASKING)?.min(9000) as usize;
        Ok(mtu.saturating_sub(HEADERS + OURS).max(size_of::<u64>()))
    }
}
