//! The same by way of an agent at the client's end, which this program starts: what mediation costs beside
//! the direct way. The server's end is direct, as for all others.

use ::unet::NetworkAddress;

use super::{Unet, halves::Client, open};
use crate::fault::Fault;
use crate::network::Place;
use crate::process::agent::Agent;
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, MAX_DATAGRAM, Task, Wait};

/// Our own channels, mediated.
pub struct Mediated;

impl System for Mediated {
    fn name(&self) -> &'static str {
        "mediated"
    }

    fn transport(&self) -> &'static str {
        "by address"
    }

    fn about(&self) -> &'static str {
        "U-Net channels by way of an agent at the client's end"
    }

    fn payload(&self, bench: Bench, asked: usize) -> usize {
        Unet.payload(bench, asked)
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        Unet.remark(bench, asked)
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate | Bench::Bandwidth)
    }

    fn largest(&self) -> usize {
        MAX_DATAGRAM
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl Network for Mediated {
    fn bare(&self) -> Option<&'static str> {
        None
    }

    fn has_agent(&self) -> bool {
        true
    }

    fn crosses(&self, address: &NetworkAddress) -> bool {
        matches!(&address.scheme[..], "udp" | "xdp") && address.via().is_none()
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        if !self.crosses(&place.address) {
            let sentence = "an agent is put before udp: and xdp:, where the address names none";
            return Err(Fault::Other(sentence.to_owned()));
        }
        let agent = Agent::start(&place.address, &task.rendezvous, task.agent_cpu)?;
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        // An agent takes no names: its policy is about addresses.
        let to = NetworkAddress { host: place.remote.to_string(), ..place.address.clone() };
        let channel = open(task, agent.address(&to))?;
        server.expect_done()?;
        let client = Client::new(channel, task).by(agent);
        Ok(match task.bench {
            Bench::Rate | Bench::Bandwidth => ClientHalf::OneWay(Box::new(client)),
            _ => ClientHalf::Echo(Box::new(client)),
        })
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        Unet.serve(task, place, announce)
    }
}
