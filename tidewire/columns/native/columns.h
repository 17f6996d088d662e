/* The program, the columns that it writes, and how a value is put into one. */

#include "reading.h"

/* The order is that of program.py. */
enum { LONG, INT, FLOAT, DOUBLE, BOOLEAN, STRING, BYTES, ENUM, DECIMAL, ARRAY, RECORD };

typedef struct {
    int32_t kind;
    int32_t null_at; /* the branch of a union that is null; -1: no union */
    int32_t column;  /* where the values go; -1: nowhere, they are only looked at */
    int32_t size;    /* ENUM: symbols; STRING: 1 for the key */
    int32_t next;    /* the node behind this one and all that is inside it */
    int32_t step;    /* PAST or PUT of the kind where that is all; ANY otherwise */
    int32_t unused[2];
} node;

#define PAST(kind) (2 * (kind))
#define PUT(kind) (2 * (kind) + 1)
#define ANY (-1)

typedef struct {
    uint8_t *data;    /* of an ARRAY: where each list ends among the items, one more than there are lists */
    uint8_t *valid;   /* a bit a value; NULL: nothing is null here */
    int64_t capacity; /* values */
    int64_t length;
    int64_t nulls;
    int64_t far;      /* texts that stand in a body and not in their view */
} column;

typedef struct {
    const node *nodes, *behind;
    column *columns;
    const uint8_t *key;
    int64_t key_size;
    const uint8_t *body, *limit; /* of the body that is being read */
    int32_t number;              /* of that body */
    int32_t status;              /* why a value was not read */
} state;

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

static inline void put_bit(uint8_t *bits, int64_t at, int bit) {
    if (at & 7)
        bits[at >> 3] |= (uint8_t)(bit << (at & 7));
    else
        bits[at >> 3] = (uint8_t)bit;
}

/* A decimal's digits: big-endian in the record, 16 little-endian bytes in the column, 38 digits at most. */
static int put_decimal(uint8_t *to, place at, int64_t size) {
    const unsigned __int128 half = UINT64_C(10000000000000000000), most = half * half;
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
