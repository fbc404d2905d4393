/* What is inline in DPDK's headers, as functions; and the headers themselves. */

#include <stdint.h>
#include <stdio.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

/* Constants that are expressions in the headers. */
static const uint64_t UNET_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

/* rte_eth_rx_burst. */
uint16_t unet_receive(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* rte_eth_tx_burst. */
uint16_t unet_transmit(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* rte_eth_tx_done_cleanup, of all; a port that cannot does so when it is used. */
void unet_clean(uint16_t port, uint16_t queue);

/* rte_pktmbuf_free: of all segments. */
void unet_free(struct rte_mbuf *mbuf);

/* A mempool of mbufs whose bytes lie elsewhere, of `room` bytes each, to be pointed there. `shared` says whether
 * several threads take and free its mbufs at a time. NULL: rte_errno says why. */
struct rte_mempool *unet_mempool(const char *name, unsigned int count, uint16_t room, int socket, int shared);

/* A mempool of mbufs with `room` bytes behind each, one behind the other. NULL: rte_errno says why. */
struct rte_mempool *unet_packets(const char *name, unsigned int count, uint16_t room, int socket);

/* Takes at most `count` free mbufs out of a mempool. */
unsigned int unet_take(struct rte_mempool *mempool, struct rte_mbuf **mbufs, unsigned int count);

/* Frees mbufs of one segment into their mempool, which is one. */
void unet_give(struct rte_mempool *mempool, struct rte_mbuf **mbufs, unsigned int count);

/* A packet of `len` bytes, to be written where it says, out of a mempool of packets with bytes. NULL: none is free, or
 * none has room. */
void *unet_make(struct rte_mempool *mempool, uint16_t len, struct rte_mbuf **made);

/* Points an mbuf at a buffer of `room` bytes. */
void unet_point(struct rte_mbuf *mbuf, void *bytes, uint16_t room, struct rte_mbuf_ext_shared_info *info);

/* Makes an mbuf a packet, or a segment of one, of `len` bytes from `offset` on in a buffer; the rest of it as
 * unet_point left it. */
void unet_fill(struct rte_mbuf *mbuf, void *buffer, uint16_t offset, uint16_t len);

/* Appends a segment to a packet. */
void unet_chain(struct rte_mbuf *head, struct rte_mbuf *last, struct rte_mbuf *segment);

/* Frees all packets in a ring. */
void unet_drain(struct rte_ring *ring);

/* What an mbuf says of its segment. */
struct unet_segment {
    void *bytes;
    uint32_t len;
    struct rte_mempool *mempool;
    struct rte_mbuf_ext_shared_info *info;
    struct rte_mbuf *next;
};
struct unet_segment unet_segment(const struct rte_mbuf *mbuf);

/* Whether a port has a link, by rte_eth_link_get_nowait. */
int unet_is_up(uint16_t port);

/* Has DPDK's interrupt thread call a function whenever it sees that a descriptor is readable; for good. */
int unet_watch(int fd, void (*come)(void *));

/* rte_errno, which is each thread's own. */
int unet_errno(void);

/* Has DPDK's messages go to a function, line by line or in parts of lines. */
int unet_log_to(void (*listener)(const char *text, size_t len));

#include "bare.h"
