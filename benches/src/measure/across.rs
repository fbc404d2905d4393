//! A measurement across a network, against a server that others share.

use crate::cpus::pin;
use crate::fault::{Failure, Fault};
use crate::limits::Yardstick;
use crate::measure::{Lab, Outcome, Ran, one_way, round_trip, straddle, sweep, task};
use crate::network::{address, way::Way};
use crate::plan::Measurement;
use crate::process::server::Server;
use crate::record::Record;
use crate::systems::{ClientHalf, network::Network};
use crate::task::{Task, Wait};

/// Connects to the server and measures.
pub fn run(lab: &Lab<'_>, way: &Way, what: &Measurement) -> Result<Ran, Failure> {
    let server = way.connect()?;
    pin(lab.cpus.client)?;
    let half = match connect(lab, way, what, &server) {
        Ok(half) => half,
        Err(fault) => return Ok(Ran::NotOpened(fault)),
    };
    let mut records =
        measure(lab, way, what, half, &server).map_err(|fault| server.explain(fault))?;
    for record in &mut records {
        describe(record, lab, way, what)?;
    }
    Ok(Ran::Records(records))
}

/// Only within a host both ends can share a core, or keep an agent from one of its own.
fn shared(task: Task, lab: &Lab<'_>, way: &Way) -> Result<Task, Fault> {
    let agent_cpu = lab.cpus.of_agent(way.is_within_host())?;
    Ok(Task { same_core: task.same_core && way.is_within_host(), agent_cpu, ..task })
}

fn connect(
    lab: &Lab<'_>,
    way: &Way,
    what: &Measurement,
    server: &Server,
) -> Result<ClientHalf, Fault> {
    let (Some(system), Some(place)) = (what.system.network(), server.place()) else {
        return Err(Fault::Other(format!("{} does not cross a network", what.system.name())));
    };
    system.connect(&shared(task(lab, what), lab, way)?, place, server)
}

fn measure(
    lab: &Lab<'_>,
    way: &Way,
    what: &Measurement,
    half: ClientHalf,
    server: &Server,
) -> Result<Vec<Record>, Fault> {
    let mut floors = Vec::new();
    // The cores are this host's only: the floor is no yardstick here, but it tells when the machine
    // changed under the run.
    let mut between = || {
        if !lab.cpus.same_core() && way.is_within_host() {
            floors.push(Yardstick::CacheLine.sample(lab.cpus, server)?);
        }
        Ok(())
    };
    let servers = std::slice::from_ref(server);
    let outcome = match half {
        ClientHalf::Load(mut half) => {
            let echo = what.system.makes_calls() || !way.is_within_host();
            return sweep::measure(lab, what, half.as_mut(), server, echo);
        }
        ClientHalf::Echo(mut half) => {
            round_trip::measure(lab, half.as_mut(), servers, &mut between)
        }
        ClientHalf::OneWay(mut half) => {
            one_way::measure(lab, half.as_mut(), &task(lab, what), servers, &mut between)
        }
    }?;
    let mut record = enter(what, &outcome);
    record.remarks.extend(straddle(&floors));
    if what.wait == Wait::Spin && !lab.cpus.same_core() {
        record.interruptions = outcome.switches;
    }
    Ok(vec![record])
}

fn enter(what: &Measurement, outcome: &Outcome) -> Record {
    let mut record = Record::new(what, &outcome.spread, outcome.iterations, outcome.mean_ns);
    (record.sent, record.lost) = outcome.losses.unzip();
    record.set_beside(outcome.beside_per_sec);
    record.remarks.extend(what.system.remark(what.bench, what.asked));
    record.remarks.extend(outcome.remarks.iter().cloned());
    record
}

/// Enters what the way has to do with it.
fn describe(
    record: &mut Record,
    lab: &Lab<'_>,
    way: &Way,
    what: &Measurement,
) -> Result<(), Fault> {
    let system = what.system.network();
    record.bare = system.and_then(Network::bare);
    if system.is_some_and(Network::has_agent)
        && lab.cpus.of_agent(way.is_within_host())? == lab.cpus.client
    {
        record.remarks.push("the agent shares the client's core".to_owned());
    }
    if record.bare.is_none_or(|scheme| matches!(scheme, "xdp" | address::DPDK)) {
        record.transport = way.label();
    }
    record.write_note();
    Ok(())
}
