/* Limits, what a frame is read with, and the hash of an event id. */

#include <stdint.h>

enum { HEADER = 5, MOST_CONDITIONS = 16, LONGEST_SYMBOL = 64, LONGEST_SAID = 1024 };

#define MAX_LONG INT64_MAX
#define EARLIEST_SECONDS 631152000ull /* normalize.py: 1990 */
#define LATEST_SECONDS 4102444800ull  /* 2100 */
#define SMALLEST_SHOWN 1e-4           /* below it Python shows an exponent */
#define LARGEST_SHOWN 1e15            /* fifteen digits are exact either way */

/* What is the same for all records of a frame: a header a schema, and what follows the tape up to the id. */
typedef struct {
    const uint8_t *trade, *quote, *tail;
    int64_t tail_size;
} layout;

/* XXH3 of 64 bits, seed 0; 0: the text is too long for what is written here. */
int tidewire_xxh3(const uint8_t *data, int64_t size, uint64_t *digest);
