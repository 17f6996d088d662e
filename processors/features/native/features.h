/* The words of a table row and what they may hold, as in row.py. */

#include <stdint.h>

enum {
    VERSION, TRADES_NEXT, TRADES_FOLDED, SESSION, TRADE_COUNT, VOLUME, NOTIONAL_HIGH, NOTIONAL_LOW,
    HIGH, LOW, LAST, LAST_TS, LAST_ID, TRADE_RECEIVED, TRADE_SOURCE,
    QUOTES_NEXT, QUOTES_FOLDED, BID, ASK, QUOTE_TS, QUOTE_RECEIVED, QUOTE_SOURCE, WIDTH
};

#define MAX_PRICE 1e9 /* USD */
#define MICROS 1e6

/* A price in micro-dollars, halves to the even one. It is less than 2**51, so that adding 1.5 * 2**52 rounds
 * it and leaves it in the lowest bits; in two statements, as one might be rounded once only. */
static inline int64_t micros_of(double price) {
    const double shift = 6755399441055744.0;
    double scaled = price * MICROS;
    double shifted = scaled + shift;
    int64_t bits, none;
    __builtin_memcpy(&bits, &shifted, 8);
    __builtin_memcpy(&none, &shift, 8);
    return bits - none;
}
