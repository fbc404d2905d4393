//! Tests of the prose: every chapter exists and every relative link leads somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{Workspace, files};

/// The targets of inline links and images, and of `src` and `srcset` attributes, that are relative.
fn relative_links(markdown: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (open, close) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"'), ("href=\"", '"')] {
            let targets = line.split(open).skip(1).filter_map(|rest| rest.split(close).next());
            links.extend(
                targets.map(|target| target.split('#').next().unwrap_or_default().to_owned()),
            );
        }
    }
    links.retain(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"));
    links
}

fn broken(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).expect("a page that was listed");
    let folder = page.parent().expect("a page is in a folder");
    let links = relative_links(&text).into_iter().filter(|link| !folder.join(link).exists());
    links.map(|link| format!("{}: {link}", page.display())).collect()
}

fn root() -> PathBuf {
    Workspace::load().expect("cargo metadata").root
}

#[test]
fn finds_the_links_of_a_page() {
    let page = "[a](b.md#c) ![p](d.svg) <img src=\"e.svg\"> [w](https://example.org) [h](#here)\n```\n[no](f.md)\n```\n";
    assert_eq!(relative_links(page), ["b.md", "d.svg", "e.svg"]);
}

#[test]
fn every_chapter_of_the_summary_exists_and_every_page_is_in_the_summary() {
    let source = root().join("docs/src");
    let summary = fs::read_to_string(source.join("SUMMARY.md")).expect("docs/src/SUMMARY.md");
    let chapters = relative_links(&summary);
    assert!(chapters.len() >= 4, "the book has lost its chapters: {chapters:?}");
    assert_eq!(broken(&source.join("SUMMARY.md")), Vec::<String>::new());
    for page in files(&source, "md") {
        let name = page.strip_prefix(&source).expect("a page below docs/src").display().to_string();
        assert!(name == "SUMMARY.md" || chapters.contains(&name), "{name} is not in SUMMARY.md");
    }
}

#[test]
fn every_relative_link_of_the_prose_resolves() {
    let root = root();
    let mut pages = files(&root.join("docs"), "md");
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| root.join(page)));
    let broken: Vec<String> = pages.iter().flat_map(|page| broken(page)).collect();
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_readme_shows_the_two_commands_and_ci_runs_the_second() {
    let root = root();
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    for command in ["cargo run --release --bin unet-bench", "cargo xtask test"] {
        assert!(
            readme.lines().take(40).any(|line| line.starts_with(command)),
            "not near the top: {command}"
        );
    }
    let ci = fs::read_to_string(root.join(".ci/run")).expect(".ci/run");
    assert_eq!(ci.lines().last(), Some("cargo xtask test"));
}

/// The variants of the error enums in a source file, as `Enum::Variant`.
fn errors(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_error = false;
    let mut inside = None;
    for line in source.lines() {
        if line.starts_with("#[derive(") {
            is_error = line.contains("thiserror::Error");
        } else if let Some(rest) = line.strip_prefix("pub enum ")
            && is_error
        {
            inside = rest.split(' ').next();
        } else if line == "}" {
            inside = None;
        } else if let Some(name) = inside
            && let Some(variant) = line.strip_prefix("    ")
            && variant.starts_with(|first: char| first.is_ascii_uppercase())
        {
            let end = variant.find(|c: char| !c.is_alphanumeric()).unwrap_or(variant.len());
            found.push(format!("{name}::{}", &variant[..end]));
        }
    }
    found
}

#[test]
fn finds_the_errors_of_a_source() {
    let source = "#[derive(Debug, thiserror::Error)]\n#[non_exhaustive]\npub enum E {\n    \
                  /// Text.\n    A,\n    B(u32),\n    C {\n        field: u8,\n    },\n}\n\
                  #[derive(Debug)]\npub enum F {\n    G,\n}\n";
    assert_eq!(errors(source), ["E::A", "E::B", "E::C"]);
}

#[test]
fn every_error_has_a_row_in_the_book_and_every_row_an_error() {
    let root = root();
    let mut coded = Vec::new();
    let layers = ["segment", "fbufs", "unet", "lrpc"].map(|layer| (layer, format!("{layer}/src")));
    // Those of the protocol itself stand in its own chapter.
    let calls = ("rpc_fastpath", "rpc-fastpath/src/endpoint".to_owned());
    for (layer, folder) in layers.into_iter().chain([calls]) {
        for path in files(&root.join(folder), "rs") {
            let source = fs::read_to_string(&path).expect("a file that was listed");
            coded.extend(errors(&source).into_iter().map(|error| format!("{layer}::{error}")));
        }
    }
    // Faults are counters, and stand in the table of these.
    coded.retain(|error| !error.starts_with("segment::Fault::"));
    let page = fs::read_to_string(root.join("docs/src/using.md")).expect("docs/src/using.md");
    let mut written = Vec::new();
    let mut heading = "";
    for line in page.lines() {
        if line.starts_with('#') {
            let name = line.strip_prefix("### `").and_then(|line| line.strip_suffix('`'));
            heading = name.filter(|name| name.contains("::")).unwrap_or_default();
        } else if let Some(row) = line.strip_prefix("| ")
            && !heading.is_empty()
            && !row.starts_with("error ")
        {
            let variant = row.split(' ').next().unwrap_or_default();
            written.push(format!("{heading}::{variant}"));
        }
    }
    coded.sort();
    written.sort();
    assert!(coded.len() > 60, "the errors were not found: {coded:?}");
    assert_eq!(written, coded);
}
