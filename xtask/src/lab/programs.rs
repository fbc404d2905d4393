//! The parts that are crates: their tests that need the lab, each program in a lab of its own.
//!
//! A crate says by a feature `lab` that it has such tests, and a test target by
//! `required-features = ["lab"]` that it is one. What a target wants of the lab beyond the usual
//! stands in the crate's manifest, under the target's name:
//!
//! ```toml
//! [package.metadata.lab.conformance]
//! release = true        # built with optimisation
//! dpdk = true           # left out where there is no DPDK
//! unprivileged = true   # content with the root of a user namespace; else it wants the real one
//! hosts = 3             # as the options of `cargo xtask lab up`
//! tx-off = true
//! ```

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use serde_json::Value;

use super::hosts::up;
use super::private::{Entrance, furnish};
use super::shape::Shape;
use crate::packages;
use crate::process::{Tally, capture, run};
use crate::steps::Done;
use crate::test::{FAILPOINTS, LIMIT, passed, some_tests};
use crate::workspace::Workspace;

/// What one program may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(300);

/// A crate with tests in the lab.
#[derive(Debug)]
pub struct Tested {
    pub name: String,
    folder: PathBuf,
    programs: Vec<Program>,
}

/// A test target.
#[derive(Debug)]
struct Program {
    name: String,
    wants: Wants,
}

/// What a target wants.
#[derive(clap::Parser, Debug)]
#[command(no_binary_name = true)]
struct Wants {
    #[arg(long)]
    release: bool,
    #[arg(long)]
    dpdk: bool,
    #[arg(long)]
    unprivileged: bool,
    #[command(flatten)]
    shape: Shape,
}

/// The crates that have the feature.
pub fn find(workspace: &Workspace) -> Result<Vec<Tested>> {
    let mut metadata = workspace.cargo(["metadata", "--format-version=1", "--no-deps"]);
    read(&serde_json::from_str(&capture(&mut metadata, LIMIT)?.stdout)?)
}

fn read(metadata: &Value) -> Result<Vec<Tested>> {
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().context("`cargo metadata` has a crate without name")?;
        let manifest = package["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
        let wishes = &package["metadata"]["lab"];
        let targets: Vec<&str> = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|target| target["kind"][0] == "test")
            .filter(|target| {
                let needs = target["required-features"].as_array();
                needs.is_some_and(|needs| needs.iter().any(|need| need == "lab"))
            })
            .filter_map(|target| target["name"].as_str())
            .collect();
        let mut wished = wishes.as_object().into_iter().flatten().map(|(target, _)| target);
        if let Some(unknown) = wished.find(|target| !targets.contains(&target.as_str())) {
            bail!(
                "{name}: package.metadata.lab names {unknown}, and no test of that name has \
                 `required-features = [\"lab\"]`"
            );
        }
        if package["features"]["lab"].is_null() {
            continue;
        }
        let program = |target: &&str| {
            let wants = wants(&wishes[target])
                .with_context(|| format!("{name}: package.metadata.lab.{target}"))?;
            Ok(Program { name: (*target).to_owned(), wants })
        };
        found.push(Tested {
            name: name.to_owned(),
            folder: manifest.context("`cargo metadata` has a crate without folder")?.to_owned(),
            programs: targets.iter().map(program).collect::<Result<_>>()?,
        });
    }
    Ok(found)
}

/// Reads `{ release = true, mtu = 9000 }` as `--release --mtu=9000`.
fn wants(table: &Value) -> Result<Wants> {
    let words = table.as_object().into_iter().flatten().filter_map(|(key, value)| match value {
        Value::Bool(true) => Some(format!("--{key}")),
        Value::Bool(false) => None,
        value => Some(format!("--{key}={value}")),
    });
    Ok(Wants::try_parse_from(words)?)
}

impl Tested {
    /// Builds the crate's programs, with these features of the workspace, and runs each of them.
    pub fn check(
        &self,
        workspace: &Workspace,
        features: &str,
        entrance: &Entrance,
    ) -> Result<Done> {
        if self.programs.is_empty() {
            return Ok(Done::Skipped(
                "it has a feature `lab` and no test that requires it: write one, or remove the \
                 feature"
                    .into(),
            ));
        }
        let has_dpdk = packages::has_dpdk();
        let (can, without): (Vec<&Program>, Vec<&Program>) =
            self.programs.iter().partition(|program| has_dpdk || !program.wants.dpdk);
        let (now, other): (Vec<&Program>, Vec<&Program>) =
            can.into_iter().partition(|program| entrance.root || program.wants.unprivileged);
        let mut sum = Tally::default();
        for program in &now {
            let file = self.build(program, workspace, features)?;
            let tally =
                some_tests(&run(&mut self.start(program, &file, entrance)?, PROGRAM_LIMIT)?)
                    .with_context(|| format!("{}, test {}", self.name, program.name))?;
            sum.passed += tally.passed;
            sum.failed += tally.failed;
            sum.ignored += tally.ignored;
        }
        let mut note = format!("{sum} in {} of {} programs", now.len(), self.programs.len());
        if !without.is_empty() {
            note += &format!("; {} left out: there is no DPDK", names(&without));
        }
        if other.is_empty() {
            return passed(note);
        }
        Ok(Done::Skipped(format!(
            "{} wants the rights of root outside any user namespace, which AF_XDP and BPF need: run \
             this as root (the rest: {note})",
            names(&other)
        )))
    }

