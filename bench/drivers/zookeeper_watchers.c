/* Driver: changes of one node told to many watchers, through ZooKeeper's C client. Prints one line of JSON.
 *
 * ZooKeeper's watches fire once, so each watcher sets its own again by reading the node (zoo_awget), as every
 * program must that wants to see the next change. The server keeps one watch for all watchers of a connection on
 * one path, and the C client calls each of them.
 *
 * Rule of this file: an operation is one change. At rate 0 the next change is made when every watcher has heard of
 * the last one and has set its watch again, and its time is that of the last watcher's call; at a rate, each telling
 * of each watcher is timed, from the change that fired it. `value_p50_ms` is until the last watcher had the new value.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* of callbacks, whose shape the library gives */

#define PATH "/bench-watched"
#define WARM_UP_CHANGES 10
#define REST_US 20000
#define CHANGES_MAX 1000000

struct watcher {
    zhandle_t *handle;
    int version; /* of the value that it has read */
    double fired_s;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int size, errors, missed, first_measured;
static int *heard, *read_back; /* by version: how many watchers were called, how many have the value */
static double *sent_s, *last_heard_s, *last_read_s;
static double *times_s;
static size_t times, times_max;
static int is_timing_each;

static double clock_s(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void note_time(double seconds) {
    if (times == times_max) {
        times_max = times_max ? 2 * times_max : 4096;
        times_s = realloc(times_s, times_max * sizeof *times_s);
    }
    times_s[times++] = seconds;
}

static void on_value(int rc, const char *value, int length, const struct Stat *stat, const void *data);

static void on_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    struct watcher *watcher = context;
    if (type != ZOO_CHANGED_EVENT) {
        return;
    }
    watcher->fired_s = clock_s(CLOCK_MONOTONIC);
    pthread_mutex_lock(&mutex);
    int version = watcher->version + 1; /* the first change after the one that was read fires the watch */
    if (is_timing_each && version >= first_measured) {
        note_time(watcher->fired_s - sent_s[version]);
    }
    if (++heard[version] == size) {
        last_heard_s[version] = watcher->fired_s;
    }
    pthread_mutex_unlock(&mutex);
    if (zoo_awget(handle, PATH, on_event, watcher, on_value, watcher) != ZOK) {
        errors++;
    }
}

static void on_value(int rc, const char *value, int length, const struct Stat *stat, const void *data) {
    struct watcher *watcher = (struct watcher *)data;
    pthread_mutex_lock(&mutex);
    if (rc != ZOK) {
        errors++;
    } else {
        if (stat->version > watcher->version + 1) {
            missed += stat->version - watcher->version - 1;
            for (int version = watcher->version + 2; version <= stat->version; version++) {
                heard[version]++; /* it never will be told of these */
            }
        }
        watcher->version = stat->version;
        if (++read_back[stat->version] == size) {
            last_read_s[stat->version] = clock_s(CLOCK_MONOTONIC);
        }
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&mutex);
}

/* Waits until every watcher has the value of this version, which is after it was told. */
static void wait_read(int version) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&mutex);
    while (read_back[version] < size) {
        if (pthread_cond_timedwait(&changed, &mutex, &until) != 0) {
            fprintf(stderr, "version %d: %d of %d watchers have it after 30 s\n", version, read_back[version], size);
            exit(1);
        }
    }
    pthread_mutex_unlock(&mutex);
}

static zhandle_t *attach(const char *endpoints) {
    zhandle_t *handle = zookeeper_init(endpoints, NULL, 10000, NULL, NULL, 0);
    for (int tries = 0; handle && zoo_state(handle) != ZOO_CONNECTED_STATE; tries++) {
        if (tries == 3000) {
            handle = NULL;
            break;
        }
        usleep(10000);
    }
    if (!handle) {
        fprintf(stderr, "no connection to %s within 30 s\n", endpoints);
        exit(1);
    }
    return handle;
}

