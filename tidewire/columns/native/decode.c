/* Kafka record batches into columns: the records of whole batches, read by a small program.
 *
 * The program is the value's Avro schema, compiled by program.py: one node a type, depth first. Everything
 * read here came from outside. No byte is read that is not known to be inside what the caller gave, nothing
 * is allocated, nothing is written beyond the capacities that the caller states, and a record counts only if
 * every byte of it is what a writer of this schema would have written. Anything else is REFUSED: the caller
 * then leaves the batch to the decoder that judges record by record.
 */

#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the columns are written as a little-endian machine has them"
#endif

#ifndef TIDEWIRE_SOURCE
#define TIDEWIRE_SOURCE ""
#endif

/* What the library was built from: another source, and the loader does not take it. */
const char tidewire_source[] = TIDEWIRE_SOURCE;

enum { OK, REFUSED, FULL };

/* The order is that of program.py. */
enum { LONG, INT, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES, ENUM, DECIMAL, ARRAY, RECORD };

typedef struct {
    int32_t kind;
    int32_t null_at; /* the branch of a union that is null; -1: no union */
    int32_t column;  /* where the values go; -1: nowhere, they are only looked at */
    int32_t size;    /* ENUM: symbols; STRING: 1 for the key */
    int32_t next;    /* the node behind this one and all that is inside it */
} node;

typedef struct {
    uint8_t *data;    /* of an ARRAY: where each list ends among the items, one more than there are lists */
    uint8_t *valid;   /* a bit a value; NULL: nothing is null here */
    int64_t capacity; /* values */
    int64_t length;
    int64_t nulls;
    int64_t far;      /* texts that stand in a body and not in their view */
} column;

typedef struct {
    const node *nodes;
    column *columns;
    const uint8_t *key;
    int64_t key_size;
    const uint8_t *body, *limit; /* of the body that is being read */
    int32_t number;              /* of that body */
    int32_t status;              /* why a value was not read */
} state;

typedef const uint8_t *place; /* a place in a body; NULL: it could not be read */

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

