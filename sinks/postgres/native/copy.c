/* Arrow columns into the rows of COPY BINARY, ordered by symbol.
 *
 * What is read here are columns that Polars made, so their inside is trusted; their shape is checked by the
 * caller (copying.py). Nothing is allocated: the caller has room for what tidewire_copy_order says.
 * All numbers of COPY BINARY have their greatest byte first.
 */

#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the columns are read as a little-endian machine has them"
#endif

#ifndef TIDEWIRE_SOURCE
#define TIDEWIRE_SOURCE ""
#endif

/* What the library was built from: another source, and the loader does not take it. */
const char tidewire_copy_source[] = TIDEWIRE_SOURCE;

/* The order is that of copying.py. */
enum { BYTES, LISTS, SHORT, INT, LONG, TIME };

enum { ARRAY_HEAD = 12, FIRST_ITEM = 20, TYPE_TEXT = 25 };

/* Microseconds between 1970 and 2000, where PostgreSQL's time begins. */
#define MILLENNIUM INT64_C(946684800000000)

typedef struct {
    const uint8_t *data;          /* numbers, views, or where each list begins among the items (int64) */
    const uint8_t *valid;         /* a bit a value; NULL: nothing is null */
    const uint8_t *const *far;    /* where views of long texts point */
    const uint8_t *items;         /* LISTS: the views of their texts */
    const uint8_t *const *far_items;
    int64_t first;                /* place of the first value behind data and valid */
    int64_t first_item;           /* the same behind items */
    int64_t kind;
} column;

static inline uint32_t load4(const uint8_t *at) {
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}

static inline uint64_t load8(const uint8_t *at) {
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    return word;
}

static inline uint8_t *put4(uint8_t *to, uint32_t number) {
    number = __builtin_bswap32(number);
    __builtin_memcpy(to, &number, 4);
    return to + 4;
}

static inline uint8_t *put8(uint8_t *to, uint64_t number) {
    number = __builtin_bswap64(number);
    __builtin_memcpy(to, &number, 8);
    return to + 8;
}

static inline int is_null(const column *of, int64_t at) {
    return of->valid && !(of->valid[at >> 3] >> (at & 7) & 1);
}

/* The bytes that a view means. */
static inline const uint8_t *seen(const uint8_t *view, const uint8_t *const *far) {
    return load4(view) <= 12 ? view + 4 : far[load4(view + 8)] + load4(view + 12);
}

/* The length and the bytes of a view; `end` is that of the row, behind which stands another. */
static inline uint8_t *put_view(uint8_t *to, const uint8_t *end, const uint8_t *view, const uint8_t *const *far) {
    uint32_t size = load4(view);
    to = put4(to, size);
    if (size <= 12 && end - to >= 12) { /* what is too much, the row's next values cover */
        __builtin_memcpy(to, view + 4, 8);
        __builtin_memcpy(to + 8, view + 12, 4);
        return to + size;
    }
    const uint8_t *from = seen(view, far);
    for (; size >= 8; size -= 8, from += 8, to += 8) __builtin_memcpy(to, from, 8);
    while (size--) *to++ = *from++;
    return to;
}

static inline int64_t list_place(const column *of, int64_t at) { return (int64_t)load8(of->data + 8 * at); }

static inline const uint8_t *item(const column *of, int64_t at) { return of->items + 16 * (of->first_item + at); }

/* The bytes of a list as PostgreSQL's text[]: of one dimension, or of none when it is empty. */
static inline int64_t list_size(const column *of, int64_t at, int64_t end) {
    int64_t size = at == end ? ARRAY_HEAD : FIRST_ITEM;
    for (; at < end; at++) size += 4 + load4(item(of, at));
    return size;
}

static inline uint8_t *put_list(uint8_t *to, const uint8_t *end, const column *of, int64_t at, int64_t last) {
    to = put4(to, (uint32_t)list_size(of, at, last));
    to = put4(to, at < last); /* dimensions */
    to = put4(to, 0);
    to = put4(to, TYPE_TEXT);
    if (at == last) return to;
    to = put4(to, (uint32_t)(last - at));
    to = put4(to, 1); /* the first item's index */
    for (; at < last; at++) to = put_view(to, end, item(of, at), of->far_items);
    return to;
}

/* The bytes of each row of a part, added to `sizes` (zeros). */
void tidewire_copy_sizes(const column *columns, int64_t count, int64_t rows, int64_t *sizes) {
    static const uint8_t fixed[] = {[SHORT] = 2, [INT] = 4, [LONG] = 8, [TIME] = 8};
    int64_t all = 2 + 4 * count;
    for (const column *of = columns; of < columns + count; of++) {
        int64_t at = of->first;
        if (of->kind > LISTS && !of->valid) {
            all += fixed[of->kind];
            continue;
        }
        for (int64_t row = 0; row < rows; row++, at++) {
            if (is_null(of, at)) continue;
            if (of->kind == BYTES)
                sizes[row] += load4(of->data + 16 * at);
            else if (of->kind == LISTS)
                sizes[row] += list_size(of, list_place(of, at), list_place(of, at + 1));
            else
                sizes[row] += fixed[of->kind];
        }
    }
    for (int64_t row = 0; row < rows; row++) sizes[row] += all;
}

