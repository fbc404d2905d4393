//! What cargo knows about this workspace: its crates, their dependencies and test targets.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// One crate of the workspace.
pub struct Crate {
    pub name: String,
    /// The crate's folder, relative to the root: `benches`, `drivers/sim`.
    pub folder: String,
    /// Names of the workspace crates that it depends on, of every kind (normal, dev, build).
    pub local_deps: BTreeSet<String>,
    /// Names of its integration tests.
    pub tests: BTreeSet<String>,
    /// Names of its features.
    pub features: BTreeSet<String>,
}

/// The workspace: where it is, where it builds, and its crates.
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
    pub crates: Vec<Crate>,
}

/// The cargo that started us, so that a toolchain override holds for its children too.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Workspace {
    /// Asks cargo for the workspace that this task runner was built from.
    pub fn load() -> Result<Workspace> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
        let out = cargo()
            .args(["metadata", "--format-version=1", "--no-deps"])
            .current_dir(root)
            .output()
            .context("cargo could not be started; run this as `cargo xtask`")?;
        if !out.status.success() {
            bail!(
                "`cargo metadata` failed; correct this first:\n{}",
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Workspace::from_metadata(&serde_json::from_slice(&out.stdout)?)
    }

    fn from_metadata(metadata: &Value) -> Result<Workspace> {
        let text = |value: &Value, key: &str| -> Result<String> {
            Ok(value[key]
                .as_str()
                .with_context(|| format!("`cargo metadata` has no {key}"))?
                .to_owned())
        };
        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let packages =
            metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
        let mut crates = Vec::new();
        for package in packages {
            let manifest = PathBuf::from(text(package, "manifest_path")?);
            let folder = manifest
                .parent()
                .and_then(|folder| folder.strip_prefix(&root).ok())
                .with_context(|| format!("{} lies outside the workspace", manifest.display()))?;
            let targets = |kind: &str| -> BTreeSet<String> {
                let all = package["targets"].as_array().into_iter().flatten();
                all.filter(|target| target["kind"][0] == kind)
                    .filter_map(|target| target["name"].as_str().map(str::to_owned))
                    .collect()
            };
            crates.push(Crate {
                name: text(package, "name")?,
                folder: folder.to_string_lossy().into_owned(),
                local_deps: package["dependencies"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(|dep| dep["path"].is_string())
                    .filter_map(|dep| dep["name"].as_str().map(str::to_owned))
                    .collect(),
                tests: targets("test"),
                features: package["features"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone())
                    .collect(),
            });
        }
        Ok(Workspace { root, target: PathBuf::from(text(metadata, "target_directory")?), crates })
    }

    /// The crates that users get: all but the task runner.
    pub fn layers(&self) -> impl Iterator<Item = &Crate> {
        self.crates.iter().filter(|krate| krate.folder != "xtask")
    }

    /// The crate of that name.
    pub fn find(&self, name: &str) -> Option<&Crate> {
        self.crates.iter().find(|krate| krate.name == name)
    }

    /// A cargo command that runs in the root.
    pub fn cargo<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = cargo();
        command.args(args).current_dir(&self.root);
        command
    }
}

/// The triple of the machine that compiles, as `rustc` names it.
pub fn host_triple() -> Result<String> {
    let out = rustc().arg("-vV").output().context("rustc could not be started")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The compiler that cargo would use.
pub fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// All files below `folder` whose name ends in `.extension`, hidden folders and `target` left out.
pub fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let hidden = name.to_string_lossy().starts_with('.') || name == "target";
            if path.is_dir() && !path.is_symlink() && !hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
