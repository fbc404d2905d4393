//! The check `loom`: every interleaving of the models of the ring and of sleeping and waking.

use anyhow::{Result, bail};

use crate::inventory::Inventory;
use crate::process::{capture, run};
use crate::steps::{Context, Done};
use crate::test::{LIMIT, passed};

/// Runs the models of every crate that has some.
pub fn check(context: &Context) -> Result<Done> {
    let mut crates: Vec<String> =
        Inventory::take(&context.workspace)?.loom.into_iter().map(|(krate, _)| krate).collect();
    crates.dedup();
    let mut models = 0;
    for krate in &crates {
        let cargo = |last: &[&str]| {
            // Its own target folder: other flags there would throw away the ordinary build. Link
            // time optimisation costs more than it gains in models that are about order.
            let mut cargo =
                context.workspace.cargo(["test", "--release", "--test", "loom_*", "-p"]);
            cargo
                .arg(krate)
                .args(last)
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_PROFILE_RELEASE_LTO", "off");
            cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true");
            cargo.env("CARGO_TARGET_DIR", context.workspace.target.join("loom"));
            cargo
        };
        let listed = count_listed(&capture(&mut cargo(&["--", "--list"]), LIMIT)?.stdout);
        let ran = run(&mut cargo(&[]), LIMIT)?.tally.passed;
        if listed == 0 || ran < listed {
            bail!(
                "{krate} has {listed} loom models of which {ran} ran: all must run, and one at least"
            );
        }
        models += ran;
    }
    if models == 0 {
        bail!("no loom model ran: no crate has a test file loom_*.rs");
    }
    passed(format!("{models} models"))
}

/// How many tests a `--list` of libtest names.
fn count_listed(list: &str) -> u64 {
    list.lines().filter(|line| line.ends_with(": test")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_listed_tests_only() {
        assert_eq!(count_listed("wraps: test\nfull: test\n\n2 tests, 0 benchmarks\n"), 2);
        assert_eq!(count_listed("0 tests, 0 benchmarks\n"), 0);
    }
}
