//! The judge: starts, stops, kills, and keeps the books.

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::account::{Books, Ledger, Line};
use crate::host::{Host, settle};
use crate::process::Watched;
use crate::traffic::Random;

const HOSTS: [Host; 2] = [Host::A, Host::B];
/// The server's first port.
const PORT: u16 = 9000;
/// How soon after a death nothing of it may be left.
const PATIENCE: Duration = Duration::from_secs(2);
/// What one who is killed may take along of what it received: what its rings hold, or its socket's buffer
/// (of the smallest packets) and what was read from there for it; and of what it was to send: what waits,
/// and a ring.
const IN_RING: i64 = 1024;
const IN_SOCKET: i64 = 2048;
const BURST: i64 = 64;
/// How often the books are read when all is quiet.
const LOOKS: usize = 4;
/// Places among the counts of a direction.
const REFUSED: usize = 2;
const BETWEEN: usize = 3;

/// What carries the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Generic,
    Native,
    Udp,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "xdp" => Ok(Self::Generic),
            "xdp-native" => Ok(Self::Native),
            "udp" => Ok(Self::Udp),
            _ => Err(format!("{word} is no transport: xdp, xdp-native or udp")),
        }
    }
}

impl Transport {
    fn is_xdp(self) -> bool {
        self != Self::Udp
    }

    /// Where the server listens, and where its clients connect to: over AF_XDP an interface's queues belong
    /// to one process, and what is sent on a queue of a veth arrives on the same one.
    fn addresses(self, host: Host) -> Vec<String> {
        let queue = |queue: u16, mode: &str| {
            let interface = host.interface();
            format!("xdp:{interface}/{queue}@10.77.0.2:{}?mode={mode}", PORT + queue)
        };
        match self {
            // Behind the generic hook the second queue gets nothing.
            Self::Generic => vec![queue(0, "generic")],
            Self::Native => vec![queue(0, "native"), queue(1, "native")],
            Self::Udp => (0..2).map(|n| format!("udp:10.77.0.2:{}", PORT + n)).collect(),
        }
    }

    fn bound(self) -> i64 {
        match self {
            Self::Generic => IN_RING + 2 * BURST,
            Self::Native => 2 * (IN_RING + 2 * BURST),
            Self::Udp => 2 * (IN_SOCKET + 2 * BURST),
        }
    }
}

/// What is done in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Nothing,
    KillClient,
    KillServer,
    KillBoth,
    DownAndUp(Host),
}

impl Deed {
    /// How many processes of a host it kills.
    fn kills(self, host: Host) -> usize {
        usize::from(match host {
            Host::A => matches!(self, Self::KillClient | Self::KillBoth),
            Host::B => matches!(self, Self::KillServer | Self::KillBoth),
        })
    }
}

struct Judge {
    transport: Transport,
    random: Random,
    processes: Vec<Watched>,
    /// Of those that were killed, by host.
    dead: [Ledger; 2],
    kills: [u64; 2],
    downs: u64,
    longest_release: Duration,
    most_in_flight: i64,
}

pub fn judge(transport: Transport, seconds: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut judge = Judge {
        transport,
        random: Random(seed),
        processes: Vec::new(),
        dead: Default::default(),
        kills: [0; 2],
        downs: 0,
        longest_release: Duration::ZERO,
        most_in_flight: 0,
    };
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let start = judge.books()?;
    judge.start_all()?;
    sleep(Duration::from_secs(1));
    let mut before = judge.quiet(&start, Deed::Nothing, 0)?;
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let deed = match judge.random.below(10) {
            _ if round == 1 => Deed::Nothing,
            0..4 => Deed::KillClient,
            4..7 => Deed::KillServer,
            7 => Deed::KillBoth,
            8 => Deed::DownAndUp(HOSTS[judge.random.below(2) as usize]),
            _ => Deed::Nothing,
        };
        judge.round(deed)?;
        before = judge.quiet(&before, deed, round)?;
        let part = begin.elapsed().as_secs_f64() / seconds.max(1) as f64;
        progress(part, &format!("round {round}: {deed:?}, adds up"));
    }
    judge.report(&start, &before, begin.elapsed());
    Ok(())
}

