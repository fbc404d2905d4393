//! The facts about the machine that a figure means nothing without.

use serde::Serialize;

use crate::clock::Stamps;
use crate::cpus::Cpus;
use crate::limits::Floors;

/// The machine, this build, and the floors.
#[derive(Debug, Serialize)]
pub struct Host {
    /// The processor's model name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The kernel's name, release and machine type.
    pub kernel: String,
    /// The hypervisor flag of the processor.
    pub virtual_machine: bool,
    /// The clock that stamps.
    pub clock: String,
    /// What one stamp adds to each stamped operation; percentiles are not corrected for it.
    pub stamp_cost_ns: f64,
    /// The commit of this build.
    pub commit: &'static str,
    /// The crate's version.
    pub version: &'static str,
    /// Whether the build is an optimised one.
    pub optimised: bool,
    /// The cores in use.
    pub cpus: Cpus,
    /// Whether both processes share a core.
    pub same_core: bool,
    /// What `floor_ns` in the records is.
    pub floor: &'static str,
    /// Floors measured at the start of this run.
    pub floors: Floors,
    /// What to know about the whole run.
    pub notes: Vec<String>,
}

impl Host {
    /// Collects the facts.
    pub fn describe(
        cores: usize,
        cpus: Cpus,
        stamps: &Stamps,
        floors: Floors,
        notes: Vec<String>,
    ) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let system = rustix::system::uname();
        let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let same_core = cpus.same_core();
        Self {
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores,
            kernel: [system.sysname(), system.release(), system.machine()].map(word).join(" "),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            clock: stamps.describe(),
            stamp_cost_ns: stamps.cost_ns(),
            commit: env!("UNET_BENCH_COMMIT"),
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            cpus,
            same_core,
            floor: if same_core {
                "yield ping-pong between two processes on the shared core"
            } else {
                "fastest mean of four cache-line ping-pongs between the two cores"
            },
            floors,
            notes,
        }
    }

    /// Says that floors are those of a network.
    pub fn cross_a_network(&mut self) {
        self.floor = "the fastest bare loop over the same kind of network, by size, in this run";
    }

    /// The facts as lines for people.
    pub fn lines(&self) -> Vec<String> {
        let place = if self.virtual_machine { ", virtual machine" } else { "" };
        let build = if self.optimised { "" } else { ", NOT OPTIMISED: use --release" };
        let mut lines = vec![
            format!(
                "{}, {} cores{place} · {} · commit {}{build}",
                self.cpu, self.cores, self.kernel, self.commit
            ),
            format!("{} · {}; a stamp costs {:.1} ns", self.cpus, self.clock, self.stamp_cost_ns),
        ];
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

fn field(cpuinfo: &str, name: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
