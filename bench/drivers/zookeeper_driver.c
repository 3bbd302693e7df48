/* Drives ZooKeeper through its native C client's asynchronous calls.
 *
 * Usage and output: see bench/drivers/__init__.py. `read` is sync and get, sent together (what ZooKeeper's
 * guide says for a read that must not be stale); `session-read` is a get alone, answered by the member.
 *
 * Rule of this file: a connection belongs to one completion thread; nothing is shared but the clock and the
 * moments of the run, which are set before the first operation. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define WARM_UP_S 1.0
#define FINISH_WITHIN_S 30.0
#define CONNECT_WITHIN_S 30.0
#define SESSION_TIMEOUT_MS 30000
#define TRANSACTION_SETS 5
#define PATH_BYTES 32
#define ENDPOINTS_MAX 16

enum operation { WRITE, READ, SESSION_READ, MIXED, TRANSACTION };
static const char *const OPERATIONS[] = {"write", "read", "session-read", "mixed", "transaction"};

struct connection {
    zhandle_t *handle;
    atomic_int connected;
    atomic_int in_flight;
    atomic_long errors;
    unsigned next_key;
    uint64_t dice;
    double *latencies_s;
    size_t operations, room;
};

struct request {
    struct connection *connection;
    double sent_s;
    int key;
    zoo_op_t *sets; /* of a transaction, with their results; they must outlive the call */
    zoo_op_result_t *results;
};

static enum operation operation = WRITE;
static int connections = 1, in_flight = 1, value_bytes = 100, keys = 256;
static double seconds = 3.0, read_share = 0.9;
static double measure_from_s, measure_to_s; /* of the monotonic clock */
static char (*paths)[PATH_BYTES];
static char *value;

static double now_s(clockid_t clock) {
    struct timespec moment;
    clock_gettime(clock, &moment);
    return (double)moment.tv_sec + 1e-9 * (double)moment.tv_nsec;
}

static void fail(const char *what, int code) {
    fprintf(stderr, "zookeeper_driver: %s: %s\n", what, code ? zerror(code) : "");
    exit(1);
}

static void begin_operation(struct request *request);

static void note_answer(struct request *request, int code) {
    struct connection *connection = request->connection;
    double answered_s = now_s(CLOCK_MONOTONIC);
    if (code != ZOK) {
        if (atomic_fetch_add(&connection->errors, 1) == 0)
            fprintf(stderr, "zookeeper_driver: %s failed: %s\n", paths[request->key], zerror(code));
    } else if (answered_s >= measure_from_s && answered_s < measure_to_s) {
        if (connection->operations == connection->room) {
            connection->room = connection->room ? 2 * connection->room : 4096;
            connection->latencies_s =
                realloc(connection->latencies_s, connection->room * sizeof(double));
            if (!connection->latencies_s)
                fail("out of memory", 0);
        }
        connection->latencies_s[connection->operations++] = answered_s - request->sent_s;
    }
    if (answered_s < measure_to_s && code == ZOK)
        begin_operation(request);
    else
        atomic_fetch_sub(&connection->in_flight, 1);
}

static void on_stat(int code, const struct Stat *stat, const void *data) {
    (void)stat;
    note_answer((struct request *)data, code);
}

static void on_data(int code, const char *bytes, int length, const struct Stat *stat, const void *data) {
    (void)bytes;
    (void)stat;
    if (code == ZOK && length != value_bytes)
        code = ZDATAINCONSISTENCY;
    note_answer((struct request *)data, code);
}

static void on_synced(int code, const char *path, const void *data) {
    (void)path; /* the get that was sent behind it tells the end, unless the sync failed */
    if (code != ZOK)
        atomic_fetch_add(&((struct request *)data)->connection->errors, 1);
}

static void on_caught_up(int code, const char *path, const void *data) {
    (void)data;
    if (code != ZOK)
        fail(path, code);
}

static void on_multi(int code, const void *data) {
    note_answer((struct request *)data, code);
}

