/* Trades and quotes of a batch, folded into the rows of a table: the same words as trades.py and quotes.py.
 *
 * A batch is looked at first and folded second, so that one with anything unusual is left to those as it was.
 * Nothing is allocated here, and nothing is written but the memory that the caller names.
 */

#include "features.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the words are those of a little-endian machine"
#endif

#ifndef TIDEWIRE_SOURCE
#define TIDEWIRE_SOURCE ""
#endif

const char tidewire_features_source[] = TIDEWIRE_SOURCE;

#define CURRENT 1
#define INTERVAL INT64_C(10000000000) /* ns */
#define MAX_SIZE (INT64_C(1) << 40)   /* shares */
#define MAX_NOTIONAL 4e12             /* USD */
#define MAX_TS INT64_C(4102444800000000000)
#define MOST_RECORDS (INT64_C(1) << 22) /* of a batch: so many of MAX_SIZE still fit a word */
#define SOCKET 0                        /* `ws`, the first of the sources */

/* The order is that of folding.py; every member has eight bytes. */
typedef struct {
    int64_t *words; /* of the table, WIDTH a row */
    uint8_t *changed;
    const uint8_t *unsent;
    uint8_t *seen; /* a byte a row, zero before and after */
    const uint32_t *rows;
    const int64_t *offsets;
    int64_t count;
    const int64_t *ts, *received;
    const uint8_t *sources;
    const int64_t *epochs;
    const double *first_prices, *second_prices; /* price, or bid and ask */
    const int64_t *sizes, *ids;
    int64_t owner;                    /* the epoch of the feed's owner */
    int64_t day, day_begin, day_end; /* yyyymmdd of the first trade; ns */
    uint32_t *touched;               /* rows, as many as records */
    uint32_t *closed_rows;
    int64_t *closed_words;
    int64_t touched_count, closed_count, applied, repeated, late;
} batch;

static int is_price(double price) { return price >= 0 && price < MAX_PRICE; }

/* Whether a record is from the feed's owner, or from nobody who could own it, and of a sound time. */
static int ordinary(const batch *b, int64_t i) {
    if (b->sources[i] == SOCKET && b->epochs[i] != b->owner) return 0;
    return b->ts[i] >= 0 && b->ts[i] < MAX_TS;
}

static int sound_trade(const batch *b, int64_t i) {
    double price = b->first_prices[i];
    int64_t size = b->sizes[i];
    if (!is_price(price) || size < 0 || size > MAX_SIZE || !(price * (double)size < MAX_NOTIONAL)) return 0;
    if (b->words[WIDTH * (int64_t)b->rows[i] + VOLUME] > INT64_MAX - b->count * MAX_SIZE) return 0;
    return b->ts[i] >= b->day_begin && b->ts[i] < b->day_end;
}

/* How many states may be closed at most; -1: the batch is not one for here. */
static int64_t looked_at(const batch *b, int quotes) {
    int newest = quotes ? QUOTE_TS : LAST_TS, folded = quotes ? QUOTES_FOLDED : TRADES_FOLDED;
    int64_t closing = 0;
    if (b->count > MOST_RECORDS) return -1;
    for (int64_t i = 0; i < b->count; i++) {
        const int64_t *words = b->words + WIDTH * (int64_t)b->rows[i];
        int sound = quotes ? is_price(b->first_prices[i]) && is_price(b->second_prices[i]) : sound_trade(b, i);
        if (!sound || !ordinary(b, i)) return -1;
        closing += !words[folded] || b->ts[i] / INTERVAL > words[newest] / INTERVAL;
    }
    return closing;
}

int64_t tidewire_look_at_trades(const batch *b) { return looked_at(b, 0); }
int64_t tidewire_look_at_quotes(const batch *b) { return looked_at(b, 1); }

static int64_t bits_of(double price) {
    int64_t bits;
    price += 0.0; /* no negative zero */
    __builtin_memcpy(&bits, &price, 8);
    return bits;
}

