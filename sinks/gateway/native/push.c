/* One frame to many sockets: a send() each, and nothing else.
 *
 * The library has no libc: the caller passes the address of the one that Python runs with. What a socket did
 * not take (full, or gone) is the caller's to queue or to find out.
 */

#include <stdint.h>

#ifndef TIDEWIRE_SOURCE
#define TIDEWIRE_SOURCE ""
#endif

/* What the library was built from: another source, and the loader does not take it. */
const char tidewire_push_source[] = TIDEWIRE_SOURCE;

/* ssize_t and size_t have the width of intptr_t wherever there is a send() of POSIX. */
typedef intptr_t (*sender)(int socket, const void *data, uintptr_t size, int flags);

/* sent[i]: the bytes that sockets[i] has taken, less than `size` if it is full; negative: it failed. */
void tidewire_push(sender send, const int *sockets, int64_t count, const void *data, int64_t size, int flags,
                   int64_t *sent) {
    for (int64_t i = 0; i < count; i++) {
        sent[i] = send(sockets[i], data, (uintptr_t)size, flags);
    }
}
