//! The agent as a daemon.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use unetd::direct::keeper::{self, Told};
use unetd::direct::{Service, Store};
use unetd::report::Lent;
use unetd::{Agent, Policy};

/// Lends network devices to processes that distrust each other, by a policy.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  unetd --config /etc/unetd.toml --check     say whether the policy is valid, and where not
  unetd --config /etc/unetd.toml             run; the log goes to standard error
  kill -HUP $(pidof unetd)                   read the policy anew; a bad one changes nothing

Exit codes: 0 done, 1 it could not start, 2 bad arguments or a bad policy."
)]
struct Arguments {
    /// The policy.
    #[arg(long, value_name = "FILE", default_value = "/etc/unetd.toml")]
    config: PathBuf,
    /// Read the policy, say what is wrong with it, and end.
    #[arg(long)]
    check: bool,
    /// Stay in the foreground, which it does anyway: for unit files that say so.
    #[arg(long)]
    foreground: bool,
    /// The part that a keeper starts: it has what a worker before it has left.
    #[arg(long, hide = true)]
    worker: bool,
    /// Log refusals and the like too.
    #[arg(long, short)]
    verbose: bool,
}

/// How long a turn waits where nothing happens: signals are looked at in between.
const TURN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let policy = match read(&arguments.config) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("unetd: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{} is valid", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    log(arguments.verbose);
    // What direct mode lends has to outlive the process that does the work.
    let is_keeper = policy.direct.is_some() && !arguments.worker;
    let ended = if is_keeper { keep() } else { run(&arguments, policy) };
    match ended {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn log(verbose: bool) {
    let level = if verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    // The journal has a clock of its own.
    let log = tracing_subscriber::fmt().with_max_level(level).without_time();
    log.with_ansi(false).with_writer(std::io::stderr).init();
}

fn read(path: &PathBuf) -> Result<Policy, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    Policy::parse(&text).map_err(|error| format!("{shown}: {error}"))
}

/// Keeps a worker, which is this program again.
fn keep() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (stop, reload) = flags()?;
    keeper::raise_descriptors();
    let program = std::env::current_exe()?;
    let worker = || {
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).arg("--worker");
        command
    };
    let told = || match (stop.load(Ordering::Relaxed), reload.swap(false, Ordering::Relaxed)) {
        (true, _) => Told::End,
        (false, true) => Told::Reload,
        (false, false) => Told::Nothing,
    };
    let status = keeper::keep(worker, told)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Set by signals: that it is to end, and that it is to read the policy anew.
fn flags() -> std::io::Result<(Arc<AtomicBool>, Arc<AtomicBool>)> {
    let (stop, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    signal_hook::flag::register(SIGHUP, reload.clone())?;
    Ok((stop, reload))
}

/// Direct mode, in a thread of its own: registering memory takes its time.
struct Lender {
    policies: Sender<Policy>,
    /// What it has lent, whenever that has changed.
    lent: Receiver<Lent>,
    thread: JoinHandle<()>,
}

impl Lender {
    fn start(policy: Policy, name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        keeper::raise_descriptors();
        let mut service = Service::resume(name, policy, Store::inherit()?)?;
        let adopted = service.counts().adopted;
        tracing::info!(name, adopted, "queues are lent");
        let (policies, new) = channel();
        // What nobody has taken yet is as good as what is new: one waits at most.
        let (tell, lent) = sync_channel(1);
        let thread = std::thread::Builder::new().name("direct".into()).spawn(move || {
            let mut told = None;
            loop {
                if told.as_ref() != Some(service.counts())
                    && tell.try_send(service.report()).is_ok()
                {
                    told = Some(service.counts().clone());
                }
                let changed = match new.try_recv() {
                    Ok(policy) => service.replace(policy).map(|_| ()),
                    Err(TryRecvError::Empty) => Ok(()),
                    Err(TryRecvError::Disconnected) => return,
                };
                if let Err(error) = changed.and_then(|()| service.turn(TURN)) {
                    return tracing::error!("{error}");
                }
            }
        })?;
        Ok(Self { policies, lent, thread })
    }
}

fn run(arguments: &Arguments, policy: Policy) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let (stop, reload) = flags()?;
    let names = policy.names.join(", ");
    let direct = policy.direct.as_ref().map(|direct| direct.name.clone());
    let lender = match direct.filter(|_| arguments.worker) {
        Some(name) => Some(Lender::start(policy.clone(), &name)?),
        None => None,
    };
    let mut agent = Agent::start(policy, drivers::linked())?;
    tracing::info!(%names, config = %arguments.config.display(), "ready");
    while !stop.load(Ordering::Relaxed) {
        if reload.swap(false, Ordering::Relaxed) {
            match read(&arguments.config) {
                Ok(policy) => {
                    match &lender {
                        // It fails where the thread has ended, which is looked at below.
                        Some(lender) => _ = lender.policies.send(policy.clone()),
                        None if policy.direct.is_some() => {
                            tracing::warn!("direct mode begins with the next start");
                        }
                        None => {}
                    }
                    let closed = agent.reload(policy);
                    tracing::info!(closed, "the new policy is in force");
                }
                Err(error) => tracing::error!("the old policy stays in force: {error}"),
            }
        }
        agent.turn(TURN);
        if let Some(lent) = lender.as_ref().and_then(|lender| lender.lent.try_recv().ok()) {
            agent.set_lent(lent);
        }
        if lender.as_ref().is_some_and(|lender| lender.thread.is_finished()) {
            return Err("direct mode has ended".into());
        }
    }
    tracing::info!("told to stop: every channel is closed");
    Ok(ExitCode::SUCCESS)
}
