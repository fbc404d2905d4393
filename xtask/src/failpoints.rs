//! The check `failpoints`: the steps at which tests kill a process are in no release program.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::process::run;
use crate::steps::{Context, Done};
use crate::test::{FAILPOINTS, LIMIT, passed};

/// Looks for the steps' names in the programs themselves.
pub fn check(context: &Context) -> Result<Done> {
    let source = fs::read_to_string(context.workspace.root.join("segment/src/failpoint.rs"))
        .context(
            "the list of failpoints cannot be read: if it moved, say so in xtask/src/failpoints.rs",
        )?;
    let steps = failpoint_steps(&source)?;
    let program = |profile: &str| -> Result<Vec<u8>> {
        let path = context.workspace.target.join(profile).join("unet-bench");
        fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))
    };
    // The search must be able to find them, else finding none says nothing.
    // Of the workspace: a feature of what the program itself does not depend on takes no effect else.
    let mut debug = context.workspace.cargo(["build", "--workspace", "--bin", "unet-bench"]);
    run(debug.args(FAILPOINTS), LIMIT)?;
    let in_debug = present(&program("debug")?, &steps);
    if in_debug.is_empty() {
        bail!(
            "no failpoint is in the debug program, so their absence elsewhere would prove nothing"
        );
    }
    run(&mut context.workspace.cargo(["build", "--release", "--bin", "unet-bench"]), LIMIT)?;
    let left = present(&program("release")?, &steps);
    if !left.is_empty() {
        bail!("the release program contains failpoints: {}", left.join(", "));
    }
    passed(format!(
        "{} of {} in the debug program, none in the release one",
        in_debug.len(),
        steps.len()
    ))
}

/// The names in `STEPS` of the failpoint module.
fn failpoint_steps(source: &str) -> Result<Vec<&str>> {
    let list = source.split_once("STEPS").and_then(|(_, rest)| rest.split_once("];"));
    let steps: Vec<&str> =
        list.map(|(list, _)| list.split('"').skip(1).step_by(2).collect()).unwrap_or_default();
    if steps.is_empty() {
        bail!("the list of failpoints is empty or is not called STEPS");
    }
    Ok(steps)
}

fn present<'a>(program: &[u8], steps: &[&'a str]) -> Vec<&'a str> {
    let contains =
        |step: &&&str| program.windows(step.len()).any(|window| window == step.as_bytes());
    steps.iter().filter(contains).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_found_in_a_program_and_an_empty_list_is_refused() {
        let steps = failpoint_steps(
            "pub const STEPS: &[&str] = &[\n\"send.1\",\n\"call.1\",\n];\n\"other\"",
        )
        .expect("two");
        assert_eq!(steps, ["send.1", "call.1"]);
        assert_eq!(present(b"\x7fELF..call.1..", &steps), ["call.1"]);
        assert!(present(b"\x7fELF", &steps).is_empty());
        assert!(failpoint_steps("pub const STEPS: &[&str] = &[];").is_err());
        assert!(failpoint_steps("").is_err());
    }
}
