//! Addresses on the command line: where the server is, and where its control connection listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use unet::{Address, NetworkAddress};

/// The scheme of DPDK's ports.
pub const DPDK: &str = "dpdk";

/// A transport that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory, and the kernel's ways within this host.
    Host,
    /// A network, by the server's address.
    Network(NetworkAddress),
    /// A link that is made for the run, by the server's end and the client's.
    Pair(Box<[NetworkAddress; 2]>),
}

/// A device of the client's own, with what it is told beside that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    name: String,
    options: Vec<(String, String)>,
}

impl Device {
    /// The server's address, by way of this device: its options stand in the place of those of the same name.
    pub fn to(&self, server: &NetworkAddress) -> NetworkAddress {
        let mut address = NetworkAddress { device: self.name.clone(), ..server.clone() };
        address.options.retain(|(key, _)| self.options.iter().all(|(ours, _)| ours != key));
        address.options.extend(self.options.iter().cloned());
        address
    }
}

/// Reads the value of `--transport`.
pub fn transport(text: &str) -> Result<Transport, String> {
    match text.split_once(':') {
        Some(("shm", "")) => Ok(Transport::Host),
        Some(("shm", _)) => Err("the benchmark picks the name in shm: itself: write shm:".into()),
        Some((DPDK, port)) if !port.contains('@') => pair(port),
        _ => network(text).map(Transport::Network),
    }
}

/// Reads the value of `--client-device`.
pub fn device(text: &str) -> Result<Device, String> {
    let (name, options) = text.split_once('?').unwrap_or((text, ""));
    let read: Result<Address, _> = format!("any:{name}@:0?{options}").parse();
    match read.map_err(|error| error.to_string())? {
        Address::Network(NetworkAddress { device, options, .. }) => {
            Ok(Device { name: device, options })
        }
        _ => Err("it is no device".to_owned()),
    }
}

/// The two ends of a port that share memory, made for this process alone: `net_memif[,ARGUMENT=VALUE…][?OPTIONS]`.
fn pair(text: &str) -> Result<Transport, String> {
    const MEMORY: &str = "net_memif";
    let (port, options) = text.split_once('?').unwrap_or((text, ""));
    let more = port.strip_prefix(MEMORY).filter(|more| more.is_empty() || more.starts_with(','));
    let Some(more) = more else {
        return Err(format!(
            "dpdk:{MEMORY} has two ends that the benchmark makes; for another port write the server's address, \
             dpdk:PORT@HOST:PORT?ip=HOST/PREFIX, and --client-device PORT?ip=ADDRESS/PREFIX"
        ));
    };
    let socket = format!("unet-bench-{}", std::process::id());
    let end = |role: &str, host: u8| {
        network(&format!(
            "{DPDK}:{MEMORY}0,role={role},socket={socket}{more}@10.9.0.1:0?ip=10.9.0.{host}/24&{options}"
        ))
    };
    Ok(Transport::Pair(Box::new([end("server", 1)?, end("client", 2)?])))
}

/// Reads an address on a network.
pub fn network(text: &str) -> Result<NetworkAddress, String> {
    match text.parse() {
        Ok(Address::Network(address)) if address.scheme == DPDK => {
            without_dpdk().map_or(Ok(address), Err)
        }
        Ok(Address::Network(address)) => Ok(address),
        Ok(_) => Err("shm: reaches no other host: write udp:HOST:PORT".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Why this build has no ports of DPDK, if so.
fn without_dpdk() -> Option<String> {
    #[cfg(feature = "dpdk")]
    return driver_dpdk::MISSING.map(|missing| {
        format!("this program was built without DPDK: {missing}, and build it again")
    });
    #[cfg(not(feature = "dpdk"))]
    Some(
        "DPDK is not in this build: build with the feature `dpdk`, as in `cargo run --release --features dpdk \
         --bin unet-bench -- rtt --transport dpdk:net_memif`"
            .to_owned(),
    )
}

/// Whether the kernel knows nothing of the hosts of a scheme.
pub fn beside_kernel(scheme: &str) -> bool {
    matches!(scheme, "sim" | DPDK)
}

/// Where the control connection of a server listens: at the kernel's TCP, with the data's port.
pub fn control(address: &NetworkAddress) -> io::Result<Vec<SocketAddr>> {
    if beside_kernel(&address.scheme) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, address.port).into()]);
    }
    address.resolve()
}