/// A bar on a terminal, elsewhere a line.
fn progress(part: f64, what: &str) {
    if !std::io::stdout().is_terminal() {
        return println!("{what}");
    }
    let full = (part.min(1.0) * 40.0) as usize;
    print!("\r[{:-<40}] {what:<40}", "#".repeat(full));
    if full == 40 {
        println!();
    }
    // A bar that cannot be shown is no reason to stop.
    _ = std::io::stdout().flush();
}

impl Judge {
    fn start_all(&mut self) -> Result<(), Box<dyn Error>> {
        let serve = std::iter::once("serve".to_owned());
        let serve = serve.chain(self.transport.addresses(Host::B)).collect();
        self.processes.push(Watched::start(Host::B, serve)?);
        let clients = if self.transport.is_xdp() { 1 } else { 3 };
        for _ in 0..clients {
            let words = self.client();
            self.processes.push(Watched::start(Host::A, words)?);
        }
        Ok(())
    }

    fn client(&mut self) -> Vec<String> {
        let seed = self.random.below(u64::MAX).to_string();
        let call = ["call".to_owned(), seed].into_iter();
        call.chain(self.transport.addresses(Host::A)).collect()
    }

    fn pause(&mut self) {
        sleep(Duration::from_millis(300 + self.random.below(1200)));
    }

    fn round(&mut self, deed: Deed) -> Result<(), Box<dyn Error>> {
        self.pause();
        match deed {
            Deed::Nothing => {}
            Deed::KillClient => self.kill(|host| host == Host::A)?,
            Deed::KillServer => self.kill(|host| host == Host::B)?,
            Deed::KillBoth => self.kill(|_| true)?,
            Deed::DownAndUp(host) => {
                self.downs += 1;
                host.ip(&format!("link set {} down", host.interface()))?;
                sleep(Duration::from_millis(self.random.below(300)));
                host.ip(&format!("link set {} up", host.interface()))?;
            }
        }
        self.pause();
        Ok(())
    }

    /// Stops every process, and reads the books.
    fn stop(&mut self) -> Result<Books, Box<dyn Error>> {
        for process in &mut self.processes {
            process.stop()?;
        }
        for process in &self.processes {
            process.await_stop()?;
        }
        self.books()
    }

    /// What everybody counted; everybody stands still.
    fn books(&mut self) -> Result<Books, Box<dyn Error>> {
        let mut books = Books { processes: self.dead, kernels: settle()? };
        for process in &self.processes {
            books.processes[process.host as usize] += process.ledger()?;
        }
        Ok(books)
    }

    fn go_on(&self) -> Result<(), Box<dyn Error>> {
        self.processes.iter().try_for_each(Watched::go_on)
    }

    /// Kills one of the processes in each of such hosts, wherever it is, and starts others in their place.
    fn kill(&mut self, is_meant: impl Fn(Host) -> bool) -> Result<(), Box<dyn Error>> {
        self.stop()?;
        for host in HOSTS.into_iter().filter(|host| is_meant(*host)) {
            let there: Vec<usize> =
                (0..self.processes.len()).filter(|n| self.processes[*n].host == host).collect();
            let victim = there[self.random.below(there.len() as u64) as usize];
            let victim = self.processes.swap_remove(victim);
            self.dead[host as usize] += victim.ledger()?;
            self.kills[host as usize] += 1;
            let mut words = victim.kill()?;
            self.await_release(host, &words)?;
            if words[0] == "call" {
                words = self.client();
            }
            self.processes.push(Watched::start(host, words)?);
        }
        self.go_on()
    }

