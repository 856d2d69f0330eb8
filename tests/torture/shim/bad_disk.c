/*
 * A disk that fails, for LD_PRELOAD: the N-th write or sync of files whose path contains a piece of text ends with
 * EIO, once or from then on.
 *
 * BAD_DISK_PATH  the piece of text          BAD_DISK_CALL    "write" or "sync"
 * BAD_DISK_AT    N, counted from 1          BAD_DISK_STICKY  "1": all later calls of this kind fail too
 *
 * A failed sync loses what was written to the file since the last good one, as a kernel does that drops the dirty
 * pages: the bytes become zeros. So a program that goes on as if a later sync had saved them is found out.
 * Says on standard error when it fails for the first time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES 1024
#define RANGES 512

struct range {
    off_t from, to;
};

static struct {
    struct range ranges[RANGES];
    int count;
} unsynced[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long calls;

static int concerned(int fd) {
    static const char *piece;
    char link[64], path[4096];
    if (!piece && !(piece = getenv("BAD_DISK_PATH")))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return strstr(path, piece) != NULL;
}

/* Whether this call of the kind fails. Called with the lock held. */
static int fails(const char *kind) {
    const char *wanted = getenv("BAD_DISK_CALL"), *at = getenv("BAD_DISK_AT"), *sticky = getenv("BAD_DISK_STICKY");
    if (!wanted || !at || strcmp(wanted, kind))
        return 0;
    long number = ++calls, first = atol(at);
    if (number == first)
        dprintf(2, "bad disk: %s %ld fails\n", kind, number);
    return number == first || (number > first && sticky && *sticky == '1');
}

static void remember(int fd, off_t from, off_t to) {
    if (fd < 0 || fd >= FILES)
        return;
    int count = unsynced[fd].count;
    struct range *last = count ? &unsynced[fd].ranges[count - 1] : NULL;
    if (last && last->to == from)
        last->to = to;
    else if (count < RANGES)
        unsynced[fd].ranges[unsynced[fd].count++] = (struct range){from, to};
    else if (last)
        last->to = to > last->to ? to : last->to;
}

static void lose(int fd) {
    static const char zeros[65536];
    for (int i = 0; fd >= 0 && fd < FILES && i < unsynced[fd].count; i++) {
        struct range range = unsynced[fd].ranges[i];
        while (range.from < range.to) {
            size_t left = range.to - range.from;
            long done = syscall(SYS_pwrite64, fd, zeros, left < sizeof zeros ? left : sizeof zeros, range.from);
            if (done <= 0)
                break;
            range.from += done;
        }
    }
}

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t offset) {
    if (!concerned(fd))
        return syscall(SYS_pwrite64, fd, bytes, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    if (fails("write"))
        errno = EIO;
    else if ((result = syscall(SYS_pwrite64, fd, bytes, length, offset)) > 0)
        remember(fd, offset, offset + result);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    return write_at(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return write_at(fd, bytes, length, offset);
}

static int sync_file(int fd, long number) {
    if (!concerned(fd))
        return syscall(number, fd);
    pthread_mutex_lock(&lock);
    int result = -1;
    if (fails("sync")) {
        lose(fd);
        errno = EIO;
    } else {
        result = syscall(number, fd);
    }
    if (fd >= 0 && fd < FILES)
        unsynced[fd].count = 0;
    pthread_mutex_unlock(&lock);
    return result;
}

int close(int fd) {
    if (fd >= 0 && fd < FILES) {
        pthread_mutex_lock(&lock);
        unsynced[fd].count = 0;
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, fd);
}

int fdatasync(int fd) {
    return sync_file(fd, SYS_fdatasync);
}

int fsync(int fd) {
    return sync_file(fd, SYS_fsync);
}
