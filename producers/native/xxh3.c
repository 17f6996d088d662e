/* XXH3, 64 bits, seed 0, of texts of up to 240 bytes: all that an event id is made of.

   After the specification of xxHash (doc/xxhash_spec.md, "XXH3 Algorithm Overview": small and medium inputs);
   the tests compare it with the package xxhash. */

#include "frames.h"

#define P64_1 0x9E3779B185EBCA87ull
#define P64_2 0xC2B2AE3D27D4EB4Full
#define P64_3 0x165667B19E3779F9ull
#define MIX_1 0x165667919E3779F9ull
#define MIX_2 0x9FB21C651E98DF25ull

static const uint8_t secret[192] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t word(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int n = bytes - 1; n >= 0; n--) value = value << 8 | at[n];
    return value;
}

static uint64_t rotated(uint64_t value, int by) { return value << by | value >> (64 - by); }

static uint64_t reversed(uint64_t value) {
    uint64_t other = 0;
    for (int n = 0; n < 8; n++) other = other << 8 | (value >> (8 * n) & 0xff);
    return other;
}

static uint64_t folded(uint64_t one, uint64_t other) {
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t avalanche(uint64_t hash) {
    hash = (hash ^ hash >> 37) * MIX_1;
    return hash ^ hash >> 32;
}

static uint64_t avalanche_64(uint64_t hash) {
    hash = (hash ^ hash >> 33) * P64_2;
    hash = (hash ^ hash >> 29) * P64_3;
    return hash ^ hash >> 32;
}

static uint64_t mixed(const uint8_t *data, const uint8_t *with) {
    return folded(word(data, 8) ^ word(with, 8), word(data + 8, 8) ^ word(with + 8, 8));
}

static uint64_t small(const uint8_t *data, int64_t size) {
    if (size > 8) {
        uint64_t low = word(data, 8) ^ word(secret + 24, 8) ^ word(secret + 32, 8);
        uint64_t high = word(data + size - 8, 8) ^ word(secret + 40, 8) ^ word(secret + 48, 8);
        return avalanche((uint64_t)size + reversed(low) + high + folded(low, high));
    }
    if (size >= 4) {
        uint64_t both = word(data + size - 4, 4) + (word(data, 4) << 32);
        uint64_t hash = both ^ word(secret + 8, 8) ^ word(secret + 16, 8);
        hash = (hash ^ rotated(hash, 49) ^ rotated(hash, 24)) * MIX_2;
        hash = (hash ^ ((hash >> 35) + (uint64_t)size)) * MIX_2;
        return hash ^ hash >> 28;
    }
    if (size) {
        uint64_t first = data[0], middle = data[size >> 1], last = data[size - 1];
        uint64_t all = first << 16 | middle << 24 | last | (uint64_t)size << 8;
        return avalanche_64(all ^ (word(secret, 4) ^ word(secret + 4, 4)));
    }
    return avalanche_64(word(secret + 56, 8) ^ word(secret + 64, 8));
}

static uint64_t middle(const uint8_t *data, int64_t size) {
    uint64_t sum = (uint64_t)size * P64_1;
    for (int64_t n = (size - 1) / 32; n >= 0; n--) {
        sum += mixed(data + 16 * n, secret + 32 * n);
        sum += mixed(data + size - 16 * (n + 1), secret + 32 * n + 16);
    }
    return avalanche(sum);
}

static uint64_t longer(const uint8_t *data, int64_t size) {
    uint64_t sum = (uint64_t)size * P64_1;
    for (int64_t n = 0; n < 8; n++) sum += mixed(data + 16 * n, secret + 16 * n);
    uint64_t rest = mixed(data + size - 16, secret + 136 - 17);
    sum = avalanche(sum);
    for (int64_t n = 8; n < size / 16; n++) rest += mixed(data + 16 * n, secret + 16 * (n - 8) + 3);
    return avalanche(sum + rest);
}

int tidewire_xxh3(const uint8_t *data, int64_t size, uint64_t *digest) {
    if (size > 240) return 0;
    *digest = size > 128 ? longer(data, size) : size > 16 ? middle(data, size) : small(data, size);
    return 1;
}
