/* Driver of the bulk scenario for ZooKeeper: makes many nodes, lists a large one, probes writes.
 *
 * zookeeper_bulk fill ENDPOINTS PARENT NODES PER_DIRECTORY VALUE_BYTES IN_FLIGHT
 * zookeeper_bulk ls ENDPOINTS PATH TIMES
 * zookeeper_bulk probe ENDPOINTS WORKERS PAUSE_MS      until standard input ends
 *
 * `fill` and `ls` print one line of JSON; `probe` prints one line per write: when it was sent (seconds since the
 * epoch) and how long it took (ms).
 *
 * Rule of this file: the same nodes, values and pauses as in the bulk drivers of the other systems. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define SESSION_TIMEOUT_MS 30000
#define VALUES 65536 /* of them neighbours share nothing, so that no compression gains anything */
#define STRIDE 40503
#define VALUE_BYTES_MAX 4096

static zhandle_t *handle;
static sem_t room;
static volatile long errors;
static double *took_ms;
static char values[VALUES + VALUE_BYTES_MAX];

static double now_s(clockid_t clock) {
    struct timespec moment;
    clock_gettime(clock, &moment);
    return moment.tv_sec + 1e-9 * moment.tv_nsec;
}

static void fail(const char *what, int code) {
    fprintf(stderr, "zookeeper_bulk: %s: %s\n", what, code ? zerror(code) : "failed");
    exit(1);
}

static void attach(const char *endpoints) {
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    handle = zookeeper_init(endpoints, NULL, SESSION_TIMEOUT_MS, NULL, NULL, 0);
    if (!handle)
        fail("no handle", 0);
    for (int tries = 0; zoo_state(handle) != ZOO_CONNECTED_STATE; tries++) {
        if (tries == 3000)
            fail("no connection within 30 s", 0);
        usleep(10000);
    }
}

static void make_directory(const char *path) {
    int code = zoo_create(handle, path, "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (code != ZOK && code != ZNODEEXISTS)
        fail(path, code);
}

static int compare(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static void print_result(long operations, double seconds, double *times_ms, long count, long items) {
    qsort(times_ms, count, sizeof *times_ms, compare);
    printf("{\"operations\": %ld, \"seconds\": %f, \"p50_ms\": %f, \"p99_ms\": %f, \"max_ms\": %f, "
           "\"errors\": %ld, \"items\": %ld}\n",
           operations, seconds, times_ms[(count - 1) / 2], times_ms[(count - 1) * 99 / 100],
           times_ms[count - 1], errors, items);
}

static void on_created(int code, const char *path, const void *data) {
    double *took = (double *)data;
    (void)path;
    if (code != ZOK && __sync_fetch_and_add(&errors, 1) == 0)
        fprintf(stderr, "zookeeper_bulk: create: %s\n", zerror(code));
    *took = 1000 * now_s(CLOCK_MONOTONIC) - *took;
    sem_post(&room);
}

static void fill(const char *parent, long nodes, long per_directory, int value_bytes, int in_flight) {
    char path[256];
    took_ms = calloc(nodes, sizeof *took_ms);
    sem_init(&room, 0, in_flight);
    make_directory(parent);
    for (long at = 0; per_directory && at < nodes; at += per_directory) {
        snprintf(path, sizeof path, "%s/d%04ld", parent, at / per_directory);
        make_directory(path);
    }
    double began_s = now_s(CLOCK_MONOTONIC);
    for (long node = 0; node < nodes; node++) {
        if (per_directory)
            snprintf(path, sizeof path, "%s/d%04ld/n%07ld", parent, node / per_directory, node);
        else
            snprintf(path, sizeof path, "%s/n%07ld", parent, node);
        sem_wait(&room);
        took_ms[node] = 1000 * now_s(CLOCK_MONOTONIC);
        const char *value = values + node * STRIDE % VALUES;
        int code = zoo_acreate(handle, path, value, value_bytes, &ZOO_OPEN_ACL_UNSAFE, 0, on_created, &took_ms[node]);
        if (code != ZOK)
            fail(path, code);
    }
    for (int answered = 0; answered < in_flight; answered++)
        sem_wait(&room);
    print_result(nodes, now_s(CLOCK_MONOTONIC) - began_s, took_ms, nodes, nodes);
}

static void list(const char *path, int times) {
    long items = 0;
    took_ms = calloc(times, sizeof *took_ms);
    double began_s = now_s(CLOCK_MONOTONIC);
    for (int number = 0; number < times; number++) {
        struct String_vector names;
        double sent_s = now_s(CLOCK_MONOTONIC);
        int code = zoo_get_children(handle, path, 0, &names);
        if (code != ZOK)
            fail(path, code);
        took_ms[number] = 1000 * (now_s(CLOCK_MONOTONIC) - sent_s);
        items = names.count;
        deallocate_String_vector(&names);
    }
    print_result(times, now_s(CLOCK_MONOTONIC) - began_s, took_ms, times, items);
}

static volatile int is_over;
static int pause_ms;

static void *probe(void *path) {
    while (!is_over) {
        double sent_s = now_s(CLOCK_REALTIME), began_s = now_s(CLOCK_MONOTONIC);
        int code = zoo_set(handle, path, values, 100, -1);
        if (code != ZOK)
            fail(path, code);
        printf("%.6f %.3f\n", sent_s, 1000 * (now_s(CLOCK_MONOTONIC) - began_s));
        usleep(1000 * pause_ms);
    }
    return NULL;
}

static void probe_all(int workers) {
    pthread_t threads[64];
    char paths[64][32], byte;
    make_directory("/probe");
    for (int worker = 0; worker < workers; worker++) {
        snprintf(paths[worker], sizeof paths[worker], "/probe/%d", worker);
        make_directory(paths[worker]);
    }
    for (int worker = 0; worker < workers; worker++)
        pthread_create(&threads[worker], NULL, probe, paths[worker]);
    while (read(0, &byte, 1) > 0)
        continue;
    is_over = 1;
    for (int worker = 0; worker < workers; worker++)
        pthread_join(threads[worker], NULL);
}

int main(int count, char **arguments) {
    unsigned dice = 1;
    for (size_t at = 0; at < sizeof values; at++)
        values[at] = (char)((dice = dice * 1103515245 + 12345) >> 16);
    if (count < 5)
        fail("usage: see the beginning of the source", 0);
    attach(arguments[2]);
    if (!strcmp(arguments[1], "fill") && count == 8) {
        fill(arguments[3], atol(arguments[4]), atol(arguments[5]), atoi(arguments[6]), atoi(arguments[7]));
    } else if (!strcmp(arguments[1], "ls")) {
        list(arguments[3], atoi(arguments[4]));
    } else if (!strcmp(arguments[1], "probe") && atoi(arguments[3]) <= 64) {
        pause_ms = atoi(arguments[4]);
        probe_all(atoi(arguments[3]));
    } else {
        fail("usage: see the beginning of the source", 0);
    }
    zookeeper_close(handle);
    return errors ? 1 : 0;
}
