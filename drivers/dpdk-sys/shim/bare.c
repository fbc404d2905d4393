#include "shim.h"

#include <string.h>

/* As DPDK's examples have it. */
enum { CACHE = 256 };

struct rte_mempool *unet_bare_pool(const char *name, unsigned int count, int socket) {
    return rte_pktmbuf_pool_create(name, count, CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, socket);
}

struct frame {
    const void *bytes;
    uint16_t len;
};

static void write_one(struct rte_mempool *pool, void *argument, void *object, unsigned int number) {
    const struct frame *frame = argument;
    struct rte_mbuf *mbuf = object;
    (void)pool;
    (void)number;
    memcpy((char *)mbuf->buf_addr + RTE_PKTMBUF_HEADROOM, frame->bytes, frame->len);
}

void unet_bare_write(struct rte_mempool *pool, const void *frame, uint16_t len) {
    struct frame it = { .bytes = frame, .len = len };
    rte_mempool_obj_iter(pool, write_one, &it);
}

uint16_t unet_bare_send(uint16_t port, struct rte_mempool *pool, uint64_t first, uint16_t count, uint16_t len,
                        uint16_t place) {
    struct rte_mbuf *mbufs[UNET_BARE_BURST];
    if (count > UNET_BARE_BURST) {
        count = UNET_BARE_BURST;
    }
    if (rte_pktmbuf_alloc_bulk(pool, mbufs, count) != 0) {
        return 0;
    }
    for (uint16_t i = 0; i < count; i++) {
        uint64_t number = first + i;
        mbufs[i]->data_len = len;
        mbufs[i]->pkt_len = len;
        memcpy(rte_pktmbuf_mtod_offset(mbufs[i], void *, place), &number, sizeof(number));
    }
    uint16_t sent = rte_eth_tx_burst(port, 0, mbufs, count);
    if (sent < count) {
        rte_pktmbuf_free_bulk(mbufs + sent, count - sent);
    }
    return sent;
}

uint16_t unet_bare_receive(uint16_t port, struct rte_mbuf **mbufs, uint64_t *numbers, uint16_t count, uint16_t place) {
    uint16_t came = rte_eth_rx_burst(port, 0, mbufs, count);
    for (uint16_t i = 0; i < came; i++) {
        memcpy(&numbers[i], rte_pktmbuf_mtod_offset(mbufs[i], void *, place), sizeof(numbers[i]));
    }
    return came;
}

void unet_bare_free(struct rte_mbuf **mbufs, uint16_t count) {
    rte_pktmbuf_free_bulk(mbufs, count);
}