static enum operation drawn(struct connection *connection) {
    if (operation != MIXED)
        return operation;
    connection->dice = connection->dice * 6364136223846793005u + 1442695040888963407u;
    return (double)(connection->dice >> 40) / (double)(1 << 24) < read_share ? READ : WRITE;
}

static void begin_operation(struct request *request) {
    struct connection *connection = request->connection;
    zhandle_t *handle = connection->handle;
    int code = ZOK;
    request->key = (int)(connection->next_key++ % (unsigned)keys);
    const char *path = paths[request->key];
    request->sent_s = now_s(CLOCK_MONOTONIC);
    switch (drawn(connection)) {
    case WRITE:
        code = zoo_aset(handle, path, value, value_bytes, -1, on_stat, request);
        break;
    case READ:
        code = zoo_async(handle, path, on_synced, request);
        if (code == ZOK)
            code = zoo_aget(handle, path, 0, on_data, request);
        break;
    case SESSION_READ:
        code = zoo_aget(handle, path, 0, on_data, request);
        break;
    case TRANSACTION:
        for (int set = 0; set < TRANSACTION_SETS; set++)
            zoo_set_op_init(&request->sets[set], paths[(request->key + set) % keys], value, value_bytes, -1, NULL);
        connection->next_key += TRANSACTION_SETS - 1;
        code = zoo_amulti(handle, TRANSACTION_SETS, request->sets, request->results, on_multi, request);
        break;
    case MIXED:
        abort(); /* drawn() never returns it */
    }
    if (code != ZOK)
        fail("an operation could not be sent", code);
}

static void on_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    (void)handle;
    (void)path;
    if (type == ZOO_SESSION_EVENT)
        atomic_store(&((struct connection *)context)->connected, state == ZOO_CONNECTED_STATE);
}

static void connect_all(struct connection *all, char *endpoints) {
    char *list[ENDPOINTS_MAX];
    int count = 0;
    for (char *part = strtok(endpoints, ","); part && count < ENDPOINTS_MAX; part = strtok(NULL, ","))
        list[count++] = part;
    if (!count)
        fail("no endpoints", 0);
    for (int i = 0; i < connections; i++) {
        all[i].dice = (uint64_t)i + 1;
        all[i].next_key = (unsigned)(i * keys / connections);
        all[i].handle = zookeeper_init(list[i % count], on_event, SESSION_TIMEOUT_MS, NULL, &all[i], 0);
        if (!all[i].handle)
            fail("cannot make a client", 0);
    }
    double deadline_s = now_s(CLOCK_MONOTONIC) + CONNECT_WITHIN_S;
    for (int i = 0; i < connections; i++)
        while (!atomic_load(&all[i].connected)) {
            if (now_s(CLOCK_MONOTONIC) > deadline_s)
                fail("not connected in time", 0);
            usleep(1000);
        }
}

