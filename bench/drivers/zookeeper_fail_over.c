/* Driver: writes without a pause while members die, through ZooKeeper's C client. Prints a line for each
 * acknowledgement.
 *
 * A line is `WRITER BEGUN ACKNOWLEDGED`, the times in nanoseconds since the epoch. Writers 0 to 2 know one member
 * each, and begin a write every 20 ms whether or not earlier ones were answered; writer 3 knows all members and
 * writes one at a time. It goes on until it is killed.
 *
 * Rule of this file: what fails is made anew; a failure is no line. The session timeout is that of the other
 * systems' clients, 10 s; a session that has expired is replaced by a new one.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define MEMBERS 3
#define INTERVAL_US 20000
#define PAUSE_US 2000
#define OUTSTANDING_MAX 500
#define SESSION_MS 10000

struct writer {
    int number;
    const char *endpoints;
    zhandle_t *handle;
    char path[32];
    volatile int outstanding;
};

struct attempt {
    struct writer *writer;
    long long begun_ns;
};

static char value[100];

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void on_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle, (void)type, (void)state, (void)path, (void)context;
}

static void on_written(int rc, const struct Stat *stat, const void *data) {
    struct attempt *attempt = (struct attempt *)data;
    (void)stat;
    if (rc == ZOK) {
        printf("%d %lld %lld\n", attempt->writer->number, attempt->begun_ns, now_ns());
    }
    __sync_sub_and_fetch(&attempt->writer->outstanding, 1);
    free(attempt);
}

static void begin(struct writer *writer) {
    struct attempt *attempt = malloc(sizeof *attempt);
    attempt->writer = writer;
    attempt->begun_ns = now_ns();
    __sync_add_and_fetch(&writer->outstanding, 1);
    if (zoo_aset(writer->handle, writer->path, value, sizeof value, -1, on_written, attempt) != ZOK) {
        __sync_sub_and_fetch(&writer->outstanding, 1);
        free(attempt);
    }
}

static void connect_writer(struct writer *writer) {
    writer->handle = zookeeper_init(writer->endpoints, on_event, SESSION_MS, NULL, NULL, 0);
    if (!writer->handle) {
        fprintf(stderr, "zookeeper_init failed\n");
        exit(1);
    }
}

static void *write_for_ever(void *context) {
    struct writer *writer = context;
    int is_one_at_a_time = writer->number == MEMBERS;
    connect_writer(writer);
    snprintf(writer->path, sizeof writer->path, "/fail-over-%d", writer->number);
    for (;;) {
        int rc = zoo_create(writer->handle, writer->path, value, sizeof value, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
        if (rc == ZOK || rc == ZNODEEXISTS) {
            break;
        }
        usleep(100000);
    }
    for (;;) {
        if (is_unrecoverable(writer->handle)) {
            zookeeper_close(writer->handle);
            connect_writer(writer);
        }
        if (writer->outstanding < (is_one_at_a_time ? 1 : OUTSTANDING_MAX)) {
            begin(writer);
        }
        usleep(is_one_at_a_time ? PAUSE_US : INTERVAL_US);
    }
    return NULL;
}

int main(int count, char **arguments) {
    static const struct option options[] = {{"endpoints", required_argument, NULL, 'e'}, {NULL, 0, NULL, 0}};
    static struct writer writers[MEMBERS + 1];
    char *endpoints = NULL;
    for (int option; (option = getopt_long(count, arguments, "", options, NULL)) != -1;) {
        if (option != 'e') {
            return 2;
        }
        endpoints = optarg;
    }
    if (!endpoints) {
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    memset(value, 'v', sizeof value);
    char *all = strdup(endpoints), *rest = NULL;
    pthread_t thread;
    for (int number = 0; number <= MEMBERS; number++) {
        writers[number].number = number;
        writers[number].endpoints = number == MEMBERS ? all : strtok_r(number ? NULL : endpoints, ",", &rest);
        if (!writers[number].endpoints || pthread_create(&thread, NULL, write_for_ever, &writers[number])) {
            return 2;
        }
    }
    pthread_join(thread, NULL);
    return 1;
}
