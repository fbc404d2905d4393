//! Redis, as its package installs it: one server without persistence, asked over a Unix socket or over
//! TCP on loopback, by pipelines.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kv::load::{End, LoadError, Operation, Target, check};
use redis::{Client, Connection, Pipeline, Value};

use super::server::Server;
use crate::fault::{During, Fault};

/// The program.
const PROGRAM: &str = "redis-server";
/// What to do where it is not there.
pub const HOW_TO_INSTALL: &str =
    "Redis is not here: install it, as with `apt-get install redis-server`.";
/// How long it may take to begin, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether there is a Redis to compare with.
pub fn is_here() -> bool {
    on_path(PROGRAM)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Starts a server on a core, and connects to it.
pub fn start(cpu: usize, by_unix: bool, value: usize) -> Result<(Server, Redis), Fault> {
    let folder = Folder::make()?;
    let socket = folder.0.join("socket");
    // Nobody else is told it, but somebody may take it before Redis does: then it does not begin.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    let port = free.during("finding a free port")?.port();
    let server = Server::start(command(&folder.0, &socket, port), cpu)?;
    let url = match by_unix {
        true => format!("redis+unix://{}", socket.display()),
        false => format!("redis://127.0.0.1:{port}"),
    };
    let connection = connect(&url)?;
    // The connection does not need the socket's name any more: the folder goes.
    Ok((server, Redis { connection, pipeline: Pipeline::new(), batch: Vec::new(), value }))
}

/// Nothing is written to disk. Where there is `setpriv`, it is killed with this program, whatever
/// becomes of that.
fn command(folder: &Path, socket: &Path, port: u16) -> Command {
    let mut command = match on_path("setpriv") {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", PROGRAM]);
            command
        }
        false => Command::new(PROGRAM),
    };
    let port = port.to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port, "--unixsocket"]).arg(socket);
    command.args(["--unixsocketperm", "700", "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(folder).args(["--daemonize", "no", "--supervised", "no"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn connect(url: &str) -> Result<Connection, Fault> {
    let fault = |error: redis::RedisError| Fault::Other(format!("Redis at {url}: {error}"));
    let client = Client::open(url).map_err(fault)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.get_connection_with_timeout(PATIENCE) {
            Ok(connection) => {
                connection.set_read_timeout(Some(PATIENCE)).map_err(fault)?;
                connection.set_write_timeout(Some(PATIENCE)).map_err(fault)?;
                return Ok(connection);
            }
            Err(error) if Instant::now() > deadline => return Err(fault(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// A connection under load. What was begun since is sent as one pipeline, and all of it waited for.
pub struct Redis {
    connection: Connection,
    pipeline: Pipeline,
    /// Tokens, and the numbers of keys that are got.
    batch: Vec<(u64, Option<u32>)>,
    /// Bytes of every value.
    value: usize,
}

impl Target for Redis {
    fn begin(&mut self, token: u64, operation: &Operation<'_>) -> Result<bool, LoadError> {
        match operation.put {
            Some(value) => self.pipeline.cmd("SET").arg(operation.key).arg(value),
            None => self.pipeline.cmd("GET").arg(operation.key),
        };
        self.batch.push((token, operation.put.is_none().then_some(operation.number)));
        Ok(true)
    }

    fn ended(&mut self, each: &mut dyn FnMut(u64, End)) -> Result<(), LoadError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let answers: Vec<Value> = self
            .pipeline
            .query(&mut self.connection)
            .map_err(|error| LoadError::Other(error.to_string()))?;
        self.pipeline.clear();
        if answers.len() != self.batch.len() {
            return Err(LoadError::Other(format!(
                "{} answers of {}",
                answers.len(),
                self.batch.len()
            )));
        }
        for ((token, got), answer) in self.batch.drain(..).zip(answers) {
            match (got, answer) {
                (Some(number), Value::BulkString(value)) => {
                    let head = value.first_chunk().copied().unwrap_or_default();
                    check(number, value.len(), head, self.value)?;
                }
                (Some(key), Value::Nil) => return Err(LoadError::Missing { key }),
                (None, Value::Okay) => {}
                (_, other) => return Err(LoadError::Other(format!("it answered {other:?}"))),
            }
            each(token, End::Done);
        }
        Ok(())
    }
}

/// A folder for the socket, for this user alone. Removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Fault> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("unet-bench-redis-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.during("making a folder for Redis")?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // At worst an empty folder stays.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
