/* Pieces of the line of text that an event id is made of (schemas/event_id.py). Each writes one piece and a
   bar, and returns the place behind it. */

#include "msgpack.h"

static inline uint8_t *put(uint8_t *to, const uint8_t *from, int64_t size) {
    for (int64_t n = 0; n < size; n++) to[n] = from[n];
    return to + size;
}

static inline uint8_t *say(uint8_t *to, text value) {
    to = put(to, value.at, value.size);
    *to++ = '|';
    return to;
}

static inline uint8_t *say_number(uint8_t *to, uint64_t value) {
    uint8_t digits[20];
    int count = 0;
    do digits[count++] = (uint8_t)('0' + value % 10); while (value /= 10);
    while (count) *to++ = digits[--count];
    return to;
}

static inline uint8_t *say_long(uint8_t *to, int64_t value) {
    if (value < 0) *to++ = '-';
    to = say_number(to, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
    *to++ = '|';
    return to;
}

/* Python's repr of a double that is a decimal of at most nine places and fifteen digits: the fewest places
   whose decimal is read back as this very double. Division of two exact doubles is rounded once, as reading
   is; of fifteen digits no two decimals are one double, so there is none shorter. Null: another double. */
static inline uint8_t *say_price(uint8_t *to, double price) {
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

static inline uint8_t *say_texts(uint8_t *to, const texts *values) {
    for (int64_t n = 0; n < values->count; n++) {
        if (n) *to++ = ',';
        to = put(to, values->items[n].at, values->items[n].size);
    }
    *to++ = '|';
    return to;
}
