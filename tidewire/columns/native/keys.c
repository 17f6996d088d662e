/* Which number each of many keys has: a table from views, as Arrow has short texts, to numbers.
 *
 * The table is the caller's: 1 << bits slots, zero at first, of which some stay empty, so that every search
 * ends. Keys of more than 12 bytes do not stand in their views: they are not found here.
 */

#include <stdint.h>

typedef struct {
    uint64_t low, high; /* the view: its size and its bytes */
    uint64_t number;    /* plus one; 0: an empty slot */
} slot;

static inline slot *find(slot *slots, int32_t bits, uint64_t low, uint64_t high) {
    uint64_t mixed = (low ^ high * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);
    for (uint64_t at = mixed >> (64 - bits);; at = (at + 1) & ((UINT64_C(1) << bits) - 1)) {
        slot *found = slots + at;
        if (!found->number || (found->low == low && found->high == high)) return found;
    }
}

/* The numbers of `count` keys; 0xffffffff where one has none. Returns how many have none, -1: one is long. */
int64_t tidewire_numbers(slot *slots, int32_t bits, const uint8_t *views, int64_t count, uint32_t *numbers) {
    int64_t missing = 0;
    for (int64_t i = 0; i < count; i++) {
        uint64_t view[2];
        __builtin_memcpy(view, views + 16 * i, 16);
        if ((uint32_t)view[0] > 12) return -1;
        uint64_t found = find(slots, bits, view[0], view[1])->number;
        numbers[i] = (uint32_t)(found - 1);
        missing += !found;
    }
    return missing;
}

/* Give `count` different keys that have none the numbers from `first` on; there must be room for them. Long
 * keys use theirs up. */
void tidewire_number(slot *slots, int32_t bits, const uint8_t *views, int64_t count, int64_t first) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t view[2];
        __builtin_memcpy(view, views + 16 * i, 16);
        if ((uint32_t)view[0] > 12) continue;
        slot *free = find(slots, bits, view[0], view[1]);
        *free = (slot){view[0], view[1], (uint64_t)(first + i + 1)};
    }
}

/* Put all that `from` holds into the empty table `to`; there must be room for it. */
void tidewire_renumber(const slot *from, int32_t from_bits, slot *to, int32_t to_bits) {
    for (uint64_t at = 0; at < UINT64_C(1) << from_bits; at++) {
        if (from[at].number) *find(to, to_bits, from[at].low, from[at].high) = from[at];
    }
}
