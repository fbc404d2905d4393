//! Which cores the two processes run on.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::fault::{During, Failure, Fault};

/// The two cores that the user named: `C,S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    client: usize,
    server: usize,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<usize>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[client, server]) => Ok(Self { client, server }),
            _ => Err("give two core numbers, the client's and the server's, such as 0,1".into()),
        }
    }
}

/// The cores in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cpus {
    /// The client's core.
    pub client: usize,
    /// The server's core.
    pub server: usize,
}

impl Cpus {
    /// Takes the user's choice, or else the first two cores of the own affinity mask.
    pub fn choose(asked: Option<Asked>) -> Result<Self, Failure> {
        let usable = usable().map_err(|fault| Failure::Run(format!("{fault}.")))?;
        let Some(&first) = usable.first() else {
            return Err(Failure::Run("The kernel names no core that this process may use.".into()));
        };
        let Some(Asked { client, server }) = asked else {
            return Ok(Self { client: first, server: usable.get(1).copied().unwrap_or(first) });
        };
        match [client, server].into_iter().find(|cpu| !usable.contains(cpu)) {
            None => Ok(Self { client, server }),
            Some(missing) => Err(Failure::Usage(format!(
                "Core {missing} is not one that this process may use; choose from {} for --cpus.",
                list(&usable)
            ))),
        }
    }

    /// Whether client and server share one core.
    pub fn same_core(self) -> bool {
        self.client == self.server
    }

    /// The core of an agent between the two: one of its own where there is one, else the client's.
    pub fn of_agent(self, server_is_here: bool) -> Result<usize, Fault> {
        let taken = |cpu| cpu == self.client || (server_is_here && cpu == self.server);
        Ok(usable()?.into_iter().find(|cpu| !taken(*cpu)).unwrap_or(self.client))
    }

    /// The core of one of several domains that hand messages on: the first half of them runs on the
    /// client's core, the other on the server's.
    pub fn of_domain(self, position: usize, domains: usize) -> usize {
        if position < domains.div_ceil(2) { self.client } else { self.server }
    }

    /// The sentence that tells the user of same-core mode.
    pub fn remark(self, asked: Option<Asked>) -> Option<String> {
        let cpu = self.client;
        let why = match asked {
            _ if !self.same_core() => return None,
            Some(_) => "as --cpus asks",
            None => "because this process may use only one core",
        };
        Some(format!(
            "Same-core mode: client and server share core {cpu}, {why}; the floor is the yield \
             ping-pong on that core, and nothing here compares with runs on two cores."
        ))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client on core {}, server on core {}", self.client, self.server)
    }
}

/// The cores in the affinity mask that the program was started with.
pub fn usable() -> Result<Vec<usize>, Fault> {
    let mask = initial()?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect())
}

/// Binds the calling thread to one core.
pub fn pin(cpu: usize) -> Result<(), Fault> {
    initial()?;
    let mut mask = CpuSet::new();
    mask.set(cpu);
    sched_setaffinity(None, &mask).during("binding a thread to its core")
}

/// Lets the calling thread run on every core that the program was started with: for threads that
/// watch, which must not wait behind a spinning one on its core.
pub fn roam() -> Result<(), Fault> {
    let mask = initial()?;
    sched_setaffinity(None, &mask).during("letting a thread roam")
}

/// Does something on every core that the program was started with, as do the threads that it starts, and goes
/// back to where the calling thread was.
#[cfg(feature = "peers")]
pub fn roaming<T>(act: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let mask = sched_getaffinity(None).during("asking for the core of a thread")?;
    roam()?;
    let done = act();
    sched_setaffinity(None, &mask).during("binding a thread to its core")?;
    done
}

/// The affinity mask before any thread was bound.
fn initial() -> Result<CpuSet, Fault> {
    static INITIAL: OnceLock<CpuSet> = OnceLock::new();
    if let Some(mask) = INITIAL.get() {
        return Ok(*mask);
    }
    let mask = sched_getaffinity(None).during("asking for the usable cores")?;
    Ok(*INITIAL.get_or_init(|| mask))
}

/// How often the calling thread was switched away from while it could have run on: by a yield, or
/// because other work took the core.
pub fn switches_away() -> Result<u64, Fault> {
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .during("reading /proc/thread-self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:")?.trim().parse().ok())
        .ok_or_else(|| Fault::Other("the kernel does not count context switches".into()))
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_make_a_choice_and_nothing_else_does() {
        assert_eq!("3,0".parse(), Ok(Asked { client: 3, server: 0 }));
        for text in ["", "1", "1,2,3", "a,b", "1,-1"] {
            assert!(text.parse::<Asked>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_agent_has_a_core_of_its_own_where_there_is_one_and_else_the_clients() {
        let usable = usable().unwrap();
        let cpus = Cpus::choose(None).unwrap();
        let third = usable.get(2).copied().unwrap_or(cpus.client);
        assert_eq!(cpus.of_agent(true).unwrap(), third);
        // A server on another host leaves its core free here.
        assert_eq!(cpus.of_agent(false).unwrap(), cpus.server);
    }

    #[test]
    fn one_core_twice_is_same_core_mode_with_a_remark() {
        let asked = Asked { client: 0, server: 0 };
        let cpus = Cpus { client: 0, server: 0 };
        assert!(cpus.same_core());
        assert!(cpus.remark(Some(asked)).unwrap().contains("--cpus"));
        assert!(cpus.remark(None).unwrap().contains("only one core"));
        assert_eq!(Cpus { client: 0, server: 1 }.remark(None), None);
    }
}
