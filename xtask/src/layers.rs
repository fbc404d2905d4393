//! `cargo xtask layers`: dependencies point down, and `unsafe` stays in its room.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use crate::workspace::{Crate, Workspace, files};

/// The house, bottom up: a crate may depend on crates of the lines above its own, and on nothing
/// else of this workspace. Folders that have no content yet hold their place.
const ORDER: &[&[&str]] = &[
    &["segment"],
    &["fbufs"],
    &["unet"],
    &["drivers"],
    &["unetd"],
    &["lrpc", "active-messages", "protocols"],
    &["rpc-fastpath"],
    &["services"],
    &["examples"],
    &["benches"],
];

/// The folder whose crate runs the others and is part of no layer.
const TASK_RUNNER: &str = "xtask";

/// Folders whose crates may contain `unsafe`, which are the memory and what speaks to devices; every other
/// one forbids it.
const UNSAFE_ROOMS: &[&str] =
    &["segment", "drivers/udp", "drivers/af-xdp", "drivers/dpdk-sys", "drivers/dpdk"];

/// A file with more lines than this wants to be two.
const LONG_FILE: usize = 400;

/// Checks the workspace and prints what it is made of.
pub fn run() -> Result<()> {
    println!("{}", check(&Workspace::load()?)?);
    Ok(())
}

/// The check itself: says what was looked at, or what is wrong, all of it at once.
pub fn check(workspace: &Workspace) -> Result<String> {
    let mut wrong = wrong_dependencies(&workspace.crates);
    let root = read_manifest(&workspace.root)?;
    for krate in &workspace.crates {
        wrong.extend(wrong_lints(
            krate,
            &read_manifest(&workspace.root.join(&krate.folder))?,
            &root,
        ));
    }
    let examples = workspace.crates.iter().flat_map(|krate| {
        examples(&workspace.root.join(&krate.folder)).into_iter().map(|name| (name, &krate.folder))
    });
    wrong.extend(doubled(examples.map(|(name, folder)| (name, folder.as_str()))));
    for (file, lines) in long_files(workspace) {
        println!("warning: {file} has {lines} lines; past {LONG_FILE} a file wants to be two");
    }
    if !wrong.is_empty() {
        bail!("the layers are not in order:\n  {}", wrong.join("\n  "));
    }
    Ok(format!(
        "{} crates in order, `unsafe` only in {}",
        workspace.crates.len(),
        UNSAFE_ROOMS.join(", ")
    ))
}

fn read_manifest(folder: &Path) -> Result<Table> {
    let path = folder.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

/// The layer of a folder: its line in [`ORDER`], found by the first part of its path.
fn layer(folder: &str) -> Option<usize> {
    let first = folder.split('/').next()?;
    ORDER.iter().position(|line| line.contains(&first))
}

fn wrong_dependencies(crates: &[Crate]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Crate> =
        crates.iter().map(|krate| (krate.name.as_str(), krate)).collect();
    let mut wrong = Vec::new();
    for krate in crates {
        let Crate { name, folder, .. } = krate;
        if folder != TASK_RUNNER && layer(folder).is_none() {
            wrong.push(format!(
                "{name} ({folder}/) has no layer: give its folder a place in xtask/src/layers.rs"
            ));
            continue;
        }
        for dep in krate.local_deps.iter().filter(|dep| *dep != name) {
            let Some(below) = by_name.get(dep.as_str()) else {
                wrong.push(format!("{name} depends on {dep}, a path outside the workspace"));
                continue;
            };
            if let Some(why) = wrong_dependency(folder, &below.folder) {
                wrong.push(format!("{name} depends on {dep}, {why}"));
            }
        }
    }
    wrong
}

/// Why a crate in `folder` may not depend on one in `below`, if it may not.
fn wrong_dependency(folder: &str, below: &str) -> Option<&'static str> {
    if folder == TASK_RUNNER {
        return Some("but the task runner must work while the layers do not build: use neither");
    }
    if below == TASK_RUNNER {
        return Some("the task runner, which is part of no layer");
    }
    // A crate's own rooms, such as the macros of an interface, are inside the same layer; and what a room
    // makes is tested with its house, which is the one circle that cargo allows.
    let room = |house: &str, room: &str| {
        room.strip_prefix(house).is_some_and(|rest| rest.starts_with('/'))
    };
    // Bindings stand beside the crate that they are for, as everywhere.
    let bindings = below.strip_suffix("-sys") == Some(folder);
    let own_room = room(folder, below) || room(below, folder) || bindings;
    match layer(below)?.cmp(&layer(folder)?) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal if own_room => None,
        std::cmp::Ordering::Equal => Some("its neighbour: move what both need into a layer below"),
        std::cmp::Ordering::Greater => Some("a layer above it: dependencies point down"),
    }
}

fn wrong_lints(krate: &Crate, manifest: &Table, root: &Table) -> Vec<String> {
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"))
        == Some(&Value::Boolean(true));
    let lints = if inherits { root.get("workspace") } else { None };
    let lints = lints.and_then(|workspace| workspace.get("lints")).or(manifest.get("lints"));
    let level = |group: &str, lint: &str| -> Option<String> {
        let value = lints?.get(group)?.get(lint)?;
        let level = value.as_str().or_else(|| value.get("level")?.as_str())?;
        Some(level.to_owned())
    };
    let name = &krate.name;
    let mut wrong = Vec::new();
    if UNSAFE_ROOMS.contains(&krate.folder.as_str()) {
        for (group, lint) in
            [("rust", "unsafe_op_in_unsafe_fn"), ("clippy", "undocumented_unsafe_blocks")]
        {
            if !matches!(level(group, lint).as_deref(), Some("deny" | "forbid")) {
                wrong.push(format!(
                    "{name} may contain `unsafe` and must therefore deny {group}::{lint}"
                ));
            }
        }
    } else if level("rust", "unsafe_code").as_deref() != Some("forbid") {
        wrong.push(format!(
            "{name} does not forbid `unsafe_code`: set `lints.workspace = true` in its manifest"
        ));
    }
    wrong
}

/// Names of a crate's examples.
fn examples(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("examples")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect()
}

/// Examples of one name: both are built as the same file, and the one that comes last is run for either.
fn doubled<'a>(examples: impl Iterator<Item = (String, &'a str)>) -> Vec<String> {
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, folder) in examples {
        if let Some(other) = first.insert(name.clone(), folder) {
            wrong.push(format!("{other}/ and {folder}/ both have an example {name}: rename one"));
        }
    }
    wrong
}

fn long_files(workspace: &Workspace) -> Vec<(String, usize)> {
    let sources =
        workspace.crates.iter().flat_map(|krate| files(&workspace.root.join(&krate.folder), "rs"));
    let counted = sources.filter_map(|path| {
        let lines = fs::read_to_string(&path).ok()?.lines().count();
        Some((path.strip_prefix(&workspace.root).ok()?.display().to_string(), lines))
    });
    counted.filter(|(_, lines)| *lines > LONG_FILE).collect()
}

#[cfg(test)]
mod tests;
