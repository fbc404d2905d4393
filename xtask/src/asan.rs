//! The check `asan`: the hostile-peer test under AddressSanitizer, with the stable toolchain.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{capture, run};
use crate::steps::{Context, Done};
use crate::test::{FAILPOINTS, LIMIT, passed, some_tests};
use crate::workspace::{host_triple, rustc};

/// The sanitizer's test: a peer that writes whatever it can.
const HOSTILE: (&str, &str) = ("unet", "hostile_peer");

/// Runs it, where the toolchain has the sanitizer.
pub fn check(context: &Context) -> Result<Done> {
    let (krate, test) = HOSTILE;
    if !context.workspace.find(krate).is_some_and(|found| found.tests.contains(test)) {
        bail!("{krate}/tests/{test}.rs is missing: the sanitizer has nothing to watch");
    }
    let target = context.workspace.target.join("asan");
    let host = host_triple()?;
    if let Err(error) = asan_works(&target, &host) {
        return Ok(Done::Skipped(format!(
            "this toolchain cannot build with AddressSanitizer: {error:#}"
        )));
    }
    let reports = target.join("reports");
    if reports.exists() {
        fs::remove_dir_all(&reports)?;
    }
    fs::create_dir_all(&reports)?;
    let mut tests =
        context.workspace.cargo(["test", "-p", krate, "--test", test, "--target", &host]);
    tests.args(FAILPOINTS).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    tests.env("CARGO_TARGET_DIR", &target);
    // Reports go to files: one by a child that the test expects to die must not get lost. Leaks
    // are no wrong access, and a killed process has no chance to free anything.
    tests.env("ASAN_OPTIONS", format!("detect_leaks=0:log_path={}/report", reports.display()));
    let outcome = run(&mut tests, LIMIT);
    let reports: Vec<_> = fs::read_dir(&reports)?.flatten().map(|entry| entry.path()).collect();
    if let Some(first) = reports.first() {
        println!("{}", fs::read_to_string(first).unwrap_or_default());
        bail!(
            "AddressSanitizer saw a wrong memory access; {} reports, the first above",
            reports.len()
        );
    }
    passed(some_tests(&outcome?)?.to_string())
}

/// Builds and runs an empty program with the sanitizer: the runtime library is not in every toolchain.
fn asan_works(target: &Path, host: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    let (source, program) = (target.join("probe.rs"), target.join("probe"));
    fs::write(&source, "fn main() {}\n")?;
    let mut build = rustc();
    build.env("RUSTC_BOOTSTRAP", "1").args(["-Zsanitizer=address", "--target", host, "-o"]);
    capture(build.arg(&program).arg(&source), LIMIT)?;
    capture(&mut Command::new(&program), LIMIT)?;
    Ok(())
}
