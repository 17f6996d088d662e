/* A WebSocket frame of Alpaca's stock stream (msgpack) to the values of its Kafka records (Avro).

   A frame is taken whole or not at all: only if each of its messages is an ordinary trade or quote, with
   exactly its fields, each once and of the very type that Alpaca sends. Anything else (a control message, a
   bar, an integer price, a text that is not plain ASCII, a price that no short decimal is) is left to Python,
   frame by frame. What is written is what producers/encoder.py writes, to the byte. */

#include "frames.h"

const char tidewire_frames_source[] = TIDEWIRE_SOURCE;

typedef struct { const uint8_t *at, *end; } reader;
typedef struct { const uint8_t *at; int64_t size; } text;
typedef struct { text items[MOST_CONDITIONS]; int64_t count; } texts;

typedef struct {
    text symbol, exchange, other_exchange, tape;
    texts conditions;
    int64_t ts, id, size, other_size;
    double price, other_price;
} message;

static int64_t big(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int n = 0; n < bytes; n++) value = value << 8 | at[n];
    return (int64_t)value;
}

static int left(const reader *from, int64_t bytes) { return from->end - from->at >= bytes; }

/* ---- msgpack; each takes one value of the one kind that is ordinary, or says no */

static int take_size(reader *from, uint8_t fixed, uint8_t mask, uint8_t two, int64_t *size) {
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

static int take_text(reader *from, text *into) {
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

static int take_texts(reader *from, texts *into) {
    int64_t count;
    if (!take_size(from, 0x90, 0x0f, 0xdc, &count) || count > MOST_CONDITIONS) return 0;
    into->count = count;
    for (int64_t n = 0; n < count; n++)
        if (!take_text(from, &into->items[n])) return 0;
    return 1;
}

static int take_long(reader *from, int64_t *into) {
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

static int take_double(reader *from, double *into) {
    if (!left(from, 9) || *from->at != 0xcb) return 0;
    union { uint64_t bits; double value; } both = {.bits = (uint64_t)big(from->at + 1, 8)};
    *into = both.value;
    from->at += 9;
    return both.value - both.value == 0.0; /* finite */
}

static int take_time(reader *from, int64_t *into) {
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

static uint8_t *put(uint8_t *to, const uint8_t *from, int64_t size) {
    for (int64_t n = 0; n < size; n++) to[n] = from[n];
    return to + size;
}

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

/* ---- the line of text that an event id is made of (schemas/event_id.py) */

static uint8_t *say(uint8_t *to, text value) {
    to = put(to, value.at, value.size);
    *to++ = '|';
    return to;
}

static uint8_t *say_number(uint8_t *to, uint64_t value) {
    uint8_t digits[20];
    int count = 0;
    do digits[count++] = (uint8_t)('0' + value % 10); while (value /= 10);
    while (count) *to++ = digits[--count];
    return to;
}

static uint8_t *say_long(uint8_t *to, int64_t value) {
    if (value < 0) *to++ = '-';
    to = say_number(to, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    *to++ = '|';
    return to;
}

/* Python's repr of a double that is a decimal of at most nine places and fifteen digits: the fewest places
   whose decimal is read back as this very double. Division of two exact doubles is rounded once, as reading
   is; of fifteen digits no two decimals are one double, so there is none shorter. Null: another double. */
static uint8_t *say_price(uint8_t *to, double price) {
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};
    union { double value; uint64_t bits; } both = {.value = price};
    if (both.bits >> 63) {
        *to++ = '-';
        price = -price;
    }
    if (price != 0.0 && (price < SMALLEST_SHOWN || price >= LARGEST_SHOWN)) return 0;
    for (int places = 0; places < 10; places++) {
        double scaled = price * powers[places];
        if (scaled >= LARGEST_SHOWN) return 0;
        uint64_t whole = (uint64_t)(scaled + 0.5);
        if ((double)whole / powers[places] != price) continue;
        uint64_t power = (uint64_t)powers[places];
        to = say_number(to, whole / power);
        *to++ = '.';
        uint64_t rest = whole % power;
        for (uint64_t digit = power / 10; digit > 1 && rest < digit; digit /= 10) *to++ = '0';
        to = say_number(to, rest);
        *to++ = '|';
        return to;
    }
    return 0;
}

static uint8_t *say_texts(uint8_t *to, const texts *values) {
    for (int64_t n = 0; n < values->count; n++) {
        if (n) *to++ = ',';
        to = put(to, values->items[n].at, values->items[n].size);
    }
    *to++ = '|';
    return to;
}

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