static void add_to_session(batch *b, int64_t *words, int64_t i, int64_t bits) {
    if (b->day > words[SESSION]) {
        words[SESSION] = b->day;
        words[TRADE_COUNT] = words[VOLUME] = words[NOTIONAL_HIGH] = words[NOTIONAL_LOW] = 0;
        words[HIGH] = -1;
        words[LOW] = INT64_MAX;
    }
    if (b->day < words[SESSION]) {
        b->late++;
        return;
    }
    int64_t notional = micros_of(b->first_prices[i]) * b->sizes[i];
    int64_t low = words[NOTIONAL_LOW] + (notional & 0xffffffff);
    words[NOTIONAL_HIGH] += (notional >> 32) + (low >> 32);
    words[NOTIONAL_LOW] = low & 0xffffffff;
    words[TRADE_COUNT]++;
    words[VOLUME] += b->sizes[i];
    if (bits > words[HIGH]) words[HIGH] = bits;
    if (bits < words[LOW]) words[LOW] = bits;
}

static void add_trade(batch *b, int64_t *words, int64_t i) {
    int64_t ts = b->ts[i], id = b->ids[i], bits = bits_of(b->first_prices[i]);
    if (!words[TRADES_FOLDED] || ts > words[LAST_TS] || (ts == words[LAST_TS] && id >= words[LAST_ID])) {
        words[LAST] = bits;
        words[LAST_TS] = ts;
        words[LAST_ID] = id;
    }
    add_to_session(b, words, i, bits);
    words[TRADES_FOLDED]++;
    words[TRADE_RECEIVED] = b->received[i];
    words[TRADE_SOURCE] = b->sources[i];
}

static void add_quote(batch *b, int64_t *words, int64_t i) {
    if (!words[QUOTES_FOLDED] || b->ts[i] >= words[QUOTE_TS]) {
        words[QUOTE_TS] = b->ts[i];
        words[BID] = bits_of(b->first_prices[i]);
        words[ASK] = bits_of(b->second_prices[i]);
    }
    words[QUOTES_FOLDED]++;
    words[QUOTE_RECEIVED] = b->received[i];
    words[QUOTE_SOURCE] = b->sources[i];
}

/* Keep the state that a row leaves an interval of event time with, to be sent before anything newer. */
static void keep_state(batch *b, const int64_t *words, uint32_t row) {
    int64_t *kept = b->closed_words + WIDTH * b->closed_count;
    for (int word = 0; word < WIDTH; word++) kept[word] = words[word];
    b->closed_rows[b->closed_count++] = row;
}

static inline __attribute__((always_inline)) void fold(batch *b, int quotes) {
    int next = quotes ? QUOTES_NEXT : TRADES_NEXT, newest = quotes ? QUOTE_TS : LAST_TS;
    int folded = quotes ? QUOTES_FOLDED : TRADES_FOLDED;
    for (int64_t i = 0; i < b->count; i++) {
        uint32_t row = b->rows[i];
        int64_t *words = b->words + WIDTH * (int64_t)row;
        int again = b->seen[row];
        if (!again) {
            b->seen[row] = 1;
            b->touched[b->touched_count++] = row;
        }
        if (b->offsets[i] < words[next]) {
            b->repeated++;
            continue;
        }
        if (words[folded] && (again || b->unsent[row]) && b->ts[i] / INTERVAL > words[newest] / INTERVAL)
            keep_state(b, words, row);
        if (quotes)
            add_quote(b, words, i);
        else
            add_trade(b, words, i);
        words[VERSION] = CURRENT;
        words[next] = b->offsets[i] + 1;
        b->changed[row] = 1;
        b->applied++;
    }
    for (int64_t i = 0; i < b->touched_count; i++) b->seen[b->touched[i]] = 0;
}

/* Only after a look at the batch that was not -1; as many states as it said must have room. */
void tidewire_fold_trades(batch *b) { fold(b, 0); }
void tidewire_fold_quotes(batch *b) { fold(b, 1); }
