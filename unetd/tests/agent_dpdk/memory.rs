//! An agent whose port of DPDK is memory that it shares with another port: its peers have the other end.

use crate::agency::*;
use crate::exchanging::exchange;

#[test]
fn over_memory_between_two_ports() {
    let socket = format!("agent-{}", std::process::id());
    let device = format!("dpdk:net_memif1,role=client,socket={socket}");
    let agent = Agency::start(&format!(
        "[[device]]\nopen = \"{device}?ip=10.66.254.1/24&shared=yes&memory=256\"\n[[allow]]\n\
         everyone = true\ndevices = [\"{device}\"]\nlisten = [9000]\nconnect = [\"10.66.254.2:*\"]\n"
    ));
    // The peers' end comes first: the agent's, which a client's first wish opens, asks for it once.
    let far = |host: &str, port: u16| -> Address {
        let device = format!("dpdk:net_memif0,role=server,socket={socket}");
        let how = "ip=10.66.254.2/24&shared=yes&memory=256";
        format!("{device}@{host}:{port}?{how}").parse().expect("valid")
    };
    let _stays = listening(&far("10.66.254.2", 9009));
    for port in [9000, 9001] {
        let by_agent = agent.address(&format!("{device}@10.66.254.2:{port}"));
        exchange(&far("10.66.254.2", port), &by_agent, client());
    }
    let by_agent = agent.address(&format!("{device}@10.66.254.1:9000"));
    exchange(&by_agent, &far("10.66.254.1", 9000), direct());
}
