/* Table rows into stock_features records, byte for byte as vector.py and the Avro writer make them.
 *
 * A row with anything unusual is left out (its record is empty): the caller makes that one. What is written
 * is never longer than the caller has room for, as a number has ten bytes at most and a price nine.
 */

#include "features.h"

#define SOURCES 5

typedef uint8_t *place;

static const char *const sources[SOURCES] = {"ws", "rest", "rss", "webhook", "replay"};

/* A New York day that quotes of symbols without trades may be of. */
typedef struct {
    int64_t begin, end, day; /* ns, ns, yyyymmdd */
} session;

static place put_long(place at, int64_t value) {
    uint64_t rest = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    for (; rest > 127; rest >>= 7) *at++ = (uint8_t)(rest | 128);
    *at++ = (uint8_t)rest;
    return at;
}

static place put_bytes(place at, const uint8_t *bytes, int64_t size) {
    at = put_long(at, size);
    for (int64_t i = 0; i < size; i++) *at++ = bytes[i];
    return at;
}

/* A union of null and a double, given by its bits, or of null and a long. */
static place maybe_bits(place at, int there, int64_t bits) {
    *at++ = there ? 2 : 0;
    if (there) {
        __builtin_memcpy(at, &bits, 8);
        at += 8;
    }
    return at;
}

static place maybe_double(place at, int there, double value) {
    int64_t bits;
    __builtin_memcpy(&bits, &value, 8);
    return maybe_bits(at, there, bits);
}

static place maybe_long(place at, int there, int64_t value) {
    *at++ = there ? 2 : 0;
    return there ? put_long(at, value) : at;
}

static double double_of(int64_t bits) {
    double value;
    __builtin_memcpy(&value, &bits, 8);
    return value;
}

/* Whether a price is of whole micro-dollars; only then are mid and spread computed here. */
static int whole(double price, int64_t *micros) {
    if (!(price > 0 && price < MAX_PRICE)) return 0;
    *micros = micros_of(price);
    return (double)*micros / MICROS == price;
}

/* A number of 64 bits after the point, and whether anything is behind them, as the nearest double. False: it
 * is so small that bits are missing. */
static int nearest(uint64_t whole, uint64_t part, int more, double *found) {
    int shift = 0;
    if (!(whole | part >> 56)) return *found = 0, !part && !more;
    for (; !(whole >> 63); shift++) {
        whole = whole << 1 | part >> 63;
        part <<= 1;
    }
    /* 63 bits, the last one odd where anything was left over: so the conversion rounds as if it had seen it. */
    int64_t bits = (int64_t)(whole >> 1 | (whole & 1) | (part || more)), exponent = (int64_t)(1024 - shift) << 52;
    *found = (double)bits * double_of(exponent);
    return 1;
}

/* The notional by the volume, rounded once: a long division, bit after bit. False: not one for here. */
static int vwap_of(const int64_t *words, double *found) {
    uint64_t high = (uint64_t)words[NOTIONAL_HIGH], low = (uint64_t)words[NOTIONAL_LOW];
    uint64_t by = (uint64_t)words[VOLUME] * 1000000, rest = 0, whole = 0, part = 0;
    if (words[VOLUME] <= 0 || words[VOLUME] >> 43 || high >> 40 || low >> 32) return 0;
    uint64_t bits[2] = {high << 24 | low >> 8, low << 56}; /* 72 of them */
    for (int i = 0; i < 72 + 64; i++) {
        rest = rest << 1 | bits[0] >> 63;
        bits[0] = bits[0] << 1 | bits[1] >> 63;
        bits[1] <<= 1;
        whole = whole << 1 | part >> 63;
        part <<= 1;
        if (rest >= by) {
            rest -= by;
            part |= 1;
        }
    }
    return nearest(whole, part, rest != 0, found);
}

/* One row; NULL: it is not one for here. */
static place record(const int64_t *words, const uint8_t *key, int64_t key_size, uint64_t header,
                    const session *quoted_in, place at) {
    int traded = words[TRADES_FOLDED] > 0, quoted = words[QUOTES_FOLDED] > 0;
    int64_t last_ts = traded ? words[LAST_TS] : 0, quote_ts = quoted ? words[QUOTE_TS] : 0;
    int64_t ts = last_ts > quote_ts ? last_ts : quote_ts, day = words[SESSION], bid_micros, ask_micros;
    int trade_newer = traded && (!quoted || words[TRADE_RECEIVED] >= words[QUOTE_RECEIVED]);
    int64_t source = words[trade_newer ? TRADE_SOURCE : QUOTE_SOURCE];
    double bid = double_of(words[BID]), ask = double_of(words[ASK]), mid = 0, spread = 0, vwap = 0;
    int both = quoted && bid != 0 && ask != 0;
    if (source < 0 || source >= SOURCES) return 0;
    if (words[VOLUME] && !vwap_of(words, &vwap)) return 0;
    if (!traded) {
        if (ts < quoted_in->begin || ts >= quoted_in->end) return 0;
        day = quoted_in->day;
    }
    if (both) {
        if (!whole(bid, &bid_micros) || !whole(ask, &ask_micros)) return 0;
        mid = (double)(bid_micros + ask_micros) / (2 * MICROS);
        spread = (double)(ask_micros - bid_micros) / MICROS;
    }
    for (int i = 0; i < 5; i++) *at++ = (uint8_t)(header >> (8 * i));
    at = put_bytes(at, key, key_size);
    at = put_long(at, ts);
    at = put_long(at, day);
    at = maybe_bits(at, traded, words[LAST]);
    at = maybe_long(at, traded, words[LAST_TS]);
    at = maybe_bits(at, quoted, words[BID]);
    at = maybe_bits(at, quoted, words[ASK]);
    at = maybe_long(at, quoted, words[QUOTE_TS]);
    at = maybe_double(at, both, mid);
    at = maybe_double(at, both, spread);
    at = maybe_double(at, words[VOLUME] != 0, vwap);
    at = put_long(at, words[VOLUME]);
    at = put_long(at, words[TRADE_COUNT]);
    at = maybe_bits(at, traded, words[HIGH]);
    at = maybe_bits(at, traded, words[LOW]);
    at = maybe_long(at, quoted, ts - words[QUOTE_TS]);
    at = put_long(at, words[TRADES_FOLDED]);
    at = put_long(at, words[QUOTES_FOLDED]);
    at = put_long(at, words[trade_newer ? TRADE_RECEIVED : QUOTE_RECEIVED]);
    int64_t size = 0;
    while (sources[source][size]) size++;
    return put_bytes(at, (const uint8_t *)sources[source], size);
}

/* The records of `count` rows, one behind the other; `ends`: where each ends. `header`: the five bytes before
 * each, as a little-endian number. There must be room for each key and 250 bytes more. */
void tidewire_encode_features(const int64_t *words, int64_t count, const uint8_t *const *keys,
                              const int64_t *key_sizes, uint64_t header, const session *quoted_in,
                              uint8_t *records, int64_t *ends) {
    place at = records;
    for (int64_t i = 0; i < count; i++) {
        place end = record(words + WIDTH * i, keys[i], key_sizes[i], header, quoted_in, at);
        if (end) at = end;
        ends[i] = at - records;
    }
}
