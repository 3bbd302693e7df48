/* A disk that fails when it is told to, and that remembers what was synced: preloaded into a member.
 *
 * Every write, fsync and fdatasync of a file below DISK_FAULTS_UNDER looks into the file DISK_FAULTS_CONTROL.
 * While that holds "CALL COUNT ERROR" (for example "sync 3 5"), the third such call from then on fails, once:
 * a sync is not carried out, a write is carried out in half. CALL is "write" or "sync"; ERROR is an errno, or
 * 0 for SIGKILL: in place of a sync, in the middle of a write. DISK_FAULTS_LOG gets a line for each successful
 * sync of a file ("synced INODE SIZE"), for the failure ("failed CALL PATH"), and for each call after it ("after CALL PATH").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long calls;
static atomic_int fired;

static int is_ours(int fd, char *path, size_t size) {
    char link[64];
    const char *under = getenv("DISK_FAULTS_UNDER");
    if (under == NULL || fd <= 2) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length <= 0) return 0;
    path[length] = '\0';
    return strncmp(path, under, strlen(under)) == 0;
}

static void note(const char *what, const char *subject, const char *detail) {
    char line[8192];
    const char *log = getenv("DISK_FAULTS_LOG");
    if (log == NULL) return;
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, "%s %s %s\n", what, subject, detail);
    syscall(SYS_write, fd, line, (size_t)length);
    close(fd);
}

/* -1: carry it out; else the errno to fail with. */
static int verdict(const char *call, const char *path) {
    char text[64] = "", wanted[16];
    long count;
    int error;
    const char *control = getenv("DISK_FAULTS_CONTROL");
    if (fired) {
        note("after", call, path);
        return -1;
    }
    int fd = control == NULL ? -1 : open(control, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0 || sscanf(text, "%15s %ld %d", wanted, &count, &error) != 3) return -1;
    if (strcmp(wanted, call) != 0 || ++calls != count) return -1;
    fired = 1;
    note("failed", call, path);
    return error;
}

/* SIGKILL is not handled, so nothing after it runs. */
static void die(void) { kill(getpid(), SIGKILL); }

static int synced(int number, int fd) {
    char path[4096], inode[32], size[32];
    struct stat before;
    if (!is_ours(fd, path, sizeof path)) return (int)syscall(number, fd);
    int error = verdict("sync", path);
    if (error == 0) die();
    if (error >= 0) {
        errno = error;
        return -1;
    }
    /* The size before: what is appended meanwhile by another thread may not be covered. */
    int known = fstat(fd, &before);
    int result = (int)syscall(number, fd);
    if (result == 0 && known == 0 && S_ISREG(before.st_mode)) {
        snprintf(inode, sizeof inode, "%llu", (unsigned long long)before.st_ino);
        snprintf(size, sizeof size, "%lld", (long long)before.st_size);
        note("synced", inode, size);
    }
    return result;
}

int fsync(int fd) { return synced(SYS_fsync, fd); }

int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *data, size_t size) {
    char path[4096];
    if (is_ours(fd, path, sizeof path)) {
        int error = verdict("write", path);
        if (error >= 0) {
            syscall(SYS_write, fd, data, size / 2);
            if (error == 0) die();
            errno = error;
            return -1;
        }
    }
    return syscall(SYS_write, fd, data, size);
}
