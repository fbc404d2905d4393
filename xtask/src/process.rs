//! Child processes with a time limit, whose output is passed on and whose test results are counted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What the `test result:` lines of a run of libtest add up to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
}

impl Tally {
    /// Adds a line of output, if it is a result line.
    pub fn read(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(kind)) = (words.next().map(str::parse::<u64>), words.next())
            else {
                continue;
            };
            match kind {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

/// What a finished child said on its standard output.
pub struct Said {
    pub tally: Tally,
    pub stdout: String,
}

/// Runs `command` to its end, passing its output on as it comes.
///
/// # Errors
/// When it cannot be started, exits with another status than zero, or takes longer than `limit`;
/// it is then killed with all its children, so that a test that hangs cannot hang the machine.
pub fn run(command: &mut Command, limit: Duration) -> Result<Said> {
    watch(command, limit, true)
}

/// As [`run`], but the standard output is only kept.
pub fn capture(command: &mut Command, limit: Duration) -> Result<Said> {
    watch(command, limit, false)
}

fn watch(command: &mut Command, limit: Duration, echo: bool) -> Result<Said> {
    let shown = show(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{shown}` could not be started"))?;
    let lines = BufReader::new(child.stdout.take().context("the child's output was not piped")?);
    let (send, said) = mpsc::channel();
    // Not joined: a grandchild that survives may hold the pipe open for ever.
    thread::spawn(move || {
        let mut stdout = String::new();
        let mut tally = Tally::default();
        for line in lines.lines().map_while(Result::ok) {
            if echo {
                // Nobody reads any more: the child's status still counts.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            tally.read(&line);
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let _ = send.send(Said { tally, stdout });
    });
    // Short commands are not to be waited for longer than they take.
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            kill_tree(child.id());
            let _ = child.wait();
            bail!(
                "`{shown}` was killed after {} s; it hangs, or its limit in xtask is too low",
                limit.as_secs()
            );
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    // The child has ended; what is left in the pipe is read at once unless a grandchild holds it.
    said.recv_timeout(Duration::from_secs(10)).with_context(|| {
        format!("`{shown}` has ended but left a process that holds its output open")
    })
}

/// Kills a process and what it started, leaves last, so that none is orphaned out of sight.
fn kill_tree(pid: u32) {
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(kill_tree);
    }
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already, which is what is wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The command as one would type it, with the variables that were set for it.
pub fn show(command: &Command) -> String {
    let quote = |word: &str| if word.contains(' ') { format!("'{word}'") } else { word.to_owned() };
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        let value = value.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        words.push(format!("{}={}", name.to_string_lossy(), quote(&value)));
    }
    let program = std::path::Path::new(command.get_program());
    words.push(program.file_name().unwrap_or_default().to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| quote(&word.to_string_lossy())));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_result_lines_and_ignores_the_rest() {
        let mut tally = Tally::default();
        tally.read("test ring::wraps ... ok");
        tally.read("test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        tally.read("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s");
        assert_eq!(tally, Tally { passed: 13, failed: 2, ignored: 3 });
    }

    #[test]
    fn a_child_that_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & sleep 60"]);
        let error =
            run(&mut command, Duration::from_millis(200)).err().expect("a hang is an error");
        assert!(error.to_string().contains("was killed after"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_child_that_fails_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"]), Duration::from_secs(5)).err();
        assert!(error.expect("status 3 is an error").to_string().contains("sh -c 'exit 3'"));
    }
}
