// Drives etcd through its native Go client.
//
// Usage and output: see bench/drivers/__init__.py. A connection is a client of its own with a connection of its own;
// in flight are goroutines. `read` is etcd's default, linearizable; `session-read` is serializable.
//
// Rule of this file: a goroutine keeps its own latencies; they are joined after the last one has ended.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	warmUp          = time.Second
	requestTimeout  = 30 * time.Second
	connectTimeout  = 30 * time.Second
	transactionSets = 5
)

var (
	operation   = flag.String("operation", "write", "write, read, session-read, mixed or transaction")
	endpoints   = flag.String("endpoints", "", "host:port,...")
	connections = flag.Int("connections", 1, "clients")
	inFlight    = flag.Int("in-flight", 1, "operations under way on each connection")
	valueBytes  = flag.Int("value-bytes", 100, "")
	seconds     = flag.Float64("seconds", 3, "length of the measurement")
	keys        = flag.Int("keys", 256, "")
	readShare   = flag.Float64("read-share", 0.9, "of a mixed load")
)

func fail(what string, err error) {
	fmt.Fprintf(os.Stderr, "etcd_driver: %s: %v\n", what, err)
	os.Exit(1)
}

func key(number int) string { return fmt.Sprintf("/bench/%d", number%*keys) }

func connectAll() []*clientv3.Client {
	list := strings.Split(*endpoints, ",")
	clients := make([]*clientv3.Client, *connections)
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   []string{list[i%len(list)]},
			DialTimeout: connectTimeout,
		})
		if err != nil {
			fail("cannot connect to "+list[i%len(list)], err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
		if _, err := client.Get(ctx, "/bench/0"); err != nil {
			fail("no answer from "+list[i%len(list)], err)
		}
		cancel()
		clients[i] = client
	}
	return clients
}

func perform(client *clientv3.Client, kind string, number int, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	switch kind {
	case "write":
		_, err := client.Put(ctx, key(number), value)
		return err
	case "read", "session-read":
		var options []clientv3.OpOption
		if kind == "session-read" {
			options = append(options, clientv3.WithSerializable())
		}
		answer, err := client.Get(ctx, key(number), options...)
		if err != nil {
			return err
		}
		if len(answer.Kvs) != 1 || len(answer.Kvs[0].Value) != len(value) {
			return fmt.Errorf("%s has not the value that was written", key(number))
		}
		return nil
	case "transaction":
		sets := make([]clientv3.Op, transactionSets)
		for i := range sets {
			sets[i] = clientv3.OpPut(key(number+i), value)
		}
		answer, err := client.Txn(ctx).Then(sets...).Commit()
		if err == nil && !answer.Succeeded {
			err = fmt.Errorf("the transaction was not done")
		}
		return err
	}
	return fmt.Errorf("there is no operation %q", kind)
}

func main() {
	flag.Parse()
	value := strings.Repeat("v", *valueBytes)
	clients := connectAll()
	for number := 0; number < *keys; number++ {
		if err := perform(clients[0], "write", number, value); err != nil {
			fail("cannot write the keys", err)
		}
	}
	for _, client := range clients { // a member that lags must know the keys before it is asked
		if err := perform(client, "read", *keys-1, value); err != nil {
			fail("cannot read the keys", err)
		}
	}

	from := time.Now().Add(warmUp)
	to := from.Add(time.Duration(*seconds * float64(time.Second)))
	latencies := make([][]float64, len(clients)**inFlight)
	var errors int64
	var workers sync.WaitGroup
	for worker := range latencies {
		workers.Add(1)
		go func(worker int) {
			defer workers.Done()
			client := clients[worker%len(clients)]
			dice := rand.New(rand.NewSource(int64(worker)))
			// Every worker begins elsewhere and goes through all keys.
			number := worker * *keys / len(latencies)
			for {
				kind := *operation
				if kind == "mixed" {
					if kind = "write"; dice.Float64() < *readShare {
						kind = "read"
					}
				}
				sent := time.Now()
				if !sent.Before(to) {
					return
				}
				err := perform(client, kind, number, value)
				answered := time.Now()
				if err != nil {
					if atomic.AddInt64(&errors, 1) == 1 {
						fmt.Fprintf(os.Stderr, "etcd_driver: %s failed: %v\n", kind, err)
					}
					return
				}
				if !answered.Before(from) && answered.Before(to) {
					latencies[worker] = append(latencies[worker], answered.Sub(sent).Seconds())
				}
				if number++; kind == "transaction" {
					number += transactionSets - 1
				}
			}
		}(worker)
	}
	workers.Wait()
	report(latencies, from, errors)
}

func report(latencies [][]float64, from time.Time, errors int64) {
	var all []float64
	for _, some := range latencies {
		all = append(all, some...)
	}
	if len(all) == 0 {
		fail("nothing measured", fmt.Errorf("no operation was answered"))
	}
	sort.Float64s(all)
	percentile := func(fraction float64) float64 {
		rank := int(math.Ceil(fraction * float64(len(all))))
		return 1000 * all[rank-1]
	}
	unix := float64(from.UnixNano()) / 1e9
	fmt.Printf("{\"operations\":%d,\"seconds\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"errors\":%d,"+
		"\"measured_from\":%.6f,\"measured_to\":%.6f}\n",
		len(all), *seconds, percentile(0.50), percentile(0.99), 1000*all[len(all)-1], errors, unix, unix+*seconds)
}
