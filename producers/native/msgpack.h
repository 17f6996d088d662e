/* The values of msgpack that an ordinary message has. Each function takes one value of its one kind and goes
   behind it, or says no; none reads at `end` or behind it. */

#include "frames.h"

typedef struct { const uint8_t *at, *end; } reader;
typedef struct { const uint8_t *at; int64_t size; } text;
typedef struct { text items[MOST_CONDITIONS]; int64_t count; } texts;

static inline int64_t big(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int n = 0; n < bytes; n++) value = value << 8 | at[n];
    return (int64_t)value;
}

static inline int left(const reader *from, int64_t bytes) { return from->end - from->at >= bytes; }

static inline int take_size(reader *from, uint8_t fixed, uint8_t mask, uint8_t two, int64_t *size) {
    if (!left(from, 1)) return 0;
    uint8_t first = *from->at;
    if ((first & ~mask) == fixed) {
        *size = first & mask;
        from->at += 1;
        return 1;
    }
    if (first != two || !left(from, 3)) return 0;
    *size = big(from->at + 1, 2);
    from->at += 3;
    return 1;
}

static inline int take_text(reader *from, text *into) {
    int64_t size;
    if (!left(from, 1)) return 0;
    if (*from->at == 0xd9) {
        if (!left(from, 2)) return 0;
        size = from->at[1];
        from->at += 2;
    } else if ((*from->at & 0xe0) == 0xa0) {
        size = *from->at & 0x1f;
        from->at += 1;
    } else {
        return 0;
    }
    if (!left(from, size)) return 0;
    for (int64_t n = 0; n < size; n++)
        if (from->at[n] < 0x20 || from->at[n] > 0x7e) return 0;
    into->at = from->at;
    into->size = size;
    from->at += size;
    return 1;
}

static inline int take_texts(reader *from, texts *into) {
    int64_t count;
    if (!take_size(from, 0x90, 0x0f, 0xdc, &count) || count > MOST_CONDITIONS) return 0;
    into->count = count;
    for (int64_t n = 0; n < count; n++)
        if (!take_text(from, &into->items[n])) return 0;
    return 1;
}

static inline int take_long(reader *from, int64_t *into) {
    if (!left(from, 1)) return 0;
    uint8_t first = *from->at++;
    if (first <= 0x7f) { *into = first; return 1; }
    if (first >= 0xe0) { *into = (int8_t)first; return 1; }
    if (first < 0xcc || first > 0xd3) return 0;
    int bytes = 1 << ((first - 0xcc) & 3);
    if (!left(from, bytes)) return 0;
    uint64_t raw = (uint64_t)big(from->at, bytes);
    from->at += bytes;
    if (first <= 0xcf) {
        if (raw >> 63) return 0;
        *into = (int64_t)raw;
        return 1;
    }
    int shift = 64 - 8 * bytes;
    *into = (int64_t)(raw << shift) >> shift;
    return 1;
}

static inline int take_double(reader *from, double *into) {
    if (!left(from, 9) || *from->at != 0xcb) return 0;
    union { uint64_t bits; double value; } both = {.bits = (uint64_t)big(from->at + 1, 8)};
    *into = both.value;
    from->at += 9;
    return both.value - both.value == 0.0; /* finite */
}

static inline int take_time(reader *from, int64_t *into) {
    uint64_t seconds, ns = 0;
    if (left(from, 6) && from->at[0] == 0xd6 && from->at[1] == 0xff) {
        seconds = (uint64_t)big(from->at + 2, 4);
        from->at += 6;
    } else if (left(from, 10) && from->at[0] == 0xd7 && from->at[1] == 0xff) {
        uint64_t both = (uint64_t)big(from->at + 2, 8);
        ns = both >> 34;
        seconds = both & ((1ull << 34) - 1);
        from->at += 10;
    } else {
        return 0; /* 12 bytes are for times after 2514 or before 1970 */
    }
    if (ns >= 1000000000ull || seconds < EARLIEST_SECONDS || seconds >= LATEST_SECONDS) return 0;
    *into = (int64_t)(seconds * 1000000000ull + ns);
    return 1;
}