/* An integer in as few bytes as it fits into. */
static inline place number(place at, place end, int64_t *found) {
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

/* A view of bytes as Arrow has it: short ones inside it, long ones where they stand in the body. */
static inline void put_view(const state *s, column *to, place at, int64_t size) {
    uint8_t *view = to->data + 16 * to->length;
    uint32_t words[4] = {(uint32_t)size, 0, 0, 0};
    if (size > 12) {
        words[1] = load4(at);
        words[2] = (uint32_t)s->number;
        words[3] = (uint32_t)(at - s->body);
        to->far++;
    } else if (s->limit - at >= 12) {
        uint64_t low = lowest(load8(at), size);
        words[1] = (uint32_t)low;
        words[2] = (uint32_t)(low >> 32);
        if (size > 8) words[3] = (uint32_t)lowest(load4(at + 8), size - 8);
    } else {
        for (int64_t i = 0; i < size; i++) words[1 + i / 4] |= (uint32_t)at[i] << (8 * (i % 4));
    }
    __builtin_memcpy(view, words, 16);
}

/* The body of a text or of bytes, and its size. */
static inline place span(place at, place end, int64_t *size) {
    at = number(at, end, size);
    return at && *size >= 0 && *size <= end - at ? at : 0;
}

static inline int is_text(const state *s, place at, int64_t size) {
    if (size <= 8 && s->limit - at >= 8 && !(lowest(load8(at), size) & HIGH)) return 1;
    return is_utf8(at, at + size);
}

static int same(place one, place other, int64_t size) {
    for (; size >= 8; size -= 8, one += 8, other += 8)
        if (load8(one) != load8(other)) return 0;
    while (size--)
        if (*one++ != *other++) return 0;
    return 1;
}

static inline void put_bit(uint8_t *bits, int64_t at, int bit) {
    if (at & 7)
        bits[at >> 3] |= (uint8_t)(bit << (at & 7));
    else
        bits[at >> 3] = (uint8_t)bit;
}

/* A decimal's digits: big-endian in the record, 16 little-endian bytes in the column, 38 digits at most. */
static int put_decimal(uint8_t *to, place at, int64_t size) {
    const unsigned __int128 most = (unsigned __int128)UINT64_C(10000000000000000000) * UINT64_C(10000000000000000000);
    unsigned __int128 value;
    if (size < 1 || size > 16) return 0;
    int negative = at[0] >> 7;
    value = negative ? ~(unsigned __int128)0 : 0;
    for (int64_t i = 0; i < size; i++) value = value << 8 | at[i];
    if ((negative ? -value : value) >= most) return 0;
    if (to) __builtin_memcpy(to, &value, 16);
    return 1;
}

/* Where the items of a list end, or of a null or nothing: where those before it do. */
static inline void put_end(const state *s, const node *list, column *to) {
    const node *items = list + 1;
    while (items->kind == RECORD) items++;
    __builtin_memcpy(to->data + 8 * to->length + 8, &s->columns[items->column].length, 8);
}

static inline void put_null(const state *s, const node *of, column *to) {
    static const uint8_t zeros[16];
    switch (of->kind) {
    case BOOLEAN: put_bit(to->data, to->length, 0); break;
    case ENUM: to->data[to->length] = 0; break;
    case INT: case FLOAT: __builtin_memcpy(to->data + 4 * to->length, zeros, 4); break;
    case LONG: case DOUBLE: __builtin_memcpy(to->data + 8 * to->length, zeros, 8); break;
    case ARRAY: put_end(s, of, to); break;
    default: __builtin_memcpy(to->data + 16 * to->length, zeros, 16);
    }
    put_bit(to->valid, to->length, 0);
    to->nulls++;
    to->length++;
}

static place value(state *s, const node *of, place at, place end);

/* One block of items and the zero behind it: what every writer here makes. */
static place items(state *s, const node *of, place at, place end) {
    int64_t count, rest = 0;
    at = number(at, end, &count);
    if (!at || count < 0) return 0;
    for (int64_t i = 0; i < count; i++)
        if (!(at = value(s, of + 1, at, end))) return 0;
    if (count) at = number(at, end, &rest);
    return rest ? 0 : at;
}

/* A value of any type; returns the place behind it. */
static place value(state *s, const node *of, place at, place end) {
    column *to = of->column < 0 ? 0 : s->columns + of->column;
    int64_t found;
    if (to && to->length >= to->capacity) {
        s->status = FULL;
        return 0;
    }
    if (of->null_at >= 0) {
        if (at >= end || (*at != 0 && *at != 2)) return 0;
        if (*at++ == 2 * of->null_at) {
            if (to) put_null(s, of, to);
            return at;
        }
    }
    switch (of->kind) {
    case LONG:
        if (!(at = number(at, end, &found))) return 0;
        if (to) __builtin_memcpy(to->data + 8 * to->length, &found, 8);
        break;
    case INT:
        if (!(at = number(at, end, &found)) || found != (int32_t)found) return 0;
        if (to) __builtin_memcpy(to->data + 4 * to->length, &found, 4);
        break;
    case FLOAT:
        if (end - at < 4) return 0;
        if (to) __builtin_memcpy(to->data + 4 * to->length, at, 4);
        at += 4;
        break;
    case DOUBLE:
        if (end - at < 8) return 0;
        if (to) __builtin_memcpy(to->data + 8 * to->length, at, 8);
        at += 8;
        break;
    case BOOLEAN:
        if (at >= end || *at > 1) return 0;
        if (to) put_bit(to->data, to->length, *at);
        at++;
        break;
    case STRING:
    case BYTES:
        if (!(at = span(at, end, &found))) return 0;
        if (of->kind == STRING && !is_text(s, at, found)) return 0;
        if (of->kind == STRING && of->size && (found != s->key_size || !same(at, s->key, found))) return 0;
        if (to) put_view(s, to, at, found);
        at += found;
        break;
    case ENUM:
        if (!(at = number(at, end, &found)) || found < 0 || found >= of->size) return 0;
        if (to) to->data[to->length] = (uint8_t)found;
        break;
    case DECIMAL:
        if (!(at = span(at, end, &found))) return 0;
        if (!put_decimal(to ? to->data + 16 * to->length : 0, at, found)) return 0;
        at += found;
        break;
    case ARRAY:
        if (!(at = items(s, of, at, end))) return 0;
        if (to) put_end(s, of, to);
        break;
    case RECORD:
        for (const node *part = of + 1; part < s->nodes + of->next; part = s->nodes + part->next)
            if (!(at = value(s, part, at, end))) return 0;
        return at;
    default:
        return 0;
    }
    if (to) {
        if (to->valid) put_bit(to->valid, to->length, 1);
        to->length++;
    }
    return at;
}

/* A record of a v2 batch, to its last byte: no attributes, no headers, a key, the header and a value. */
static place record(state *s, place at, uint64_t header, int64_t *delta) {
    int64_t size, time;
    place end, value_end;
    if (!(at = number(at, s->limit, &size)) || size < 1 || size > s->limit - at) return 0;
    end = at + size;
    if (*at++) return 0;
    if (!(at = number(at, end, &time)) || !(at = number(at, end, delta))) return 0;
    if (*delta < 0 || *delta > INT32_MAX) return 0;
    if (!(at = span(at, end, &s->key_size))) return 0;
    s->key = at;
    at += s->key_size;
    if (!(at = span(at, end, &size)) || size < 5) return 0;
    value_end = at + size;
    if (((uint64_t)load4(at) | (uint64_t)at[4] << 32) != header) return 0;
    at += 5;
    for (const node *part = s->nodes + 1; part < s->nodes + s->nodes->next; part = s->nodes + part->next)
        if (!(at = value(s, part, at, value_end))) return 0;
    return at == value_end && end - at == 1 && !*at ? end : 0;
}

/* The records of `bodies` (so many in each) into columns and `offsets`, which must ascend.
 *
 * `header`: the five bytes before each value, as a little-endian number. Each column, and the offsets, must
 * have room for all records; those of lists' items may be FULL before they are all read.
 */
int32_t tidewire_decode(const node *nodes, column *columns, int32_t column_count, uint64_t header,
                        const uint8_t *const *bodies, const int64_t *sizes, const int64_t *counts,
                        const int64_t *bases, int32_t body_count, int64_t *offsets) {
    state s = {nodes, columns, 0, 0, 0, 0, 0, REFUSED};
    int64_t before = INT64_MIN, delta;
    for (int32_t i = 0; i < column_count; i++) columns[i].length = columns[i].nulls = columns[i].far = 0;
    for (const node *part = nodes; part < nodes + nodes->next; part++)
        if (part->kind == ARRAY && part->column >= 0) __builtin_memset(columns[part->column].data, 0, 8);
    for (s.number = 0; s.number < body_count; s.number++) {
        place at = s.body = bodies[s.number];
        s.limit = at + sizes[s.number];
        if (bases[s.number] < 0 || bases[s.number] > INT64_MAX - INT32_MAX) return REFUSED;
        for (int64_t left = counts[s.number]; left > 0; left--) {
            if (!(at = record(&s, at, header, &delta))) return s.status;
            if (bases[s.number] + delta <= before) return REFUSED;
            *offsets++ = before = bases[s.number] + delta;
        }
        if (at != s.limit) return REFUSED;
    }
    return OK;
}
