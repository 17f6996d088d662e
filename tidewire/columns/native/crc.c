/* CRC-32C, which every record batch has, by the processor's own instruction. */

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>

__attribute__((target("sse4.2,crc32"))) static uint32_t summed(const uint8_t *at, int64_t size) {
    uint64_t crc = 0xffffffff;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        __builtin_memcpy(&word, at, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; size > 0; size--) crc = __builtin_ia32_crc32qi((uint32_t)crc, *at++);
    return ~(uint32_t)crc;
}

static int able(void) {
    static int found = -1; /* asking takes microseconds on a virtual machine */
    if (found < 0) {
        unsigned int a, b, c = 0, d;
        found = __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSE4_2;
    }
    return found;
}
#else
static uint32_t summed(const uint8_t *at, int64_t size) { return (void)at, (void)size, 0; }
static int able(void) { return 0; }
#endif

/* The CRC-32C of bytes; -1: this processor has no such instruction. */
int64_t tidewire_crc32c(const uint8_t *at, int64_t size) { return able() ? (int64_t)summed(at, size) : -1; }
