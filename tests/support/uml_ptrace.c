/*
 * Loaded before User-Mode Linux (LD_PRELOAD) on processors with AMX.
 *
 * User-Mode Linux 6.1 keeps 2696 bytes of vector registers per process, everything up to AVX-512 and
 * PKRU. A kernel that knows AMX takes registers back only as a whole, 11008 bytes, and answers
 * EFAULT to less (arch/x86/kernel/fpu/regset.c, xstateregs_set): the guest dies at its first
 * process. So what User-Mode Linux hands in is completed with zeros, which the header in it marks
 * as unused: AMX is off until a program asks for it, and none in the guest does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/uio.h>

enum { GETREGSET = 0x4204, SETREGSET = 0x4205, XSTATE = 0x202, ROOM = 65536 };

long ptrace(int request, int pid, void *kind, void *data)
{
    static long (*real)(int, int, void *, void *);
    static char whole[ROOM];
    static size_t size;
    struct iovec *given = data, all = { whole, ROOM };

    if (!real)
        real = (long (*)(int, int, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if (request != SETREGSET || (long)kind != XSTATE)
        return real(request, pid, kind, data);
    if (!size) {
        if (real(GETREGSET, pid, kind, &all) < 0)
            return -1;
        size = all.iov_len;
        memset(whole, 0, size);
    }
    all.iov_len = size;
    memcpy(whole, given->iov_base, given->iov_len < size ? given->iov_len : size);
    return real(SETREGSET, pid, kind, &all);
}
