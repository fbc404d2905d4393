//! A list of checks: run in order, each under a headline, with a summary as the closing lines.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// What every check may look at.
pub struct Context {
    pub workspace: Workspace,
    /// On a CI machine nothing may be skipped.
    pub ci: bool,
}

impl Context {
    /// Reads the workspace, and takes `CI` from the environment.
    pub fn load() -> Result<Context> {
        let ci = std::env::var("CI")
            .is_ok_and(|value| !value.is_empty() && value != "false" && value != "0");
        Ok(Context { workspace: Workspace::load()?, ci })
    }
}

/// How a check that did not fail came out.
pub enum Done {
    /// It held; the text says how much was looked at.
    Passed(String),
    /// This machine cannot do it; the text says why. An error where `Context::ci` holds.
    Skipped(String),
}

/// One check.
pub struct Step {
    /// One word, for `--only`.
    pub name: &'static str,
    /// What is checked, as a headline.
    pub what: &'static str,
    pub check: fn(&Context) -> Result<Done>,
}

/// Runs the checks in order up to the first that fails, and prints what came of each.
///
/// # Errors
/// The failed check's, and a skipped one's where nothing may be skipped.
pub fn run(task: &str, context: &Context, steps: &[&Step]) -> Result<()> {
    let start = Instant::now();
    let mut summary = Vec::new();
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        println!("\n==> {}/{} {}: {}", index + 1, steps.len(), step.name, step.what);
        let begin = Instant::now();
        let done = (step.check)(context).and_then(|done| refuse_skip(done, context.ci));
        let took = begin.elapsed();
        match done {
            Ok(Done::Passed(note)) => summary.push(line("ok", step, took, &note)),
            Ok(Done::Skipped(why)) => {
                println!("SKIPPED: {why}");
                summary.push(line("SKIPPED", step, took, &why));
            }
            Err(error) => {
                println!("FAILED: {error:#}");
                summary.push(line("FAILED", step, took, ""));
                failure = Some((step.name, error));
                break;
            }
        }
    }
    println!("\n==> Summary of `cargo xtask {task}`");
    summary.iter().for_each(|line| println!("{line}"));
    let not_run = steps.len() - summary.len();
    if let Some((name, error)) = failure {
        bail!("`{name}` failed ({not_run} checks after it did not run): {error:#}");
    }
    println!("all {} checks passed in {:.0} s", steps.len(), start.elapsed().as_secs_f64());
    Ok(())
}

fn refuse_skip(done: Done, ci: bool) -> Result<Done> {
    match done {
        Done::Skipped(why) if ci => bail!("{why} (a CI machine must not skip it)"),
        done => Ok(done),
    }
}

fn line(result: &str, step: &Step, took: Duration, note: &str) -> String {
    format!("{result:>8}  {:<11} {:>6.1} s  {note}", step.name, took.as_secs_f64())
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(ci: bool) -> Context {
        Context {
            workspace: Workspace { root: "/".into(), target: "/".into(), crates: Vec::new() },
            ci,
        }
    }

    const HOLDS: Step =
        Step { name: "holds", what: "holds", check: |_| Ok(Done::Passed("one".into())) };
    const SKIPS: Step = Step {
        name: "skips",
        what: "skips",
        check: |_| Ok(Done::Skipped("no such device".into())),
    };
    const FAILS: Step =
        Step { name: "fails", what: "fails", check: |_| bail!("broken on purpose") };

    #[test]
    fn a_skip_passes_for_a_user_and_fails_in_ci() {
        assert!(run("test", &context(false), &[&HOLDS, &SKIPS]).is_ok());
        let error = run("test", &context(true), &[&HOLDS, &SKIPS]).expect_err("CI skips nothing");
        assert!(error.to_string().contains("no such device"), "{error}");
    }

    #[test]
    fn the_first_failure_stops_the_list_and_is_the_error() {
        let error = run("test", &context(false), &[&FAILS, &HOLDS]).expect_err("a failure fails");
        let text = error.to_string();
        assert!(
            text.contains("broken on purpose") && text.contains("1 checks after it did not run"),
            "{text}"
        );
    }
}
