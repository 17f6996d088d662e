/* Kafka record batches into columns: the records of whole batches, read by a small program.
 *
 * The program is the value's Avro schema, compiled by program.py: one node a type, depth first. Everything
 * read here came from outside. No byte is read that is not known to be inside what the caller gave, nothing
 * is allocated, nothing is written beyond the capacities that the caller states, and a record counts only if
 * every byte of it is what a writer of this schema would have written. Anything else is REFUSED: the caller
 * then leaves the batch to the decoder that judges record by record.
 */

#include "columns.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the columns are written as a little-endian machine has them"
#endif

#ifndef TIDEWIRE_SOURCE
#define TIDEWIRE_SOURCE ""
#endif

/* What the library was built from: another source, and the loader does not take it. */
const char tidewire_source[] = TIDEWIRE_SOURCE;

enum { OK, REFUSED, FULL };

static __attribute__((noinline)) place any_text(const state *s, const node *of, column *to, place at,
                                                place end) {
    int64_t size;
    if (!(at = span(at, end, &size)) || !is_utf8(at, at + size)) return 0;
    if (of->size && (size != s->key_size || !same(at, s->key, size))) return 0;
    if (to) put_view(s, to, at, size);
    return at + size;
}

/* A text, which must be UTF-8, and the same as the record's key where the node says so. */
static inline place text(const state *s, const node *of, column *to, place at, place end) {
    if (LIKELY(end - at > 8 && *at <= 16 && !(*at & 1))) {
        int64_t size = *at >> 1;
        uint64_t word = lowest(load8(at + 1), size);
        if (LIKELY(!(word & HIGH))) {
            if (of->size && (size != s->key_size || word != lowest(load8(s->key), size))) return 0;
            uint64_t words[2] = {(uint64_t)size | word << 32, word >> 32};
            if (to) __builtin_memcpy(to->data + 16 * to->length, words, 16);
            return at + 1 + size;
        }
    }
    return any_text(s, of, to, at, end);
}

static place list(state *s, const node *of, column *to, place at, place end);

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
        if (!(at = text(s, of, to, at, end))) return 0;
        break;
    case BYTES:
        if (!(at = span(at, end, &found))) return 0;
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
        if (!(at = list(s, of, to, at, end))) return 0;
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

/* The same, without a call and a question where there is nothing to ask. A column of the records themselves
 * (not of lists' items) has room, which was looked at before the first. */
static inline __attribute__((always_inline)) place step(state *s, const node *of, place at, place end) {
    column *to = s->columns + (of->column < 0 ? 0 : of->column);
    int64_t found;
    switch (of->step) {
    case PAST(LONG):
        return past_number(at, end);
    case PUT(LONG):
        if (!(at = number(at, end, &found))) return 0;
        __builtin_memcpy(to->data + 8 * to->length++, &found, 8);
        return at;
    case PAST(DOUBLE):
        return end - at < 8 ? 0 : at + 8;
    case PUT(DOUBLE):
        if (end - at < 8) return 0;
        __builtin_memcpy(to->data + 8 * to->length++, at, 8);
        return at + 8;
    case PAST(STRING):
        return text(s, of, 0, at, end);
    case PUT(STRING):
        if (!(at = text(s, of, to, at, end))) return 0;
        to->length++;
        return at;
    case PAST(BYTES):
        return (at = span(at, end, &found)) ? at + found : 0;
    case PAST(ENUM):
        return (at = number(at, end, &found)) && found >= 0 && found < of->size ? at : 0;
    default:
        if (!of->null_at && of->column < 0 && at < end && !*at) return at + 1;
        return value(s, of, at, end);
    }
}

/* One block of items and the zero behind it, which is what every writer here makes. */
static place list(state *s, const node *of, column *to, place at, place end) {
    const node *item = of + 1;
    int64_t count, rest = 0;
    at = number(at, end, &count);
    if (!at || count < 0) return 0;
    if (item->step == PAST(STRING)) {
        for (int64_t i = 0; i < count; i++)
            if (!(at = text(s, item, 0, at, end))) return 0;
    } else {
        for (int64_t i = 0; i < count; i++)
            if (!(at = value(s, item, at, end))) return 0;
    }
    if (count && (!(at = number(at, end, &rest)) || rest)) return 0;
    if (to) put_end(s, of, to);
    return at;
}

/* A record of a v2 batch, to its last byte: no attributes, no headers, a key, the header and a value. */
static place record(state *s, place at, uint64_t header, int64_t *delta) {
    int64_t size;
    place end, value_end;
    if (!(at = number(at, s->limit, &size)) || size < 1 || size > s->limit - at) return 0;
    end = at + size;
    if (*at++) return 0;
    if (!(at = past_number(at, end)) || !(at = number(at, end, delta))) return 0;
    if (*delta < 0 || *delta > INT32_MAX) return 0;
    if (!(at = span(at, end, &s->key_size))) return 0;
    s->key = at;
    at += s->key_size;
    if (!(at = span(at, end, &size)) || size < 5) return 0;
    value_end = at + size;
    if (((uint64_t)load4(at) | (uint64_t)at[4] << 32) != header) return 0;
    at += 5;
    for (const node *part = s->nodes + 1; part < s->behind; part = s->nodes + part->next)
        if (!(at = step(s, part, at, value_end))) return 0;
    return at == value_end && end - at == 1 && !*at ? end : 0;
}

/* The records of `bodies` (so many in each) into columns and `offsets`, which must ascend.
 *
 * `header`: the five bytes before each value, as a little-endian number. The offsets, and each column that
 * stands in no list, must have room for all records: else it is FULL, as when a list's items have no room.
 */
int32_t tidewire_decode(const node *nodes, column *columns, int32_t column_count, uint64_t header,
                        const uint8_t *const *bodies, const int64_t *sizes, const int64_t *counts,
                        const int64_t *bases, int32_t body_count, int64_t *offsets) {
    state s = {nodes, nodes + nodes->next, columns, 0, 0, 0, 0, 0, REFUSED};
    int64_t before = INT64_MIN, delta, records = 0;
    for (int32_t i = 0; i < body_count; i++) {
        if (counts[i] < 0 || counts[i] > sizes[i]) return REFUSED;
        records += counts[i];
    }
    for (int32_t i = 0; i < column_count; i++) columns[i].length = columns[i].nulls = columns[i].far = 0;
    for (const node *part = nodes; part < s.behind; part++)
        if (part->kind == ARRAY && part->column >= 0) __builtin_memset(columns[part->column].data, 0, 8);
    for (const node *part = nodes + 1; part < s.behind; part = nodes + part->next)
        if (part->column >= 0 && columns[part->column].capacity < records) return FULL;
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
