//! What this machine can do for an agent: each check says what a failure costs, and how to mend it.

mod interfaces;
mod kernel;

use std::time::Duration;

use serde::Serialize;

use crate::ctl::ask;
use crate::report::STATUS;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub found: String,
    /// Whether it is as it should be.
    pub good: bool,
    /// Whether an agent is of no use without.
    pub needed: bool,
    /// What a failure costs.
    pub costs: &'static str,
    /// How to mend it.
    pub mend: &'static str,
}

impl Check {
    fn new(what: impl Into<String>, good: bool, found: impl Into<String>) -> Self {
        let (what, found) = (what.into(), found.into());
        Self { what, found, good, needed: false, costs: "", mend: "" }
    }

    fn otherwise(mut self, costs: &'static str, mend: &'static str) -> Self {
        (self.costs, self.mend) = (costs, mend);
        self
    }

    fn needed(mut self) -> Self {
        self.needed = true;
        self
    }
}

/// All checks of this machine, and of the agent of a name.
///
/// # Cost
/// Reads some files, asks the agent, and waits for it at most a second.
pub fn examine(name: &str) -> Vec<Check> {
    let mut checks = kernel::checks();
    checks.extend(interfaces::checks());
    checks.push(agent(name));
    checks
}

fn agent(name: &str) -> Check {
    let answer = ask(name, STATUS, Duration::from_secs(1));
    let found = match &answer {
        Ok(_) => "it runs and answers".to_owned(),
        Err(error) => error.to_string(),
    };
    Check::new(format!("the agent {name:?}"), answer.is_ok(), found).otherwise(
        "channels with ?via= cannot be opened; shm: and udp: need no agent",
        "start it (systemctl start unetd), or let its policy name this user",
    )
}

/// The first line of a file, trimmed; empty if there is none.
fn line(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_good_says_what_it_costs_and_how_to_mend_it() {
        let checks = examine("no-agent-has-this-name");
        assert!(checks.len() >= 8, "{checks:?}");
        for check in &checks {
            let says = !check.costs.is_empty() && !check.mend.is_empty();
            assert!(check.good || says, "{check:?}");
            assert!(!check.found.is_empty(), "{check:?}");
        }
        let agent = checks.last().expect("there are some");
        assert!(!agent.good && !agent.needed, "{agent:?}");
    }
}