static void create_node(zhandle_t *handle, const char *path, int length) {
    int code = zoo_create(handle, path, value, length, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (code == ZNODEEXISTS)
        code = zoo_set(handle, path, value, length, -1);
    if (code != ZOK)
        fail(path, code);
}

static void prepare_keys(zhandle_t *handle) {
    create_node(handle, "/bench", 0);
    for (int key = 0; key < keys; key++)
        create_node(handle, paths[key], value_bytes);
}

static int by_size(const void *one, const void *other) {
    double difference = *(const double *)one - *(const double *)other;
    return (difference > 0) - (difference < 0);
}

static double percentile_ms(const double *sorted, size_t count, double fraction) {
    double exact = fraction * (double)count;
    size_t rank = (size_t)exact + ((double)(size_t)exact < exact);
    rank = rank < 1 ? 1 : rank > count ? count : rank;
    return 1000 * sorted[rank - 1];
}

static void report(struct connection *all, double measured_from_s, long errors) {
    size_t count = 0, filled = 0;
    for (int i = 0; i < connections; i++)
        count += all[i].operations;
    double *merged = malloc((count + 1) * sizeof(double));
    if (!merged)
        fail("out of memory", 0);
    for (int i = 0; i < connections; i++)
        for (size_t j = 0; j < all[i].operations; j++)
            merged[filled++] = all[i].latencies_s[j];
    if (!count)
        fail("no operation was answered", 0);
    qsort(merged, count, sizeof(double), by_size);
    printf("{\"operations\":%zu,\"seconds\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"errors\":%ld,"
           "\"measured_from\":%.6f,\"measured_to\":%.6f}\n",
           count, seconds, percentile_ms(merged, count, 0.50), percentile_ms(merged, count, 0.99),
           1000 * merged[count - 1], errors, measured_from_s, measured_from_s + seconds);
    fflush(stdout);
}

static void run(struct connection *all) {
    int requests = connections * in_flight;
    struct request *request = calloc((size_t)requests, sizeof(struct request));
    if (!request)
        fail("out of memory", 0);
    measure_from_s = now_s(CLOCK_MONOTONIC) + WARM_UP_S;
    measure_to_s = measure_from_s + seconds;
    double measured_from_s = now_s(CLOCK_REALTIME) + WARM_UP_S;
    for (int i = 0; i < connections; i++)
        atomic_store(&all[i].in_flight, in_flight);
    for (int i = 0; i < requests; i++) {
        request[i].connection = &all[i % connections];
        request[i].sets = calloc(TRANSACTION_SETS, sizeof(zoo_op_t));
        request[i].results = calloc(TRANSACTION_SETS, sizeof(zoo_op_result_t));
        begin_operation(&request[i]);
    }
    double deadline_s = measure_to_s + FINISH_WITHIN_S;
    long errors = 0;
    for (int i = 0; i < connections; i++) {
        while (atomic_load(&all[i].in_flight) > 0) {
            if (now_s(CLOCK_MONOTONIC) > deadline_s)
                fail("operations without an answer at the end", 0);
            usleep(2000);
        }
        errors += atomic_load(&all[i].errors);
    }
    report(all, measured_from_s, errors);
}

int main(int count, char **arguments) {
    char *endpoints = NULL;
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i];
        char *text = arguments[i + 1];
        if (!strcmp(name, "--endpoints"))
            endpoints = text;
        else if (!strcmp(name, "--connections"))
            connections = atoi(text);
        else if (!strcmp(name, "--in-flight"))
            in_flight = atoi(text);
        else if (!strcmp(name, "--value-bytes"))
            value_bytes = atoi(text);
        else if (!strcmp(name, "--seconds"))
            seconds = atof(text);
        else if (!strcmp(name, "--keys"))
            keys = atoi(text);
        else if (!strcmp(name, "--read-share"))
            read_share = atof(text);
        else if (!strcmp(name, "--operation")) {
            int kind = 0;
            while (kind <= TRANSACTION && strcmp(OPERATIONS[kind], text))
                kind++;
            if (kind > TRANSACTION)
                fail(text, ZUNIMPLEMENTED);
            operation = (enum operation)kind;
        } else
            fail(name, ZBADARGUMENTS);
    }
    if (!endpoints || connections < 1 || in_flight < 1 || keys < TRANSACTION_SETS || value_bytes < 0)
        fail("see bench/drivers/__init__.py for the arguments", ZBADARGUMENTS);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    paths = calloc((size_t)keys, sizeof(*paths));
    value = malloc((size_t)value_bytes + 1);
    struct connection *all = calloc((size_t)connections, sizeof(struct connection));
    if (!paths || !value || !all)
        fail("out of memory", 0);
    memset(value, 'v', (size_t)value_bytes);
    for (int key = 0; key < keys; key++)
        snprintf(paths[key], PATH_BYTES, "/bench/%d", key);
    connect_all(all, endpoints);
    prepare_keys(all[0].handle);
    for (int i = 1; i < connections; i++) { /* a member that lags must know the keys before it is asked */
        int code = zoo_async(all[i].handle, "/bench", on_caught_up, NULL);
        if (code != ZOK)
            fail("a sync could not be sent", code);
    }
    run(all);
    for (int i = 0; i < connections; i++)
        zookeeper_close(all[i].handle);
    return 0;
}
