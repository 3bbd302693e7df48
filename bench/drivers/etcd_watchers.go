// Driver: changes of one key told to many watchers, through etcd's Go client. Prints one line of JSON.
//
// Each watcher is a Watch of its own (clientv3.Watch) with a goroutine that reads its channel. The watches of one
// client share one gRPC stream, as they do in every program; the clients are the connections.
//
// Rule of this file: an operation is one change. At rate 0 the next change is made when every watcher has heard of
// the last one, and its time is that of the last watcher; at a rate, each telling of each watcher is timed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	key           = "bench-watched"
	warmUpChanges = 10
	rest          = 20 * time.Millisecond
)

type audience struct {
	sync.Mutex
	changed       *sync.Cond
	size          int
	heard         map[int64]int
	last          map[int64]time.Time
	sent          map[int64]time.Time
	firstMeasured int64
	timesEach     bool
	times         []float64
}

// hear notes that one watcher was told of this version, counted from 1 by the creation of the key.
func (a *audience) hear(version int64) {
	now := time.Now()
	a.Lock()
	a.heard[version]++
	if a.timesEach && version >= a.firstMeasured {
		a.times = append(a.times, now.Sub(a.sent[version]).Seconds())
	}
	if a.heard[version] == a.size {
		a.last[version] = now
		a.changed.Broadcast()
	}
	a.Unlock()
}

func (a *audience) waitTold(version int64) time.Time {
	a.Lock()
	defer a.Unlock()
	for a.heard[version] < a.size {
		a.changed.Wait()
	}
	return a.last[version]
}

func connect(endpoints ...string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func atMs(sorted []float64, fraction float64) float64 {
	rank := int(math.Ceil(fraction * float64(len(sorted))))
	if rank < 1 {
		rank = 1
	}
	return sorted[rank-1] * 1000
}

func seconds(moment time.Time) float64 { return float64(moment.UnixNano()) / 1e9 }

func main() {
	endpointList := flag.String("endpoints", "", "host:port,host:port,host:port")
	connections := flag.Int("connections", 10, "")
	watchers := flag.Int("watchers", 100, "of each connection")
	changes := flag.Int("changes", 100, "one after the other")
	rate := flag.Float64("rate", 0, "changes a second; 0: one after the other")
	length := flag.Float64("seconds", 5, "at a rate: how long is measured")
	valueBytes := flag.Int("value-bytes", 100, "")
	flag.Parse()
	endpoints := strings.Split(*endpointList, ",")
	ctx := context.Background()
	value := strings.Repeat("v", *valueBytes)

	writer := connect(endpoints...)
	if _, err := writer.Delete(ctx, key); err != nil {
		log.Fatal(err)
	}
	if _, err := writer.Put(ctx, key, value); err != nil {
		log.Fatal(err)
	}
	a := &audience{size: *connections * *watchers, heard: map[int64]int{}, last: map[int64]time.Time{}, sent: map[int64]time.Time{}}
	a.changed = sync.NewCond(a)
	for number := 0; number < *connections; number++ {
		client := connect(endpoints[number%len(endpoints)])
		for i := 0; i < *watchers; i++ {
			channel := client.Watch(ctx, key, clientv3.WithCreatedNotify())
			if response := <-channel; response.Err() != nil {
				log.Fatal(response.Err())
			}
			go func() {
				for response := range channel {
					for _, event := range response.Events {
						a.hear(event.Kv.Version)
					}
				}
			}()
		}
	}

	version := int64(1)
	measured := 0
	from := time.Now()
	if *rate == 0 {
		for number := 0; number < warmUpChanges+*changes; number++ {
			version++
			sent := time.Now()
			if _, err := writer.Put(ctx, key, value); err != nil {
				log.Fatal(err)
			}
			last := a.waitTold(version)
			if number >= warmUpChanges {
				a.times = append(a.times, last.Sub(sent).Seconds())
				measured++
			}
			time.Sleep(rest)
		}
	} else {
		a.timesEach = true
		a.firstMeasured = version + int64(*rate) + 1
		// One Put after the other, by a goroutine for each, which waits for its turn to be sent.
		var underWay sync.WaitGroup
		began := time.Now()
		for number := 0; number < int(*rate*(1+*length)); number++ {
			time.Sleep(time.Until(began.Add(time.Duration(float64(number) / *rate * float64(time.Second)))))
			if number >= int(*rate) {
				measured++
			}
			version++
			a.Lock()
			a.sent[version] = time.Now()
			a.Unlock()
			underWay.Add(1)
			go func() {
				defer underWay.Done()
				if _, err := writer.Put(ctx, key, value); err != nil {
					log.Fatal(err)
				}
			}()
		}
		a.waitTold(version)
		underWay.Wait()
		from = from.Add(time.Second)
	}
	to := time.Now()
	a.Lock()
	sort.Float64s(a.times)
	line, err := json.Marshal(map[string]float64{
		"operations": float64(measured), "seconds": to.Sub(from).Seconds(),
		"p50_ms": atMs(a.times, 0.5), "p99_ms": atMs(a.times, 0.99), "max_ms": atMs(a.times, 1),
		"errors": 0, "told": float64(len(a.times)),
		"measured_from": seconds(from), "measured_to": seconds(to),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
	os.Exit(0)
}
