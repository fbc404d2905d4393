//! Addresses on the command line: where the server is, and where its control connection listens.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use unet::{Address, NetworkAddress};

/// A transport that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory, and the kernel's ways within this host.
    Host,
    /// A network.
    Network(NetworkAddress),
}

/// Reads the value of `--transport`.
pub fn transport(text: &str) -> Result<Transport, String> {
    match text.split_once(':') {
        Some(("shm", "")) => Ok(Transport::Host),
        Some(("shm", _)) => Err("the benchmark picks the name in shm: itself: write shm:".into()),
        _ => network(text).map(Transport::Network),
    }
}

/// Reads an address on a network.
pub fn network(text: &str) -> Result<NetworkAddress, String> {
    match text.parse() {
        Ok(Address::Network(address)) => Ok(address),
        Ok(_) => Err("shm: reaches no other host: write udp:HOST:PORT".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Where the control connection of a server listens: at the kernel's TCP, with the data's port.
pub fn control(address: &NetworkAddress) -> io::Result<Vec<SocketAddr>> {
    // What the simulator calls a host is known to the simulator only.
    if address.scheme == "sim" {
        return Ok(vec![(Ipv4Addr::LOCALHOST, address.port).into()]);
    }
    address.resolve()
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