    /// Builds a program and answers where it is.
    fn build(&self, program: &Program, workspace: &Workspace, features: &str) -> Result<PathBuf> {
        // The whole workspace: what one crate alone asks of those it depends on would build them anew.
        let mut build =
            workspace.cargo(["test", "--no-run", "--workspace", "--features", features]);
        build.args(FAILPOINTS).args(["--message-format=json-render-diagnostics"]);
        build.args(["--test", &program.name]);
        if program.wants.release {
            build.arg("--release");
        }
        let said = capture(&mut build, LIMIT)?.stdout;
        built(&said, &self.folder, &program.name)
            .with_context(|| format!("cargo built no program for {}/{}", self.name, program.name))
    }

    /// The command that runs it, as cargo would.
    fn start(&self, program: &Program, file: &Path, entrance: &Entrance) -> Result<Command> {
        let mut command = entrance.inside()?;
        command.arg("program").args(program.wants.shape.to_string().split(' ')).arg(file);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        Ok(command)
    }
}

fn names(programs: &[&Program]) -> String {
    let names: Vec<&str> = programs.iter().map(|program| program.name.as_str()).collect();
    names.join(", ")
}

/// What all of them are built with, as cargo's `--features` takes it.
pub fn features(crates: &[Tested]) -> String {
    crates.iter().map(|krate| format!("{}/lab", krate.name)).collect::<Vec<_>>().join(",")
}

/// The program of a crate's test target among what cargo says that it built.
fn built(said: &str, folder: &Path, target: &str) -> Option<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    said.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["manifest_path"].as_str().map(Path::new) == Some(&*manifest))
        .filter(|message| message["target"]["name"] == target)
        .filter(|message| message["target"]["kind"][0] == "test")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Inside the namespaces: makes the lab, and becomes the program.
pub fn inside(shape: &Shape, program: &Path) -> Result<()> {
    furnish()?;
    up(shape)?;
    // One after the other: they all use the same devices.
    let error = Command::new(program).arg("--test-threads=1").exec();
    Err(error).with_context(|| format!("{} could not be started", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(lab: Value) -> Value {
        json!({ "packages": [
            { "name": "other", "manifest_path": "/w/other/Cargo.toml", "features": {}, "targets": [] },
            {
                "name": "driver", "manifest_path": "/w/driver/Cargo.toml",
                "features": { "lab": [] }, "metadata": { "lab": lab },
                "targets": [
                    { "name": "driver", "kind": ["lib"] },
                    { "name": "offline", "kind": ["test"] },
                    { "name": "wire", "kind": ["test"], "required-features": ["lab"] },
                ],
            },
        ] })
    }

    #[test]
    fn only_tests_that_require_the_lab_are_run_and_with_what_they_want() {
        let wish =
            json!({ "wire": { "release": true, "hosts": 3, "tx-off": true, "gro-on": false } });
        for (lab, release, hosts) in [(json!(null), false, 2), (wish, true, 3)] {
            let found = read(&metadata(lab)).expect("it is right");
            let [Tested { name, folder, programs }] = &found[..] else { panic!("{found:?}") };
            assert_eq!((name.as_str(), folder.as_path()), ("driver", Path::new("/w/driver")));
            let [Program { name, wants }] = &programs[..] else { panic!("{programs:?}") };
            assert_eq!(
                (name.as_str(), wants.release, wants.unprivileged),
                ("wire", release, false)
            );
            assert_eq!((wants.shape.hosts, wants.shape.tx_off), (hosts, release));
            assert!(!wants.shape.gro_on);
        }
    }

    #[test]
    fn wishes_of_nobody_and_unknown_ones_are_refused() {
        let refused = |lab: Value| format!("{:#}", read(&metadata(lab)).expect_err("it is wrong"));
        assert!(refused(json!({ "offline": {} })).contains("offline"));
        assert!(refused(json!({ "wire": { "speed": 9 } })).contains("speed"));
        assert!(refused(json!({ "wire": { "hosts": 99 } })).contains("99"));
    }

    #[test]
    fn the_program_is_the_one_that_cargo_built_for_the_test() {
        let artifact = |of: &str, kind: &str, program: Option<&str>| {
            let (manifest, target) =
                (format!("{of}/Cargo.toml"), json!({ "name": "wire", "kind": [kind] }));
            json!({ "manifest_path": manifest, "target": target, "executable": program })
                .to_string()
        };
        let said = [
            artifact("/w/driver", "lib", None),
            "some other line".to_owned(),
            artifact("/w/next", "test", Some("/t/wire-2")),
            artifact("/w/driver", "test", Some("/t/wire-1")),
        ];
        let said = &said.join("\n");
        let here = Path::new("/w/driver");
        assert_eq!(built(said, here, "wire"), Some("/t/wire-1".into()));
        assert_eq!(built(said, here, "offline"), None);
        assert_eq!(built(said, Path::new("/w/other"), "wire"), None);
    }
}