static int compare(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double at_ms(double *sorted_s, size_t count, double fraction) {
    if (count == 0) {
        return 0;
    }
    size_t rank = (size_t)(fraction * count);
    if (rank < fraction * count) {
        rank++;
    }
    return sorted_s[rank ? rank - 1 : 0] * 1000;
}

static void on_set(int rc, const struct Stat *stat, const void *data) {
    if (rc != ZOK) {
        pthread_mutex_lock(&mutex);
        errors++;
        pthread_mutex_unlock(&mutex);
    }
}

int main(int argc, char **argv) {
    const char *endpoints = NULL;
    int connections = 10, watchers = 100, changes = 100, value_bytes = 100;
    double rate = 0, seconds = 5;
    static struct option options[] = {
        {"endpoints", 1, 0, 'e'}, {"connections", 1, 0, 'c'}, {"watchers", 1, 0, 'w'}, {"changes", 1, 0, 'n'},
        {"rate", 1, 0, 'r'},      {"seconds", 1, 0, 's'},     {"value-bytes", 1, 0, 'v'}, {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'e': endpoints = optarg; break;
        case 'c': connections = atoi(optarg); break;
        case 'w': watchers = atoi(optarg); break;
        case 'n': changes = atoi(optarg); break;
        case 'r': rate = atof(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'v': value_bytes = atoi(optarg); break;
        default: return 2;
        }
    }
    if (!endpoints) {
        fprintf(stderr, "--endpoints is missing\n");
        return 2;
    }
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    size = connections * watchers;
    heard = calloc(CHANGES_MAX, sizeof *heard);
    read_back = calloc(CHANGES_MAX, sizeof *read_back);
    sent_s = calloc(CHANGES_MAX, sizeof *sent_s);
    last_heard_s = calloc(CHANGES_MAX, sizeof *last_heard_s);
    last_read_s = calloc(CHANGES_MAX, sizeof *last_read_s);

    char *value = malloc(value_bytes);
    memset(value, 'v', value_bytes);
    zhandle_t *writer = attach(endpoints);
    zoo_delete(writer, PATH, -1);
    if (zoo_create(writer, PATH, value, value_bytes, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) != ZOK) {
        fprintf(stderr, "could not create " PATH "\n");
        return 1;
    }

    char *list = strdup(endpoints), *members[16];
    int count = 0;
    for (char *member = strtok(list, ","); member && count < 16; member = strtok(NULL, ",")) {
        members[count++] = member;
    }
    struct watcher *all = calloc(size, sizeof *all);
    zhandle_t **handles = calloc(connections, sizeof *handles);
    for (int number = 0; number < connections; number++) {
        handles[number] = attach(members[number % count]);
        for (int i = 0; i < watchers; i++) {
            struct watcher *watcher = &all[number * watchers + i];
            watcher->handle = handles[number];
            watcher->version = -1;
            zoo_awget(watcher->handle, PATH, on_event, watcher, on_value, watcher);
        }
    }
    wait_read(0);

    int version = 0, measured = 0;
    double *values_s = calloc(changes + 1, sizeof *values_s);
    double from_s = clock_s(CLOCK_REALTIME);
    if (rate == 0) {
        for (int number = 0; number < WARM_UP_CHANGES + changes; number++) {
            version++;
            double began_s = clock_s(CLOCK_MONOTONIC);
            if (zoo_set(writer, PATH, value, value_bytes, -1) != ZOK) {
                errors++;
            }
            wait_read(version);
            if (number >= WARM_UP_CHANGES) {
                note_time(last_heard_s[version] - began_s);
                values_s[measured++] = last_read_s[version] - began_s;
            }
            usleep(REST_US);
        }
    } else {
        is_timing_each = 1;
        first_measured = (int)rate + 1;
        double began_s = clock_s(CLOCK_MONOTONIC);
        for (int number = 0; number < (int)(rate * (1 + seconds)); number++) {
            double wait_s = began_s + number / rate - clock_s(CLOCK_MONOTONIC);
            if (wait_s > 0) {
                usleep((useconds_t)(wait_s * 1e6));
            }
            measured += number >= (int)rate;
            sent_s[++version] = clock_s(CLOCK_MONOTONIC);
            zoo_aset(writer, PATH, value, value_bytes, -1, on_set, NULL);
        }
        wait_read(version);
        from_s += 1;
    }
    double to_s = clock_s(CLOCK_REALTIME);

    pthread_mutex_lock(&mutex);
    qsort(times_s, times, sizeof *times_s, compare);
    printf("{\"operations\": %d, \"seconds\": %.6f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
           "\"errors\": %d, \"told\": %zu, \"missed\": %d, ",
           measured, to_s - from_s, at_ms(times_s, times, 0.5), at_ms(times_s, times, 0.99), at_ms(times_s, times, 1.0),
           errors, times, missed);
    if (rate == 0) {
        qsort(values_s, measured, sizeof *values_s, compare);
        printf("\"value_p50_ms\": %.4f, ", at_ms(values_s, measured, 0.5));
    }
    printf("\"measured_from\": %.6f, \"measured_to\": %.6f}\n", from_s, to_s);
    fflush(stdout);
    pthread_mutex_unlock(&mutex);
    _exit(0); /* the sessions end with their connections; closing each takes a write and tells nothing */
}
