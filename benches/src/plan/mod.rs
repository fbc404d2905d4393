//! From the command line to the list of measurements.

use std::time::Duration;

use crate::cli::{Command, Options};
use crate::cpus::Cpus;
use crate::fault::Failure;
use crate::network::way::Way;
use crate::report::units;
use crate::systems::{self, System, network::Network};
use crate::task::{Bench, Calls, Wait};

use choices::{calls, crossed, shares, sizes, waits};

mod choices;

/// One measurement to be made.
pub struct Measurement {
    /// The question.
    pub bench: Bench,
    /// Who is asked.
    pub system: &'static dyn System,
    /// How both sides wait.
    pub wait: Wait,
    /// The size that was asked for.
    pub asked: usize,
    /// Idle bindings beside the one that is used.
    pub idle_bindings: usize,
    /// How many domains a message visits.
    pub domains: usize,
    /// How calls are made, where they are the question.
    pub calls: Option<Calls>,
}

impl Measurement {
    /// Whether another one would measure the same.
    fn is_same(&self, other: &Self) -> bool {
        let key = |what: &Self| (what.system.name(), what.wait, what.payload(), what.domains);
        key(self) == key(other) && self.calls == other.calls
    }

    /// Says why it cannot be made, in a clause that follows the system's name.
    fn refused(&self) -> Option<String> {
        let (payload, most) = (self.payload(), self.system.largest());
        let too_large = || {
            (payload > most).then(|| format!("carries at most {} in a message", units::size(most)))
        };
        let too_many = || self.calls.and_then(|calls| calls.refused(payload));
        self.system.refuses(self.bench, payload, self.wait).or_else(too_large).or_else(too_many)
    }

    /// The size that the system makes of it.
    pub fn payload(&self) -> usize {
        self.system.payload(self.bench, self.asked)
    }
}

/// All that a run will do.
pub struct Plan {
    /// In the order of the tables.
    pub measurements: Vec<Measurement>,
    /// The timed phases of each.
    pub duration: Duration,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// The loads to offer, in percent of the capacity.
    pub shares: Vec<f64>,
    /// How calls are made, where they are the question.
    calls: Vec<Option<Calls>>,
    /// Whether the user named the systems: then each must be measured.
    pub named: bool,
}

/// The time for all measurements of a run without a command.
const WHOLE_RUN: Duration = Duration::from_secs(26);
/// What a measurement takes beside its timed phases: the process, the warm-up, the floor.
const BESIDE: Duration = Duration::from_millis(150);
/// The time of one of many.
const FBUF_DURATION: Duration = Duration::from_millis(600);
/// The time of one measurement unless the user says otherwise.
const DURATION: Duration = Duration::from_secs(2);
/// The time of one step of a load.
const STEP_DURATION: Duration = Duration::from_millis(500);

impl Plan {
    /// Works out what to measure.
    pub fn make(
        command: Option<&Command>,
        options: &Options,
        cpus: Cpus,
        way: Option<&Way>,
    ) -> Result<Self, Failure> {
        let mut plan = Self {
            measurements: Vec::new(),
            duration: DURATION,
            left_out: Vec::new(),
            shares: Vec::new(),
            calls: calls(command)?,
            named: !options.system.is_empty(),
        };
        if let Some(Command::Sweep { from, up_to, .. }) = command {
            plan.shares = shares(*from, *up_to)?;
            plan.duration = STEP_DURATION;
        }
        if let Some(way) = way {
            plan.add_network(command, options, cpus, way)?;
            return plan.finish(options);
        }
        let bench = match command {
            Some(Command::Fbuf { .. }) => Bench::Fbuf,
            Some(Command::Sweep { .. }) => Bench::Sweep,
            Some(Command::Beside { .. }) => Bench::Beside,
            None | Some(Command::NullRpc) => Bench::NullRpc,
            _ => Bench::Rtt,
        };
        let systems = chosen(&options.system, bench, false)?;
        match command {
            None => {
                plan.add(Bench::NullRpc, &systems, options, cpus, &[0]);
                plan.add(Bench::Rtt, &systems, options, cpus, &[0]);
                let count = plan.measurements.len().max(1) as u32;
                let share = (WHOLE_RUN / count).saturating_sub(BESIDE);
                plan.duration = share.clamp(Duration::from_millis(100), DURATION);
            }
            Some(Command::NullRpc) => plan.add(Bench::NullRpc, &systems, options, cpus, &[0]),
            Some(Command::Rtt) => plan.add(Bench::Rtt, &systems, options, cpus, &[0]),
            Some(Command::Rate { .. }) => plan.add(Bench::Rate, &systems, options, cpus, &[0]),
            Some(Command::Bandwidth { .. }) => {
                plan.add(Bench::Bandwidth, &systems, options, cpus, &[0]);
            }
            Some(Command::Scale { bindings }) => {
                let bindings: Vec<_> = bindings.iter().map(|&count| count as usize).collect();
                plan.add(Bench::Scale, &systems, options, cpus, &bindings);
            }
            Some(Command::Fbuf { domains }) => {
                plan.add_fbuf(&systems, options, cpus, domains);
                plan.duration = FBUF_DURATION;
            }
            Some(Command::Sweep { .. }) => plan.add(Bench::Sweep, &systems, options, cpus, &[0]),
            Some(Command::Beside { .. }) => {
                plan.add(Bench::Beside, &systems, options, cpus, &[0]);
            }
            Some(
                Command::Limits
                | Command::Systems
                | Command::Kv(_)
                | Command::KvServer { .. }
                | Command::Serve { .. }
                | Command::ServerProcess { .. }
                | Command::AgentProcess { .. },
            ) => return Ok(plan),
        }
        plan.finish(options)
    }

