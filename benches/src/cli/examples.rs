//! What the help shows after each command.

pub const EXAMPLES: &str = "\
Examples:
  unet-bench                                    the machine's limits, null RPCs and round trips
  unet-bench rtt --system unet,uds --size 8,64K two systems, two sizes
  unet-bench null-rpc --wait park --cpus 0,0    both sides sleep, on one core
  unet-bench rate --format json > rate.json     for machines
  unet-bench bandwidth --format html --out bandwidth.html
  unet-bench fbuf --size 4K,1M                  buffers handed over; fbuf --help has more
  unet-bench rate --system rpc --window 1,64    calls, several under way; rate --help has more
  unet-bench kv                                 a key-value server beside Redis
  unet-bench systems                            what --system can be
  unet-bench serve udp:10.0.0.2:9000            on one host, and on the other:
  unet-bench rtt --to udp:10.0.0.2:9000         round trips across a network; rtt --help has more

Times are of the whole round trip. Every figure stands beside the floor, which is measured around
the same run: the fastest mean round trip of a bare cache line between the two cores.";

pub const FBUF_EXAMPLES: &str = "\
Examples:
  unet-bench fbuf                                      everything: a minute or two
  unet-bench fbuf --system unet,fbuf/volatile --domains 2
                                                       the hand-off by size, beside half a round trip
  unet-bench fbuf --system fbuf/read --domains 3 --size 1M
                                                       a pipeline whose last domain reads, against
                                                       one core that reads memory of its own
  unet-bench fbuf --system fbuf/secured --size 4K,1M   copied out of the originator's reach
  unet-bench fbuf --system copy --size 64K,1M          pipes, vmsplice and a ring of copies
  unet-bench fbuf --system layers                      what a layer of the protocol graph costs

All times are of one hop: from one domain to the next. Two domains spin on a core each. Of three or
four the first half shares one core and the rest the other, so they cannot spin: they yield, and a
hop holds a switch of processes where it stays on a core.";

pub const NETWORK_EXAMPLES: &str = "\
Examples across a network:
  unet-bench serve udp:10.0.0.2:9000             on the server's host, until Ctrl-C; then, on another:
  unet-bench rtt --to udp:10.0.0.2:9000          all systems, against that one server
  unet-bench rate --to xdp:eth0@10.0.0.2:9000 --system unet,udp
  unet-bench bandwidth --to udp:10.0.0.2:9000 --system tcp/spin --size 64K

Both ends on one host, in two network namespaces; the server is started and ended:
  unet-bench rtt --transport udp:10.9.0.2:9000 --netns lab-a,lab-b
  unet-bench rtt --transport udp:127.0.0.1:9000  over the loopback device
  unet-bench rtt --transport 'xdp:lab-b0@10.77.0.2:9000?mode=generic' --client-device lab-a0 \
      --netns lab-a,lab-b                        the address has the server's interface
  unet-bench rtt --transport dpdk:net_memif      memory between two ports of DPDK (feature `dpdk`)

With --to the address has this host's interface; the server's is with `unet-bench serve`. So it is
with ports of DPDK, each of which has its own ip=ADDRESS/PREFIX.
With --to and --transport, --system chooses from the second list of `unet-bench systems`. The floor
is then the fastest bare loop over the same kind of network in the same run.";

pub const RATE_EXAMPLES: &str = "\
Examples of calls:
  unet-bench rate --system rpc                   1, 8 and 64 calls under way, begun singly and by 8
  unet-bench rate --system rpc --window 64 --batch 1,8,32 --size 8,64

A call counts when its reply is there and is the right one. Calls that are begun together may share a
message.

";

pub const BANDWIDTH_EXAMPLES: &str = "\
Examples of calls:
  unet-bench bandwidth --system rpc --size 1K,64K,1M,8M,64M
  unet-bench bandwidth --system rpc --size 8M --carries response --window 1,2,4
  unet-bench bandwidth --system rpc --size 8M --carries response --in-place

";

pub const SERVE_EXAMPLES: &str = "\
Examples:
  unet-bench serve udp:10.0.0.2:9000             U-Net over UDP, and the kernel's systems
  unet-bench serve xdp:eth0@10.0.0.2:9000        the same over this interface's AF_XDP: U-Net, xdp/raw
  unet-bench serve udp:0.0.0.0:9000 --for 60s    ends by itself
  unet-bench serve udp:10.9.0.2:9000 --netns lab-b

Clients connect to the kernel's TCP at the port of the address, and measure one at a time. Anybody
who reaches the port can make this host answer messages: serve only in networks that you trust.";

pub const SWEEP_EXAMPLES: &str = "\
Examples:
  unet-bench sweep --transport udp:127.0.0.1:9000 --system udp/spin
  unet-bench sweep --transport udp:10.9.0.2:9000 --netns lab-a,lab-b --format html --out load.html
  unet-bench sweep --to udp:10.0.0.2:9000 --system udp,tcp/spin --from 20% --up-to 120%
  unet-bench sweep --system rpc --up-to 200%     calls on this host; with --transport across a network

The capacity is what a flood of messages leaves: as many as arrive a second. Then messages are offered
at a share of it, each at a moment that was drawn beforehand, whatever became of the ones before. A
latency counts from that moment. With --transport it is the way to the server, since both ends read
one clock; with --to, and of calls, it is the way there and back.";

pub const BESIDE_EXAMPLES: &str = "\
Examples:
  unet-bench beside --transport udp:127.0.0.1:9000
  unet-bench beside --transport udp:10.9.0.2:9000 --netns lab-a,lab-b --flows 0,1,2,4
  unet-bench beside --size 64K --carries response  calls over shared memory

Times are of the null call; --size is that of each call of a flow. All clients are in one thread, which
serves them by turns.";

pub const KV_EXAMPLES: &str = "\
Examples:
  unet-bench kv                                  all mixes, one operation at a time and eight
  unet-bench kv --mix B --window 8 --size 100,4K  short values, and such as have buffers
  unet-bench kv --mix A --rate 50000             an open loop: latency from when operations were due
  unet-bench kv --system kv/lrpc                 without Redis

Redis is `redis-server` of the distribution, started for the run on the server's core, without
persistence, and asked by pipelines as wide as the window. Where it is not installed it is left out.";
