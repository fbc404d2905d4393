//! Bad graphs and manifests, and that they are refused.

use super::*;

fn krate(folder: &str, deps: &[&str]) -> Crate {
    Crate {
        name: folder.replace('/', "-"),
        folder: folder.to_owned(),
        local_deps: deps.iter().map(|dep| (*dep).to_owned()).collect(),
        tests: Default::default(),
        features: Default::default(),
    }
}

fn graph(edges: &[(&str, &[&str])]) -> Vec<String> {
    wrong_dependencies(&edges.iter().map(|(folder, deps)| krate(folder, deps)).collect::<Vec<_>>())
}

#[track_caller]
fn refused(edges: &[(&str, &[&str])], because: &str) {
    let wrong = graph(edges);
    assert!(wrong.len() == 1 && wrong[0].contains(because), "{wrong:?}");
}

#[test]
fn the_house_as_it_is_drawn_is_accepted() {
    let house: &[(&str, &[&str])] = &[
        ("segment", &[]),
        ("fbufs", &["segment"]),
        ("unet", &["segment", "fbufs"]),
        ("lrpc", &["unet", "fbufs"]),
        ("rpc-fastpath", &["lrpc", "rpc-fastpath-macros"]),
        ("rpc-fastpath/macros", &["rpc-fastpath"]),
        ("benches", &["lrpc", "unet", "fbufs", "segment"]),
        ("xtask", &[]),
    ];
    assert_eq!(graph(house), Vec::<String>::new());
}

#[test]
fn a_dependency_that_points_up_or_sideways_is_refused() {
    refused(&[("segment", &["unet"]), ("unet", &[])], "a layer above it");
    refused(&[("lrpc", &["protocols"]), ("protocols", &[])], "its neighbour");
    refused(&[("unet", &["drivers-sim"]), ("drivers/sim", &[])], "a layer above it");
}

#[test]
fn the_task_runner_stands_apart() {
    refused(&[("xtask", &["segment"]), ("segment", &[])], "task runner");
    refused(&[("benches", &["xtask"]), ("xtask", &[])], "task runner");
}

#[test]
fn a_crate_that_nobody_placed_is_refused() {
    refused(&[("utils", &[])], "has no layer");
    refused(&[("segment", &["elsewhere"])], "outside the workspace");
}

fn lints(folder: &str, manifest: &str, root: &str) -> Vec<String> {
    wrong_lints(&krate(folder, &[]), &manifest.parse().expect("TOML"), &root.parse().expect("TOML"))
}

const FORBIDS: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"";

#[test]
fn a_crate_must_forbid_unsafe_itself_or_by_the_workspace() {
    let inherits = "[lints]\nworkspace = true";
    assert!(lints("unet", inherits, FORBIDS).is_empty());
    assert!(
        lints("unet", "[lints.rust]\nunsafe_code = { level = \"forbid\", priority = 1 }", "")
            .is_empty()
    );
    assert!(lints("unet", "", FORBIDS)[0].contains("does not forbid"));
    assert!(
        lints("unet", inherits, "[workspace.lints.rust]\nunsafe_code = \"deny\"")[0]
            .contains("forbid")
    );
}

#[test]
fn the_unsafe_room_must_document_its_blocks() {
    let documented = "[lints.rust]\nunsafe_op_in_unsafe_fn = \"deny\"\n\
                      [lints.clippy]\nundocumented_unsafe_blocks = \"deny\"";
    assert!(lints("segment", documented, "").is_empty());
    assert_eq!(lints("segment", "", FORBIDS).len(), 2);
}

#[test]
fn this_workspace_is_in_order() {
    let workspace = Workspace::load().expect("cargo metadata");
    if let Err(error) = check(&workspace) {
        panic!("{error}");
    }
}

#[test]
fn two_examples_of_one_name_are_refused() {
    let named = |names: [(&str, &'static str); 2]| {
        doubled(names.into_iter().map(|(name, folder)| (name.to_owned(), folder)))
    };
    assert!(named([("echo", "unet"), ("tokio", "unet")]).is_empty());
    assert_eq!(
        named([("echo", "unet"), ("echo", "drivers")]),
        ["unet/ and drivers/ both have an example echo: rename one"]
    );
}
