/* What stands in bytes from outside: integers, UTF-8, texts. No function reads at `end` or behind it. */

#include <stdint.h>

typedef const uint8_t *place; /* a place in a body; NULL: it could not be read */

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define HIGH UINT64_C(0x8080808080808080)

static inline uint64_t load8(place at) {
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load4(place at) {
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}

/* The lowest `count` bytes of a word, 0 to 8. */
static inline uint64_t lowest(uint64_t word, int64_t count) {
    return count < 8 ? word & ((UINT64_C(1) << (8 * count)) - 1) : word;
}

/* Seven bits of each of eight bytes. */
static inline uint64_t squeezed(uint64_t word) {
    word &= ~HIGH;
    word = (word & UINT64_C(0x007f007f007f007f)) | (word & UINT64_C(0x7f007f007f007f00)) >> 1;
    word = (word & UINT64_C(0x00003fff00003fff)) | (word & UINT64_C(0x3fff00003fff0000)) >> 2;
    return (word & UINT64_C(0x0fffffff)) | (word & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* An integer of any length; one that could be shorter is none. */
static __attribute__((noinline)) place long_number(place at, place end, int64_t *found) {
    uint64_t value = 0;
    int shift = 0;
    if (end - at >= 8) {
        uint64_t word = load8(at), last = ~word & HIGH;
        if (last) {
            int size = __builtin_ctzll(last) / 8 + 1;
            if (size > 1 && !at[size - 1]) return 0;
            value = squeezed(lowest(word, size));
            *found = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
            return at + size;
        }
        value = squeezed(word);
        shift = 56;
        at += 8;
    }
    for (;; shift += 7) {
        if (at >= end) return 0;
        uint64_t byte = *at++;
        if (shift == 63 && byte > 1) return 0;
        value |= (byte & 127) << shift;
        if (byte < 128) {
            if (!byte && shift) return 0;
            break;
        }
    }
    *found = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
    return at;
}

/* An integer in as few bytes as it fits into. */
static inline place number(place at, place end, int64_t *found) {
    if (LIKELY(end - at > 1)) {
        if (*at < 128) {
            *found = (int64_t)(*at >> 1) ^ -(int64_t)(*at & 1);
            return at + 1;
        }
        if ((uint8_t)(at[1] - 1) < 127) { /* two bytes: not above 127 again, and not nothing */
            *found = (int64_t)(at[1] << 6 | (*at & 127) >> 1) ^ -(int64_t)(*at & 1);
            return at + 2;
        }
    }
    return long_number(at, end, found);
}

/* The place behind such an integer. */
static inline place past_number(place at, place end) {
    int64_t unused;
    if (LIKELY(end - at > 8)) {
        uint64_t last = ~load8(at) & HIGH;
        int size = last ? __builtin_ctzll(last) / 8 + 1 : 9;
        if (LIKELY((uint8_t)(at[size - 1] - 1) < 127)) return at + size; /* not zero, nothing behind */
    }
    return number(at, end, &unused);
}

/* Whether bytes are UTF-8: no surrogates, nothing longer than need be, nothing beyond U+10FFFF. */
static int is_utf8(place at, place end) {
    while (at < end) {
        if (end - at >= 8 && !(load8(at) & HIGH)) {
            at += 8;
            continue;
        }
        uint8_t first = *at++;
        if (first < 0x80) continue;
        int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        if (first < 0xc2 || first > 0xf4 || end - at < more) return 0;
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) return 0;
        for (at++; --more; at++)
            if ((*at & 0xc0) != 0x80) return 0;
    }
    return 1;
}

/* The start of a text or of bytes, and their size. */
static inline place span(place at, place end, int64_t *size) {
    if (LIKELY(at < end && !(*at & 0x81)))
        *size = *at++ >> 1;
    else if (!(at = number(at, end, size)) || *size < 0)
        return 0;
    return *size <= end - at ? at : 0;
}

static int same(place one, place other, int64_t size) {
    for (; size >= 8; size -= 8, one += 8, other += 8)
        if (load8(one) != load8(other)) return 0;
    while (size--)
        if (*one++ != *other++) return 0;
    return 1;
}
