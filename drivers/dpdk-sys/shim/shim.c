#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>

uint16_t unet_receive(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count) {
    return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t unet_transmit(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count) {
    return rte_eth_tx_burst(port, queue, mbufs, count);
}

void unet_clean(uint16_t port, uint16_t queue) {
    (void)rte_eth_tx_done_cleanup(port, queue, 0);
}

void unet_free(struct rte_mbuf *mbuf) {
    rte_pktmbuf_free(mbuf);
}

/* Of mbufs with `bytes` bytes behind each; mempool_flags are RTE_MEMPOOL_F_…, mbuf_flags RTE_PKTMBUF_POOL_F_…. */
static struct rte_mempool *make(const char *name, unsigned int count, uint16_t bytes, uint16_t room,
                                uint32_t mbuf_flags, unsigned int mempool_flags, int socket, int shared) {
    struct rte_pktmbuf_pool_private how = { .mbuf_data_room_size = room, .flags = mbuf_flags };
    struct rte_mempool *mempool = rte_mempool_create_empty(
        name, count, sizeof(struct rte_mbuf) + bytes, 0, sizeof(how), socket, mempool_flags);
    if (mempool == NULL) {
        return NULL;
    }
    int wrong = rte_mempool_set_ops_byname(mempool, shared ? "ring_mp_mc" : "ring_sp_sc", NULL);
    if (wrong == 0) {
        rte_pktmbuf_pool_init(mempool, &how);
        wrong = rte_mempool_populate_default(mempool);
    }
    if (wrong < 0) {
        rte_mempool_free(mempool);
        rte_errno = -wrong;
        return NULL;
    }
    rte_mempool_obj_iter(mempool, rte_pktmbuf_init, NULL);
    return mempool;
}

struct rte_mempool *unet_mempool(const char *name, unsigned int count, uint16_t room, int socket, int shared) {
    return make(name, count, 0, room, RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF, 0, socket, shared);
}

struct rte_mempool *unet_packets(const char *name, unsigned int count, uint16_t room, int socket) {
    /* One behind the other also across pages: net_af_xdp takes it for granted that they lie so. */
    return make(name, count, room, room, 0, RTE_MEMPOOL_F_NO_IOVA_CONTIG, socket, 1);
}

unsigned int unet_take(struct rte_mempool *mempool, struct rte_mbuf **mbufs, unsigned int count) {
    unsigned int there = rte_mempool_avail_count(mempool);
    if (there < count) {
        count = there;
    }
    if (count == 0 || rte_mempool_get_bulk(mempool, (void **)mbufs, count) != 0) {
        return 0;
    }
    return count;
}

void unet_give(struct rte_mempool *mempool, struct rte_mbuf **mbufs, unsigned int count) {
    for (unsigned int i = 0; i < count; i++) {
        mbufs[i]->next = NULL;
        mbufs[i]->nb_segs = 1;
        rte_mbuf_refcnt_set(mbufs[i], 1);
    }
    rte_mempool_put_bulk(mempool, (void **)mbufs, count);
}

void *unet_make(struct rte_mempool *mempool, uint16_t len, struct rte_mbuf **made) {
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(mempool);
    void *bytes = mbuf == NULL ? NULL : rte_pktmbuf_append(mbuf, len);
    if (bytes == NULL) {
        rte_pktmbuf_free(mbuf);
    }
    *made = mbuf;
    return bytes;
}

void unet_point(struct rte_mbuf *mbuf, void *bytes, uint16_t room, struct rte_mbuf_ext_shared_info *info) {
    mbuf->buf_addr = bytes;
    /* Addresses of the device are those of this process: the driver asks for nothing else. */
    rte_mbuf_iova_set(mbuf, (rte_iova_t)(uintptr_t)bytes);
    mbuf->buf_len = room;
    mbuf->ol_flags = RTE_MBUF_F_EXTERNAL;
    mbuf->shinfo = info;
    rte_mbuf_ext_refcnt_set(info, 1);
}

void unet_fill(struct rte_mbuf *mbuf, void *buffer, uint16_t offset, uint16_t len) {
    mbuf->buf_addr = buffer;
    rte_mbuf_iova_set(mbuf, (rte_iova_t)(uintptr_t)buffer);
    mbuf->data_off = offset;
    mbuf->data_len = len;
    mbuf->pkt_len = len;
    mbuf->nb_segs = 1;
    mbuf->next = NULL;
    mbuf->ol_flags = RTE_MBUF_F_EXTERNAL;
    rte_mbuf_refcnt_set(mbuf, 1);
}

void unet_chain(struct rte_mbuf *head, struct rte_mbuf *last, struct rte_mbuf *segment) {
    last->next = segment;
    head->nb_segs += 1;
    head->pkt_len += segment->data_len;
}

void unet_drain(struct rte_ring *ring) {
    void *mbuf;
    while (rte_ring_dequeue(ring, &mbuf) == 0) {
        rte_pktmbuf_free(mbuf);
    }
}

struct unet_segment unet_segment(const struct rte_mbuf *mbuf) {
    struct unet_segment segment = {
        .bytes = rte_pktmbuf_mtod(mbuf, void *),
        .len = mbuf->data_len,
        .mempool = mbuf->pool,
        .info = mbuf->shinfo,
        .next = mbuf->next,
    };
    return segment;
}

int unet_is_up(uint16_t port) {
    struct rte_eth_link link = { 0 };
    return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

int unet_watch(int fd, void (*come)(void *)) {
    struct rte_intr_handle *handle = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
    if (handle == NULL) {
        return -ENOMEM;
    }
    rte_intr_fd_set(handle, fd);
    rte_intr_type_set(handle, RTE_INTR_HANDLE_EXT);
    int wrong = rte_intr_callback_register(handle, come, NULL);
    if (wrong != 0) {
        rte_intr_instance_free(handle);
    }
    return wrong;
}

int unet_errno(void) {
    return rte_errno;
}

static void (*unet_listener)(const char *text, size_t len);

static ssize_t unet_write(void *cookie, const char *text, size_t len) {
    (void)cookie;
    unet_listener(text, len);
    return (ssize_t)len;
}

int unet_log_to(void (*listener)(const char *text, size_t len)) {
    cookie_io_functions_t functions = { .write = unet_write };
    unet_listener = listener;
    FILE *stream = fopencookie(NULL, "w", functions);
    if (stream == NULL) {
        return -1;
    }
    setvbuf(stream, NULL, _IOLBF, 0);
    return rte_openlog_stream(stream);
}
