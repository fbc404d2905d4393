//! The way to the server that a run's measurements share.

use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
use unet::NetworkAddress;

use crate::cli::Options;
use crate::cpus::Cpus;
use crate::fault::{During, Failure, Fault};
use crate::network::address::{self, Transport};
use crate::network::netns::{self, Home};
use crate::process::connection::Connection;
use crate::process::leash::Leash;
use crate::process::server::Server;

/// IPv6's and UDP's headers.
const HEADERS: usize = 40 + 8;
/// The MTU of a network that the kernel knows nothing of.
const ETHERNET_MTU: usize = 1500;
/// Room for a U-Net header, so that all systems carry messages of one size.
const OURS: usize = 64;

/// The way to a server across a network.
pub struct Way {
    address: NetworkAddress,
    servers: Vec<SocketAddr>,
    leash: Option<Leash>,
    /// Where the control connection begins, of devices that the kernel knows nothing of.
    home: Option<Home>,
}

impl Way {
    /// Takes the calling thread to its namespace, and starts the server unless there is one already.
    /// `None` where no network is asked for.
    pub fn open(options: &Options, cpus: Cpus) -> Result<Option<Self>, Failure> {
        let usage = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        if options.client_device.is_some() && options.transport == Transport::Host {
            return usage("--client-device is for --transport xdp:DEVICE@HOST:PORT.");
        }
        let ours = options.client_device.as_ref();
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
            (None, Transport::Network(server), spaces) => {
                let client = ours.map_or(server.clone(), |ours| ours.to(server));
                if server.scheme == address::DPDK && ours.is_none() {
                    return usage(
                        "Each end of dpdk: has an address of its own: give the client's in --client-device \
                         PORT?ip=ADDRESS/PREFIX, or both in `serve` and --to.",
                    );
                }
                Self::start(server, client, spaces, cpus).map(Some)
            }
            (None, Transport::Pair(_), _) if ours.is_some() => {
                usage("The benchmark makes both ends of dpdk:net_memif: leave --client-device.")
            }
            (None, Transport::Pair(ends), spaces) => {
                let [server, client] = &**ends;
                Self::start(server, client.clone(), spaces, cpus).map(Some)
            }
        }
    }

    /// Starts the server at its address, each end in its namespace, and goes there by the client's.
    fn start(
        server: &NetworkAddress,
        client: NetworkAddress,
        spaces: &[String],
        cpus: Cpus,
    ) -> Result<Self, Failure> {
        let usage = |sentence: &str| Err(Failure::Usage(sentence.to_owned()));
        if server.host.is_empty() {
            return usage("The client must know the server's HOST: give it in --transport.");
        }
        let [here, there] = match spaces {
            [] => [netns::HERE; 2],
            [here, there] => [here, there].map(String::as_str),
            _ => return usage("--netns takes two namespaces, the client's and the server's."),
        };
        let (leash, port) = Leash::start(server, there, cpus)?;
        let home = address::beside_kernel(&server.scheme).then(Home::new).transpose()?;
        netns::enter(here)?;
        Ok(Self { home, ..Self::to(NetworkAddress { port, ..client }, Some(leash))? })
    }

    fn to(address: NetworkAddress, leash: Option<Leash>) -> Result<Self, Failure> {
        let servers = address::control(&address).map_err(|error| {
            Failure::Run(format!("There is no host {}: {error}.", address.host))
        })?;
        Ok(Self { address, servers, leash, home: None })
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
        Server::across(Connection::open(&self.address, &self.servers, self.home.as_ref())?)
    }

    /// The largest message that needs one packet only, whatever the system.
    pub fn largest_message(&self) -> Result<usize, Fault> {
        const ASKING: &str = "asking for the MTU of the way";
        if self.address.scheme == address::DPDK {
            return Ok(ETHERNET_MTU - HEADERS - OURS);
        }
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