    fn finish(mut self, options: &Options) -> Result<Self, Failure> {
        self.duration = options.duration.unwrap_or(self.duration);
        if self.measurements.is_empty() {
            let reasons = self.left_out.join(" ");
            return Err(Failure::Usage(format!("Nothing is left to measure. {reasons}")));
        }
        Ok(self)
    }

    /// How many steps there are for a progress bar.
    pub fn steps(&self) -> usize {
        let of = |what: &Measurement| match what.bench {
            Bench::Sweep => self.shares.len() + 1,
            _ => 1,
        };
        self.measurements.iter().map(of).sum()
    }

    fn add_network(
        &mut self,
        command: Option<&Command>,
        options: &Options,
        cpus: Cpus,
        way: &Way,
    ) -> Result<(), Failure> {
        let bench = match command {
            Some(Command::NullRpc) => Bench::NullRpc,
            Some(Command::Rtt) => Bench::Rtt,
            Some(Command::Rate { .. }) => Bench::Rate,
            Some(Command::Bandwidth { .. }) => Bench::Bandwidth,
            Some(Command::Beside { .. }) => Bench::Beside,
            Some(Command::Sweep { .. }) => Bench::Sweep,
            _ => {
                let sentence =
                    "Across a network there are null-rpc, rtt, rate, bandwidth, beside and sweep.";
                return Err(Failure::Usage(sentence.to_owned()));
            }
        };
        let mut systems = chosen(&options.system, bench, true)?;
        // Who names a system that has no way there is told why.
        let crosses = |system: &&dyn System| {
            system.network().is_none_or(|network| network.crosses(way.address()))
        };
        systems.retain(|system| self.named || crosses(system));
        let mut sizes = options.size.clone();
        if sizes.is_empty() {
            let largest = way.largest_message()?;
            sizes = match bench {
                Bench::NullRpc => vec![0],
                Bench::Rtt => vec![64, 1 << 10, largest],
                Bench::Bandwidth => vec![1 << 10, largest],
                Bench::Beside => choices::sizes(bench).to_vec(),
                _ => vec![64],
            };
            sizes.retain(|size| *size <= largest || bench == Bench::Beside);
            sizes.dedup();
        }
        let ends_share = cpus.same_core() && way.is_within_host();
        let agent_shares = cpus.of_agent(way.is_within_host())? == cpus.client;
        for &asked in &sizes {
            for &system in &systems {
                let has_agent = system.network().is_some_and(Network::has_agent);
                let shared = ends_share || (agent_shares && has_agent);
                let own = system.waits();
                let usual = own.unwrap_or(if shared { &[Wait::Adaptive] } else { &[Wait::Spin] });
                let mut waits =
                    if options.wait.is_empty() { usual } else { &options.wait }.to_vec();
                waits.retain(|wait| own.is_none_or(|own| own.contains(wait)));
                for (wait, calls) in crossed(&waits, &self.calls_of(system)) {
                    let (idle_bindings, domains) = (0, 2);
                    let what =
                        Measurement { bench, system, wait, asked, idle_bindings, domains, calls };
                    let stuck = shared && wait == Wait::Spin;
                    let stuck = stuck.then(|| "cannot spin where a core is shared".to_owned());
                    match stuck.or_else(|| what.refused()) {
                        _ if self.measurements.iter().any(|known| known.is_same(&what)) => {}
                        None => self.measurements.push(what),
                        Some(why) => self.leave_out(&what, &why),
                    }
                }
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        bench: Bench,
        systems: &[&'static dyn System],
        options: &Options,
        cpus: Cpus,
        bindings: &[usize],
    ) {
        let sizes = if options.size.is_empty() { sizes(bench) } else { &options.size };
        let waits = if options.wait.is_empty() { waits(bench, cpus) } else { &options.wait };
        for &wait in waits {
            for &asked in sizes {
                for &system in systems.iter().filter(|system| system.answers(bench)) {
                    for (idle_bindings, calls) in crossed(bindings, &self.calls_of(system)) {
                        let domains = 2;
                        let what = Measurement {
                            bench,
                            system,
                            wait,
                            asked,
                            idle_bindings,
                            domains,
                            calls,
                        };
                        match what.refused() {
                            None => self.measurements.push(what),
                            Some(why) => self.leave_out(&what, &why),
                        }
                    }
                }
            }
        }
    }

    fn add_fbuf(
        &mut self,
        systems: &[&'static dyn System],
        options: &Options,
        cpus: Cpus,
        domains: &[u64],
    ) {
        let bench = Bench::Fbuf;
        let sizes = if options.size.is_empty() { sizes(bench) } else { &options.size };
        for &system in systems {
            let (least, most) = system.domains();
            for domains in
                domains.iter().map(|&n| n as usize).filter(|n| (least..=most).contains(n))
            {
                let shared = domains > 2 || cpus.same_core();
                let usual = [if shared { Wait::Adaptive } else { Wait::Spin }];
                // Alone nobody waits.
                let asked = options.wait.is_empty() || domains == 1;
                let waits = if asked { &usual[..] } else { &options.wait };
                for (&wait, &asked) in
                    waits.iter().flat_map(|wait| sizes.iter().map(move |size| (wait, size)))
                {
                    let (idle_bindings, calls) = (0, None);
                    let what =
                        Measurement { bench, system, wait, asked, idle_bindings, domains, calls };
                    let twice = self.measurements.iter().any(|known| known.is_same(&what));
                    if twice || !system.fits(what.payload()) {
                        continue;
                    }
                    let stuck = shared && wait == Wait::Spin;
                    let stuck = stuck.then(|| "cannot spin where domains share a core".to_owned());
                    match stuck.or_else(|| what.refused()) {
                        None => self.measurements.push(what),
                        Some(why) => self.leave_out(&what, &why),
                    }
                }
            }
        }
    }

    /// How a system is called: where it makes no calls, there is one way.
    fn calls_of(&self, system: &dyn System) -> Vec<Option<Calls>> {
        if system.makes_calls() { self.calls.clone() } else { vec![None] }
    }

    fn leave_out(&mut self, what: &Measurement, why: &str) {
        let sentence = format!("{} {why}.", what.system.name());
        if !self.left_out.contains(&sentence) {
            self.left_out.push(sentence);
        }
    }
}

fn chosen(
    words: &[String],
    bench: Bench,
    across: bool,
) -> Result<Vec<&'static dyn System>, Failure> {
    let all = if across { systems::network::all } else { systems::all };
    let named = if across { systems::network::named } else { systems::named };
    if words.is_empty() {
        return Ok(all().into_iter().filter(|system| system.answers(bench)).collect());
    }
    let mut chosen: Vec<&'static dyn System> = Vec::new();
    for word in words {
        let meant = named(word).map_err(|why| {
            let mut letters = why.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase()).into_iter();
            Failure::Usage(format!("{}.", first.chain(letters).collect::<String>()))
        })?;
        if !meant.iter().any(|system| system.answers(bench)) {
            let fitting = all().into_iter().filter(|system| system.answers(bench));
            let fitting: Vec<_> = fitting.map(|system| system.name()).collect();
            return Err(Failure::Usage(format!(
                "{word} does not answer this question; choose from {}.",
                fitting.join(", ")
            )));
        }
        for system in meant.into_iter().filter(|system| system.answers(bench)) {
            if !chosen.iter().any(|known| known.name() == system.name()) {
                chosen.push(system);
            }
        }
    }
    Ok(chosen)
}
