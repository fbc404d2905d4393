/* The plainest way to use a port, for benchmarks to compare with: DPDK's own buffers, no checks. */

/* The most packets of a call. */
#define UNET_BARE_BURST 64

/* A pool of packet buffers, with the cache that a thread of DPDK's has of its own. NULL: rte_errno says why. */
struct rte_mempool *unet_bare_pool(const char *name, unsigned int count, int socket);

/* Writes a frame into all free buffers. It has to fit. */
void unet_bare_write(struct rte_mempool *pool, const void *frame, uint16_t len);

/* Sends at most UNET_BARE_BURST buffers of so many bytes, each with a number at a place in it, from `first` on: how
 * many the port took. */
uint16_t unet_bare_send(uint16_t port, struct rte_mempool *pool, uint64_t first, uint16_t count, uint16_t len,
                        uint16_t place);

/* Receives at most `count` packets, and reads the number at a place in each. */
uint16_t unet_bare_receive(uint16_t port, struct rte_mbuf **mbufs, uint64_t *numbers, uint16_t count, uint16_t place);

/* Frees packets. */
void unet_bare_free(struct rte_mbuf **mbufs, uint16_t count);