typedef struct {
    uint64_t low, high; /* the view */
    const uint8_t *text;
    int64_t size;
    int64_t count; /* of its rows; later: the place of the next of them */
} symbol;

static inline uint64_t mixed(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static inline uint64_t hash_of(const symbol *of) {
    uint64_t hash = mixed(of->low, of->size <= 12 ? of->high : 0);
    if (of->size > 12) {
        int64_t at = 4;
        for (; at + 8 <= of->size; at += 8) hash = mixed(hash, load8(of->text + at));
        for (; at < of->size; at++) hash = mixed(hash, of->text[at]);
    }
    return hash ^ hash >> 32;
}

/* By bytes, as COLLATE "C" has it. */
static int before(const symbol *one, const symbol *other) {
    for (int64_t i = 0; i < one->size && i < other->size; i++)
        if (one->text[i] != other->text[i]) return one->text[i] < other->text[i];
    return one->size < other->size;
}

static inline int equal(const symbol *one, const symbol *other) {
    if (one->low != other->low) return 0;
    if (one->size <= 12) return one->high == other->high;
    for (int64_t i = 0; i < one->size; i++)
        if (one->text[i] != other->text[i]) return 0;
    return 1;
}

static void sift(const symbol *symbols, uint32_t *heap, int64_t at, int64_t count) {
    uint32_t moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(symbols + heap[child], symbols + heap[child + 1])) child++;
        if (!before(symbols + moved, symbols + heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void sorted(const symbol *symbols, uint32_t *heap, int64_t count) {
    for (int64_t at = count / 2; at-- > 0;) sift(symbols, heap, at, count);
    for (int64_t end = count; end-- > 1;) {
        uint32_t last = heap[end];
        heap[end] = heap[0];
        heap[0] = last;
        sift(symbols, heap, 0, end);
    }
}

/* Where each row goes: `order` has the rows by symbol, those of one as they came; `ends` where each of these ends
 * and `places` where each row, in the order in which they came, begins. `texts` are the symbols of each part.
 *
 * Room: `slots` (zeros) for slot_mask + 1 numbers, a power of two and twice the rows; all others for all rows.
 */
void tidewire_copy_order(const column *texts, const int64_t *rows, int64_t parts, const int64_t *sizes, int64_t begin,
                         uint32_t *slots, uint64_t slot_mask, symbol *symbols, uint32_t *ranked, uint32_t *of_row,
                         uint32_t *order, int64_t *ends, int64_t *places) {
    int64_t total = 0, known = 0, next = 0;
    for (int64_t part = 0; part < parts; part++) {
        const column *of = texts + part;
        for (int64_t row = 0; row < rows[part]; row++, total++) {
            const uint8_t *view = of->data + 16 * (of->first + row);
            symbol here = {0, 0, 0, 0, 1};
            if (!is_null(of, of->first + row))
                here = (symbol){load8(view), load8(view + 8), seen(view, of->far), load4(view), 1};
            uint64_t slot = hash_of(&here) & slot_mask;
            while (slots[slot] && !equal(&here, symbols + slots[slot] - 1)) slot = (slot + 1) & slot_mask;
            if (slots[slot]) {
                symbols[slots[slot] - 1].count++;
            } else {
                ranked[known] = (uint32_t)known;
                symbols[known++] = here;
                slots[slot] = (uint32_t)known;
            }
            of_row[total] = slots[slot] - 1;
        }
    }
    sorted(symbols, ranked, known);
    for (int64_t i = 0; i < known; i++) {
        int64_t count = symbols[ranked[i]].count;
        symbols[ranked[i]].count = next;
        next += count;
    }
    for (int64_t row = 0; row < total; row++) order[symbols[of_row[row]].count++] = (uint32_t)row;
    for (int64_t i = 0; i < total; i++) {
        places[order[i]] = begin;
        ends[i] = begin += sizes[order[i]];
    }
}

/* The rows of a part, each at its place. */
void tidewire_copy_rows(const column *columns, int64_t count, int64_t rows, const int64_t *sizes,
                        const int64_t *places, uint8_t *out) {
    for (int64_t row = 0; row < rows; row++) {
        uint8_t *to = out + places[row], *end = to + sizes[row];
        *to++ = (uint8_t)(count >> 8);
        *to++ = (uint8_t)count;
        for (const column *of = columns; of < columns + count; of++) {
            int64_t at = of->first + row;
            if (is_null(of, at)) {
                to = put4(to, UINT32_MAX);
                continue;
            }
            switch (of->kind) {
            case BYTES: to = put_view(to, end, of->data + 16 * at, of->far); break;
            case LISTS: to = put_list(to, end, of, list_place(of, at), list_place(of, at + 1)); break;
            case SHORT:
                to = put4(to, 2);
                *to++ = of->data[2 * at + 1];
                *to++ = of->data[2 * at];
                break;
            case INT: to = put4(put4(to, 4), load4(of->data + 4 * at)); break;
            case TIME: to = put8(put4(to, 8), load8(of->data + 8 * at) - (uint64_t)MILLENNIUM); break;
            default: to = put8(put4(to, 8), load8(of->data + 8 * at));
            }
        }
    }
}
