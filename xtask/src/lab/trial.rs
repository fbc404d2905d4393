//! The part `hosts`: the lab's own hosts, made, damaged, made again, used and removed.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::hosts::{self, Up, device, down, up};
use super::private::Entrance;
use super::shape::{Shape, addresses, link, place};
use super::tools::passed;
use super::{count, private};
use crate::process;
use crate::steps::Done;

/// With fewer checks something was forgotten.
const FEWEST: usize = 40;

/// What the whole part may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(120);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Has the lab made in namespaces of its own.
pub fn check(entrance: &Entrance) -> Result<Done> {
    let begin = Instant::now();
    let said = process::run(entrance.inside()?.arg("hosts"), TRIAL_LIMIT)?;
    let checks = count(&said, FEWEST)?;
    crate::test::passed(format!("{checks} checks in {:.0} s", begin.elapsed().as_secs_f64()))
}

/// The part itself, inside the namespaces.
pub fn inside() -> Result<()> {
    private::furnish()?;
    hosts::run("ip netns add lab-other")?;
    let pair = Shape::read([])?;
    let jumbo = ["--hosts=3", "--queues=4", "--mtu=9000", "--tx-off", "--gro-on"];
    let trio = Shape::read(jumbo)?;
    for shape in [&pair, &trio] {
        half_made(shape)?;
        damaged(shape)?;
        as_asked(shape)?;
        reached(shape)?;
    }
    let made = up(&pair)?;
    ensure!(matches!(made, Up::Made(_)), "a lab of two was asked for and one of three kept");
    passed("a lab with other parameters is made anew");
    kept(&pair)?;
    sockets(&pair)?;
    gone()
}

/// However far a set-up came before it was killed, the next one makes a whole lab.
fn half_made(shape: &Shape) -> Result<()> {
    let steps = shape.steps();
    // A larger lab takes its time; steps of a kind leave halves of a kind.
    let halves = (0..steps.len()).step_by(if shape.hosts > 2 { 8 } else { 1 });
    let tried = halves.len();
    for done in halves {
        down()?;
        for step in &steps[..done] {
            hosts::run(step)?;
        }
        match up(shape)? {
            Up::Made(_) => {}
            Up::Kept => bail!("{done} steps of {} were taken for a lab", steps.len()),
        }
    }
    passed(&format!("a lab of {} is made out of each of {tried} halves", shape.hosts));
    Ok(())
}

/// Whatever is broken or added, `up` sees it and mends it.
fn damaged(shape: &Shape) -> Result<()> {
    fn file(name: &str) -> Result<()> {
        Ok(fs::write(place(name), "")?)
    }
    let damages: [(&str, &dyn Fn() -> Result<()>); 7] = [
        ("a host is removed", &|| hosts::run("ip netns delete lab-b").map(drop)),
        ("a host too many is there", &|| hosts::run("ip netns add lab-h").map(drop)),
        ("a file has a host's name", &|| file("lab-c")),
        ("a device is removed", &|| hosts::run("ip -n lab-b link delete lab-b0").map(drop)),
        ("a device is down", &|| hosts::run("ip -n lab-b link set lab-b0 down").map(drop)),
        ("an address is gone", &|| hosts::run("ip -n lab-a address flush dev lab-a0").map(drop)),
        ("the MTU is another", &|| hosts::run("ip -n lab-a link set lab-a0 mtu 1400").map(drop)),
    ];
    for (damage, done) in damages {
        if damage.starts_with("a file") && shape.hosts > 2 {
            hosts::run("ip netns delete lab-c")?;
        }
        done()?;
        ensure!(matches!(up(shape)?, Up::Made(_)), "the lab was kept although {damage}");
        passed(&format!("a lab of {} is made anew when {damage}", shape.hosts));
    }
    Ok(())
}

/// Making it twice leaves the first one alone.
fn kept(shape: &Shape) -> Result<()> {
    let identity = || Ok::<_, anyhow::Error>(place("lab-a").metadata()?.ino());
    let before = identity()?;
    ensure!(up(shape)? == Up::Kept && identity()? == before, "a lab that was there was touched");
    passed("a lab that is there is left alone");
    Ok(())
}

/// The devices are what was asked for, by the word of another tool than the one that made them.
fn as_asked(shape: &Shape) -> Result<()> {
    let switch = |on: bool| if on { "on" } else { "off" };
    for host in shape.names() {
        let enter = format!("nsenter --net={} ethtool", place(&host).display());
        let channels = hosts::run(&format!("{enter} -l {host}0"))?;
        let now = channels.split_once("Current").map_or("", |(_, now)| now);
        for direction in ["RX", "TX"] {
            let line = format!("{direction}:\t\t{}\n", shape.queues);
            ensure!(now.contains(&line), "{host}0 has not {} queues:\n{channels}", shape.queues);
        }
        let features = hosts::run(&format!("{enter} -k {host}0"))?;
        for (name, state) in [
            ("tx-checksumming", switch(!shape.tx_off)),
            ("generic-receive-offload", switch(shape.gro_on)),
        ] {
            ensure!(
                features.contains(&format!("{name}: {state}\n")),
                "{host}0: {name} not {state}"
            );
        }
        passed(&format!("{host}0 has {} queues, and the features asked for", shape.queues));
    }
    Ok(())
}

