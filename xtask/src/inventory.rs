//! Counts what verifies this project. A list that is empty verifies nothing and looks like success.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, files};

/// The tests and targets that were found.
pub struct Inventory {
    /// Integration tests named `loom_…`, as crate and test.
    pub loom: Vec<(String, String)>,
    /// Files of layers that contain `proptest!`.
    pub property: Vec<PathBuf>,
    /// Fuzz targets by name.
    pub fuzz: Vec<String>,
}

impl Inventory {
    /// Looks for them in the workspace and in `fuzz/`.
    pub fn take(workspace: &Workspace) -> Result<Inventory> {
        let loom = workspace.layers().flat_map(|krate| {
            let models = krate.tests.iter().filter(|test| test.starts_with("loom_"));
            models.map(|test| (krate.name.clone(), test.clone()))
        });
        let sources =
            workspace.layers().flat_map(|krate| files(&workspace.root.join(&krate.folder), "rs"));
        let property = sources
            .filter(|path| fs::read_to_string(path).is_ok_and(|text| has_property_tests(&text)));
        Ok(Inventory {
            loom: loom.collect(),
            property: property.collect(),
            fuzz: fuzz_targets(&workspace.root.join("fuzz"))?,
        })
    }

    /// Refuses a list that is empty.
    pub fn check(&self) -> Result<String> {
        if self.loom.is_empty() {
            bail!(
                "there are no loom models: write one as tests/loom_*.rs of the crate that has the ring"
            );
        }
        if self.property.is_empty() {
            bail!("there are no property tests: no crate has a file that uses `proptest!`");
        }
        if self.fuzz.is_empty() {
            bail!(
                "there are no fuzz targets: write one in fuzz/fuzz_targets and name it in fuzz/Cargo.toml"
            );
        }
        let Inventory { loom, property, fuzz } = self;
        Ok(format!(
            "{} loom test files, {} files of property tests, {} fuzz targets",
            loom.len(),
            property.len(),
            fuzz.len()
        ))
    }
}

/// Whether a source file uses `proptest!` outside a comment.
fn has_property_tests(source: &str) -> bool {
    source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .any(|code| code.contains("proptest!"))
}

/// The fuzz targets: files in `fuzz_targets` and `[[bin]]` entries of the manifest, which must agree.
///
/// # Errors
/// When a file has no entry (cargo would never build it) or an entry no file.
pub fn fuzz_targets(folder: &Path) -> Result<Vec<String>> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("{} is missing", manifest.display()))?;
    let manifest: toml::Table = text.parse().context("fuzz/Cargo.toml is not TOML")?;
    let bins = manifest.get("bin").and_then(|bins| bins.as_array()).into_iter().flatten();
    let mut entries: Vec<String> =
        bins.filter_map(|bin| bin.get("name")?.as_str()).map(str::to_owned).collect();
    entries.sort();
    let found = files(&folder.join("fuzz_targets"), "rs");
    let found: Vec<String> = found
        .iter()
        .filter_map(|path| path.file_stem())
        .map(|stem| stem.to_string_lossy().into_owned())
        .collect();
    for name in &found {
        if !entries.contains(name) {
            bail!(
                "fuzz/fuzz_targets/{name}.rs is never built: add a [[bin]] entry for it to fuzz/Cargo.toml"
            );
        }
    }
    for name in &entries {
        if !found.contains(name) {
            bail!(
                "fuzz/Cargo.toml has an entry for {name}, but fuzz/fuzz_targets/{name}.rs is missing"
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Inventory {
        Inventory {
            loom: vec![("segment".into(), "loom_ring".into())],
            property: vec!["fbufs/tests/pool.rs".into()],
            fuzz: vec!["control".into()],
        }
    }

    #[test]
    fn one_of_each_is_enough_and_an_empty_list_is_refused() {
        assert!(full().check().is_ok());
        let refusal =
            |inventory: Inventory| inventory.check().expect_err("an empty list").to_string();
        assert!(refusal(Inventory { loom: vec![], ..full() }).contains("no loom models"));
        assert!(refusal(Inventory { property: vec![], ..full() }).contains("no property tests"));
        assert!(refusal(Inventory { fuzz: vec![], ..full() }).contains("no fuzz targets"));
    }

    #[test]
    fn a_comment_is_not_a_property_test() {
        assert!(has_property_tests("proptest! {\n    #[test]\n"));
        assert!(has_property_tests("proptest::proptest! {"));
        assert!(!has_property_tests("// proptest! would help here\n/// as `proptest!` does"));
    }

    #[test]
    fn a_fuzz_target_that_cargo_would_not_build_is_refused() {
        let folder = std::env::temp_dir().join(format!("xtask-fuzz-{}", std::process::id()));
        fs::create_dir_all(folder.join("fuzz_targets")).expect("a scratch folder");
        let entry = "[[bin]]\nname = \"control\"\npath = \"fuzz_targets/control.rs\"\n";
        let outcome = |manifest: &str| {
            fs::write(folder.join("Cargo.toml"), manifest).expect("a scratch file");
            fuzz_targets(&folder)
        };
        assert_eq!(
            outcome("").expect("an empty list is counted, not refused, here"),
            Vec::<String>::new()
        );
        assert!(outcome(entry).expect_err("no file").to_string().contains("is missing"));
        fs::write(folder.join("fuzz_targets/control.rs"), "").expect("a scratch file");
        assert!(outcome("").expect_err("no entry").to_string().contains("never built"));
        assert_eq!(outcome(entry).expect("both are there"), ["control"]);
        fs::remove_dir_all(&folder).expect("the scratch folder goes");
    }
}
