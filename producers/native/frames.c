/* A WebSocket frame of Alpaca's stock stream (msgpack) to the values of its Kafka records (Avro).

   A frame is taken whole or not at all: only if each of its messages is an ordinary trade or quote, with
   exactly its fields, each once and of the very type that Alpaca sends. Anything else (a control message, a
   bar, an integer price, a text that is not plain ASCII, a price that no short decimal is) is left to Python,
   frame by frame. What is written is what producers/encoder.py writes, to the byte. */

#include "line.h"

const char tidewire_frames_source[] = TIDEWIRE_SOURCE;

typedef struct {
    text symbol, exchange, other_exchange, tape;
    texts conditions;
    int64_t ts, id, size, other_size;
    double price, other_price;
} message;

/* ---- messages */

enum { SYMBOL = 1, TIME = 2, CONDITIONS = 4, TAPE = 8, KIND = 16, ID = 32, EXCHANGE = 64, PRICE = 128,
       SIZE = 256, OTHER_EXCHANGE = 512, OTHER_PRICE = 1024, OTHER_SIZE = 2048 };
#define BOTH (SYMBOL | TIME | CONDITIONS | TAPE | KIND)
#define TRADE_FIELDS (BOTH | ID | EXCHANGE | PRICE | SIZE)
#define QUOTE_FIELDS (BOTH | EXCHANGE | PRICE | SIZE | OTHER_EXCHANGE | OTHER_PRICE | OTHER_SIZE)

/* The fields' bits, and which kind of message they belong to; a field of the other kind spoils the sum. */
static int take_field(reader *from, message *m, int *kind) {
    text name;
    if (!take_text(from, &name)) return 0;
    if (name.size == 1) switch (name.at[0]) {
        case 'T': {
            text what;
            if (!take_text(from, &what) || what.size != 1) return 0;
            *kind = what.at[0];
            return KIND;
        }
        case 'S': return take_text(from, &m->symbol) ? SYMBOL : 0;
        case 't': return take_time(from, &m->ts) ? TIME : 0;
        case 'c': return take_texts(from, &m->conditions) ? CONDITIONS : 0;
        case 'z': return take_text(from, &m->tape) ? TAPE : 0;
        case 'i': return take_long(from, &m->id) ? ID : 0;
        case 'x': return take_text(from, &m->exchange) ? EXCHANGE | 1 << 16 : 0;
        case 'p': return take_double(from, &m->price) ? PRICE | 1 << 16 : 0;
        case 's': return take_long(from, &m->size) ? SIZE | 1 << 16 : 0;
        default: return 0;
    }
    if (name.size != 2) return 0;
    switch (name.at[0] << 8 | name.at[1]) {
        case 'b' << 8 | 'x': return take_text(from, &m->exchange) ? EXCHANGE | 1 << 17 : 0;
        case 'b' << 8 | 'p': return take_double(from, &m->price) ? PRICE | 1 << 17 : 0;
        case 'b' << 8 | 's': return take_long(from, &m->size) ? SIZE | 1 << 17 : 0;
        case 'a' << 8 | 'x': return take_text(from, &m->other_exchange) ? OTHER_EXCHANGE : 0;
        case 'a' << 8 | 'p': return take_double(from, &m->other_price) ? OTHER_PRICE : 0;
        case 'a' << 8 | 's': return take_long(from, &m->other_size) ? OTHER_SIZE : 0;
        default: return 0;
    }
}

/* 't' or 'q'; 0: not ordinary. */
static int take_message(reader *from, message *m) {
    int64_t count;
    int seen = 0, kind = 0;
    if (!take_size(from, 0x80, 0x0f, 0xde, &count)) return 0;
    for (int64_t n = 0; n < count; n++) {
        int field = take_field(from, m, &kind);
        if (!field || field & seen & 0xffff) return 0; /* none, or one that came before */
        seen |= field;
    }
    int64_t least = m->size;
    if (kind == 't') {
        if (seen != (TRADE_FIELDS | 1 << 16) || m->id < -MAX_LONG) return 0;
    } else if (kind == 'q') {
        if (seen != (QUOTE_FIELDS | 1 << 17)) return 0;
        least = m->other_size < least ? m->other_size : least;
    } else {
        return 0;
    }
    return least >= 0 && m->symbol.size > 0 && m->symbol.size <= LONGEST_SYMBOL ? kind : 0;
}

/* ---- Avro */