/// Every host finds every other one by itself, and packets of the MTU pass and no longer ones.
fn reached(shape: &Shape) -> Result<()> {
    for host in shape.names() {
        hosts::run(&format!("ip -n {host} neighbour flush all"))?;
        let known = hosts::run(&format!("ip -n {host} neighbour show nud permanent"))?;
        ensure!(known.is_empty(), "{host} was told its neighbours, which it is to find: {known}");
    }
    for (from, host) in shape.names().enumerate() {
        for to in (0..shape.hosts).filter(|to| usize::from(*to) != from) {
            // The headers of IP and of the ping itself are part of the packet.
            for ((address, _), headers) in addresses(to).iter().zip([28, 48]) {
                let ping = |bytes: u32, often: &str| {
                    let how = format!("ping -n -q {often} -M do -s {bytes} {address}");
                    hosts::attempt(&format!("nsenter --net={} {how}", place(&host).display()))
                };
                let said = ping(shape.mtu - headers, "-c 5 -i 0.01 -W 2")?;
                ensure!(said.contains(" 5 received"), "{host} does not reach {address}:\n{said}");
                let known = hosts::run(&format!("ip -n {host} neighbour show {address}"))?;
                ensure!(known.contains(&link(to)), "{host} has not found {address}: {known}");
                let longer = ping(shape.mtu - headers + 1, "-c 1 -W 0.1");
                ensure!(longer.is_err(), "{host} sends {address} more than the MTU");
                passed(&format!("{host} finds {address}, by packets of {} bytes", shape.mtu));
            }
        }
    }
    Ok(())
}

/// A program that enters hosts as the lab's description says has working sockets there, and the
/// hosts have no other way in.
fn sockets(shape: &Shape) -> Result<()> {
    for (mine, other) in addresses(0).into_iter().zip(addresses(1)).take(2) {
        let (mine, other) = (mine.0, other.0);
        let client = within("lab-a", || Ok(UdpSocket::bind((mine.as_str(), 0))?))?;
        let server = within("lab-b", || Ok(UdpSocket::bind((other.as_str(), 0))?))?;
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE))?;
        }
        client.connect(server.local_addr()?)?;
        let mut got = [0; 2048];
        for number in 0..1000_u32 {
            let sent: Vec<u8> = number.to_le_bytes().repeat(1 + number as usize % 300);
            client.send(&sent)?;
            let (len, from) = server.recv_from(&mut got).context("a datagram was lost")?;
            ensure!(got[..len] == sent, "a datagram came as another");
            server.send_to(&got[..len], from)?;
            let len = client.recv(&mut got).context("the echo of a datagram was lost")?;
            ensure!(got[..len] == sent, "a datagram came back as another");
        }
        passed(&format!("1000 datagrams from {mine} to {other} and back"));
        streams(&other)?;
        let outside = UdpSocket::bind(if other.contains(':') { "[::]:0" } else { "0.0.0.0:0" })?;
        let sent = outside.send_to(b"x", server.local_addr()?);
        ensure!(sent.is_err(), "{other} is reached from outside the lab");
        passed(&format!("nobody outside reaches {other}"));
    }
    ensure!(shape.problem().is_none(), "using the lab has changed it: {:?}", shape.problem());
    Ok(())
}

/// A mebibyte by TCP, in pieces that wait for their echo.
fn streams(other: &str) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let listener = within("lab-b", || Ok(TcpListener::bind((other, 0))?))?;
    let at = listener.local_addr()?;
    let mut client = within("lab-a", || Ok(TcpStream::connect_timeout(&at, PATIENCE)?))?;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    // A piece fits into the sockets' buffers, so that one thread can have both ends.
    for piece in 0..128_u8 {
        let sent = vec![piece; 8192];
        let mut got = vec![0; sent.len()];
        client.write_all(&sent)?;
        server.read_exact(&mut got)?;
        server.write_all(&got)?;
        client.read_exact(&mut got)?;
        ensure!(got == sent, "TCP to {other} changed what it carried");
    }
    passed(&format!("a mebibyte by TCP to {other} and back"));
    Ok(())
}

/// Does something on a thread that has entered a host; a socket made there stays in the host.
fn within<T: Send>(host: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let entered = || {
        let namespace = File::open(place(host))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    thread::scope(|scope| scope.spawn(entered).join())
        .map_err(|_| anyhow!("a thread in {host} panicked"))?
}

/// After `down` nothing is left, and what is not the lab's is untouched.
fn gone() -> Result<()> {
    ensure!(device("lab-a").is_ok(), "there is no lab to remove");
    ensure!(down()? == ["lab-a", "lab-b"], "other namespaces than the lab's two were removed");
    ensure!(down()?.is_empty(), "`down` left something");
    passed("`down` twice removes the lab");
    let left = hosts::run("ip netns list")?;
    ensure!(left.trim() == "lab-other", "these namespaces are left: {left}");
    passed("a namespace that is not the lab's stays");
    let links = hosts::run("ip -oneline link show")?;
    ensure!(links.lines().count() == 1, "these devices are left:\n{links}");
    passed("no device is left");
    Ok(())
}
