/* Counts calls of the C library's allocator in a process that it is preloaded into (glibc). overhead.py builds and uses it. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static _Atomic long calls, bytes;

static void count(size_t size) {
    calls++;
    bytes += (long)size;
}

long allocation_calls(void) { return calls; }
long allocation_bytes(void) { return bytes; }

void* malloc(size_t size) {
    count(size);
    return __libc_malloc(size);
}
void* calloc(size_t number, size_t size) {
    count(number * size);
    return __libc_calloc(number, size);
}
void* realloc(void* old, size_t size) {
    count(size);
    return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
    count(size);
    return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** result, size_t alignment, size_t size) {
    *result = memalign(alignment, size);
    return *result ? 0 : ENOMEM;
}