static uint8_t *put_long(uint8_t *to, int64_t value) {
    uint64_t rest = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    for (; rest > 0x7f; rest >>= 7) *to++ = (uint8_t)(rest | 0x80);
    *to++ = (uint8_t)rest;
    return to;
}

static uint8_t *put_text(uint8_t *to, text value) { return put(put_long(to, value.size), value.at, value.size); }

static uint8_t *put_double(uint8_t *to, double value) {
    union { double value; uint64_t bits; } both = {.value = value};
    for (int n = 0; n < 8; n++) *to++ = (uint8_t)(both.bits >> (8 * n));
    return to;
}

static uint8_t *put_texts(uint8_t *to, const texts *values) {
    if (values->count) to = put_long(to, values->count);
    for (int64_t n = 0; n < values->count; n++) to = put_text(to, values->items[n]);
    *to++ = 0;
    return to;
}

/* ---- the line of text that an event id is made of */

static uint8_t *say_trade(uint8_t *to, const message *m) {
    *to++ = 't';
    *to++ = '|';
    to = say_long(say_long(say(say(to, m->symbol), m->exchange), m->id), m->ts);
    return to - 1; /* no bar at the end */
}

static uint8_t *say_quote(uint8_t *to, const message *m) {
    *to++ = 'q';
    *to++ = '|';
    to = say(say_long(say(to, m->symbol), m->ts), m->exchange);
    if (!(to = say_price(to, m->price))) return 0;
    to = say(say_long(to, m->size), m->other_exchange);
    if (!(to = say_price(to, m->other_price))) return 0;
    to = say(say_texts(say_long(to, m->other_size), &m->conditions), m->tape);
    *to++ = '0'; /* the first among identical ones */
    return to;
}

/* ---- a frame */

static int64_t room_of(const message *m) {
    int64_t texts = m->symbol.size + m->exchange.size + m->other_exchange.size + m->tape.size;
    for (int64_t n = 0; n < m->conditions.count; n++) texts += m->conditions.items[n].size + 10;
    return texts + 256;
}

static uint8_t *put_record(uint8_t *to, const message *m, int kind, const layout *with) {
    to = put_text(put(to, kind == 't' ? with->trade : with->quote, HEADER), m->symbol);
    to = put_long(to, m->ts);
    if (kind == 't') {
        to = put_double(put_text(put_long(to, m->id), m->exchange), m->price);
        to = put_text(put_texts(put_long(to, m->size), &m->conditions), m->tape);
    } else {
        to = put_long(put_double(put_text(to, m->exchange), m->price), m->size);
        to = put_long(put_double(put_text(to, m->other_exchange), m->other_price), m->other_size);
        to = put_text(put_texts(to, &m->conditions), m->tape);
    }
    return put(to, with->tail, with->tail_size);
}

/* How many messages a frame has, if all are ordinary and fit; -1: it is for Python. Of each, `rows` has: kind,
   time, where its symbol begins and ends in the frame, where its value ends in `values`, where it begins in
   the frame. */
int64_t tidewire_frame(const uint8_t *frame, int64_t size, const layout *with, uint8_t *values, int64_t room,
                       int64_t *rows, int64_t most) {
    reader from = {frame, frame + size};
    uint8_t *to = values, said[LONGEST_SAID];
    int64_t count;
    if (!take_size(&from, 0x90, 0x0f, 0xdc, &count) || count > most) return -1;
    for (int64_t n = 0; n < count; n++) {
        message m = {.other_exchange = {0, 0}};
        const uint8_t *begins = from.at;
        int kind = take_message(&from, &m);
        if (!kind) return -1;
        int64_t needed = room_of(&m);
        if (needed > LONGEST_SAID || needed + with->tail_size > room - (to - values)) return -1;
        uint8_t *ends = kind == 't' ? say_trade(said, &m) : say_quote(said, &m);
        uint64_t digest;
        if (!ends || !tidewire_xxh3(said, ends - said, &digest)) return -1;
        to = put_record(to, &m, kind, with);
        for (int shift = 56; shift >= 0; shift -= 8) *to++ = (uint8_t)(digest >> shift);
        *rows++ = kind;
        *rows++ = m.ts;
        *rows++ = m.symbol.at - frame;
        *rows++ = m.symbol.at - frame + m.symbol.size;
        *rows++ = to - values;
        *rows++ = begins - frame;
    }
    return from.at == from.end ? count : -1;
}