    /// Nothing is left of who died: no program on the interface, nobody at its port.
    fn await_release(&mut self, host: Host, words: &[String]) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        let is_server = words[0] == "serve";
        loop {
            let program = self.transport.is_xdp() && host.has_program()?;
            let port = is_server && host.counts()?.ports.contains(&PORT);
            if !program && !port {
                break;
            }
            if begin.elapsed() > PATIENCE {
                let what = if program { "its XDP program" } else { "its port" };
                return Err(format!("{} was killed, and {what} stays", words.join(" ")).into());
            }
            sleep(Duration::from_millis(1));
        }
        self.longest_release = self.longest_release.max(begin.elapsed());
        Ok(())
    }

    /// Has the clients pause until nothing is on its way, and checks that all that was sent since `before` is
    /// in the books.
    fn quiet(&mut self, before: &Books, deed: Deed, round: u64) -> Result<Books, Box<dyn Error>> {
        self.tell_clients()?;
        let mut clients = self.processes.iter_mut().filter(|process| process.host == Host::A);
        clients.try_for_each(Watched::await_pause)?;
        // Longer than the counts of devices are old.
        sleep(Duration::from_millis(250));
        let mut now = self.look()?;
        for _ in 1..LOOKS {
            sleep(Duration::from_millis(20));
            let other = self.look()?;
            // A probe may just have been on its way, which no book has.
            if other.in_no_book() <= now.in_no_book() {
                now = other;
            }
        }
        let wrong = self.wrong(before, &now, deed);
        if !wrong.is_empty() {
            for host in HOSTS {
                let (then, now) = (before.of(host), now.of(host));
                eprintln!("{} had {then:?}\nand has {now:?}", host.name());
            }
            return Err(format!("round {round}, {deed:?}: {}", wrong.join("; ")).into());
        }
        for process in &mut self.processes {
            process.check_descriptors()?;
        }
        self.tell_clients()?;
        Ok(now)
    }

    /// Stops every process, reads the books, and lets them go on.
    fn look(&mut self) -> Result<Books, Box<dyn Error>> {
        let books = self.stop()?;
        self.go_on()?;
        Ok(books)
    }

    fn tell_clients(&mut self) -> Result<(), Box<dyn Error>> {
        let mut clients = self.processes.iter_mut().filter(|process| process.host == Host::A);
        clients.try_for_each(Watched::tell)
    }

    /// What does not add up of what happened since `before`.
    fn wrong(&mut self, before: &Books, now: &Books, deed: Deed) -> Vec<String> {
        let mut wrong = Vec::new();
        for from in 0..2 {
            let (then, now) = (before.direction(from), now.direction(from));
            let (rest, in_hand) = (now.rest - then.rest, now.in_hand - then.in_hand);
            let since = |place: usize| now.went[place].1 - then.went[place].1;
            let dropped = now.interface_drops - then.interface_drops;
            let is_victim = |host: Host| deed.kills(host) as i64;
            let killed = is_victim(Host::A) + is_victim(Host::B);
            // What its device had not told of refusals when it was killed, the interface counted.
            let untold = (dropped - since(REFUSED)).max(0) * is_victim(HOSTS[from]);
            let most = killed * self.transport.bound() + untold + now.no_room - then.no_room;
            let burst = is_victim(HOSTS[1 - from]) * BURST;
            let to = HOSTS[1 - from].name();
            if !(0..=most).contains(&rest) {
                wrong.push(format!("{rest} packets to {to} are in no book, of {most} that may be"));
            }
            if !(0..=burst).contains(&in_hand) {
                wrong.push(format!("{to} took {in_hand} packets more than it counts, of {burst}"));
            }
            if since(BETWEEN) > dropped && !matches!(deed, Deed::DownAndUp(_)) {
                wrong.push(format!("{} packets to {to} got lost on the wire", since(BETWEEN)));
            }
            self.most_in_flight = self.most_in_flight.max(rest);
        }
        wrong
    }

    fn report(&self, start: &Books, end: &Books, took: Duration) {
        let kills: u64 = self.kills.iter().sum();
        println!(
            "{:?}: {} s, {} clients and {} servers killed, the interface down {} times; what they held \
             was free after {:?} at most",
            self.transport,
            took.as_secs(),
            self.kills[0],
            self.kills[1],
            self.downs,
            self.longest_release
        );
        for from in 0..2 {
            let (then, now) = (start.direction(from), end.direction(from));
            println!("{} to {}:", HOSTS[from].name(), HOSTS[1 - from].name());
            println!("  {:>12} to be sent", now.to_send - then.to_send);
            for ((name, is), (_, was)) in now.went.iter().zip(&then.went) {
                println!("  {:>12} {name}", is - was);
            }
            let rest = now.rest - then.rest;
            println!(
                "  {rest:>12} in flight at {kills} kills, or said to be sent and dropped, {} at most",
                self.most_in_flight
            );
            let at = &end.processes[1 - from];
            let lines: Vec<String> =
                at.lines().map(|(name, value)| format!("{name} {value}")).collect();
            println!("  there: {}", lines.join(", "));
            println!(
                "  {:>12} messages sent, {} received",
                end.processes[from][Line::Sent],
                at[Line::Received]
            );
        }
    }
}
