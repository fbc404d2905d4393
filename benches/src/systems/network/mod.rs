//! The systems that cross a network: ours, and the kernel's to compare with.
//!
//! The client asks the server for its half over the control connection; the server says at which port
//! it listens, and takes this client only. All measure between the same two processes.

use ::unet::NetworkAddress;

use crate::fault::Fault;
use crate::network::Place;
use crate::process::server::Server;
use crate::systems::{ClientHalf, ServerHalf, System, among};
use crate::task::Task;

mod kernel;
mod mailboxes;
mod mmsg;
mod raw;
mod sockets;
mod unet;
mod uring;

/// A system that crosses a network.
pub trait Network: System {
    /// The scheme whose floor this is: the bare loop over that kind of network.
    fn bare(&self) -> Option<&'static str>;
    /// Whether a message can be empty.
    fn takes_nothing(&self) -> bool {
        false
    }
    /// Whether it has a way to such an address.
    fn crosses(&self, _: &NetworkAddress) -> bool {
        true
    }
    /// Whether an agent runs at the client's end, on a core of its own or on the client's.
    fn has_agent(&self) -> bool {
        false
    }
    /// Connects to the server's half, which the server has been asked for on its control connection.
    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault>;
    /// At the server: makes its half and announces the port that the client is to meet it at.
    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault>;
}

/// Tells the client the port.
pub type Announce<'a> = &'a mut dyn FnMut(u16) -> Result<(), Fault>;

/// Every system that crosses a network, in the order of the tables.
pub fn all() -> Vec<&'static dyn System> {
    networks().into_iter().map(|system| system as &dyn System).collect()
}

fn networks() -> Vec<&'static dyn Network> {
    let mut all: Vec<&'static dyn Network> =
        vec![&crate::systems::rpc::ACROSS, &unet::Unet, &unet::Mediated];
    all.extend(kernel::ALL.iter().map(|system| system as &dyn Network));
    all.extend(uring::ALL.iter().map(|system| system as &dyn Network));
    all.push(&mmsg::Bursts);
    all.push(&raw::Raw(raw::xdp::Xdp));
    #[cfg(feature = "dpdk")]
    all.push(&raw::Raw(raw::dpdk::Dpdk));
    all
}

/// The system of exactly this name.
pub fn by_name(name: &str) -> Option<&'static dyn Network> {
    networks().into_iter().find(|system| system.name() == name)
}

/// The systems that a word on the command line means, or a sentence about why there are none.
pub fn named(word: &str) -> Result<Vec<&'static dyn System>, String> {
    let found = among(all(), word);
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<_> = all().iter().map(|system| system.name()).collect();
    Err(format!("there is no system `{word}` across a network; choose from {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_named_by_its_first_part() {
        let names = |word| named(word).map(|all| all.iter().map(|s| s.name()).collect::<Vec<_>>());
        assert_eq!(names("udp/spin"), Ok(vec!["udp/spin"]));
        assert_eq!(
            names("tcp"),
            Ok(vec!["tcp/blocking", "tcp/spin", "tcp/busy-poll", "tcp/io-uring"])
        );
        assert_eq!(names("xdp"), Ok(vec!["xdp/raw"]));
        assert!(names("pipe").unwrap_err().contains("udp/spin"));
    }

    #[test]
    fn no_two_systems_have_one_name() {
        let mut names: Vec<_> = all().iter().map(|system| system.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all().len());
    }
}