/// The server of an address: the one at the control connection, where that takes the same way.
pub fn server(address: &NetworkAddress, by_control: IpAddr) -> IpAddr {
    match address.host.parse() {
        Ok(host) if address.scheme == DPDK => host,
        _ => by_control,
    }
}

/// What records call the transport: the scheme, and the mode or the path where the address names one.
pub fn label(address: &NetworkAddress) -> String {
    let mode = address.options.iter().find(|(key, _)| key == "mode" || key == "path");
    format!("{}:{}", address.scheme, mode.map_or("", |(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_and_networks_are_told_apart() {
        assert_eq!(transport("shm:"), Ok(Transport::Host));
        assert!(matches!(transport("udp:10.0.0.2:9000"), Ok(Transport::Network(_))));
        for text in ["shm:mine", "smoke", "udp:10.0.0.2", "udp::1", "udp:x:99999"] {
            assert!(transport(text).is_err(), "{text}");
        }
        assert!(network("shm:echo").is_err());
    }

    #[test]
    fn a_pair_has_two_ends_of_one_port() {
        let read = transport("dpdk:net_memif,rsize=9?ring=256");
        if let Some(why) = without_dpdk() {
            assert_eq!(read, Err(why.clone()));
            assert!(why.contains("build"), "{why}");
            return;
        }
        let Ok(Transport::Pair(ends)) = read else { panic!("{read:?}") };
        let socket = format!("socket=unet-bench-{}", std::process::id());
        let [server, client] = ends.map(|end| end.to_string());
        let begun =
            |role: &str| format!("dpdk:net_memif0,role={role},{socket},rsize=9@10.9.0.1:0?");
        assert_eq!(server, begun("server") + "ip=10.9.0.1/24&ring=256");
        assert_eq!(client, begun("client") + "ip=10.9.0.2/24&ring=256");
        for text in ["dpdk:", "dpdk:net_ring", "dpdk:net_memif7", "dpdk:net_memif?fast"] {
            assert!(transport(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_of_the_clients_has_its_own_options_and_the_servers() {
        let to = |ours: &str, server: &str| {
            device(ours).unwrap().to(&network(server).unwrap()).to_string()
        };
        let server = "xdp:eth0@10.0.0.2:9000?mode=native&queues=2";
        assert_eq!(to("eth1/1", server), "xdp:eth1/1@10.0.0.2:9000?mode=native&queues=2");
        assert_eq!(to("eth1?mode=generic", server), "xdp:eth1@10.0.0.2:9000?queues=2&mode=generic");
        for text in ["", "?mode=generic", "eth1?mode", "a b"] {
            assert!(device(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_control_connection_has_the_port_of_the_data() {
        let at = |text: &str| control(&network(text).unwrap()).unwrap();
        assert_eq!(at("xdp:eth0/1@10.0.0.2:9000"), ["10.0.0.2:9000".parse().unwrap()]);
        assert_eq!(at("sim:net@10.0.0.2:9000"), ["127.0.0.1:9000".parse().unwrap()]);
    }

    #[test]
    fn records_name_scheme_and_mode() {
        let label = |text: &str| label(&network(text).unwrap());
        assert_eq!(label("udp:10.0.0.2:9000"), "udp:");
        assert_eq!(label("udp:10.0.0.2:9000?path=io-uring"), "udp:io-uring");
        assert_eq!(label("xdp:eth0@10.0.0.2:9000?queues=2&mode=generic"), "xdp:generic");
    }
}
