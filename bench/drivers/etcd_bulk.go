// Driver of the bulk scenario for etcd, through its Go client: makes many keys, lists a large prefix, probes writes.
//
//	etcd_bulk fill ENDPOINTS PARENT KEYS PER_DIRECTORY VALUE_BYTES IN_FLIGHT
//	etcd_bulk ls ENDPOINTS PATH TIMES
//	etcd_bulk probe ENDPOINTS WORKERS PAUSE_MS      until standard input ends
//
// `fill` and `ls` print one line of JSON; `probe` prints one line per write: when it was sent (seconds since the
// epoch) and how long it took (ms).
//
// Rule of this file: the same keys, values and pauses as in the bulk drivers of the other systems.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	valuesCount   = 65536 // of them neighbours share nothing, so that no compression gains anything
	stride        = 40503
	valueBytesMax = 4096
)

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func ms(duration time.Duration) float64 { return float64(duration) / 1e6 }

func printResult(operations int, took time.Duration, timesMs []float64, items int) {
	sort.Float64s(timesMs)
	last := len(timesMs) - 1
	_ = json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"operations": operations, "seconds": took.Seconds(), "p50_ms": timesMs[last/2],
		"p99_ms": timesMs[last*99/100], "max_ms": timesMs[last], "errors": 0, "items": items,
	})
}

func fill(client *clientv3.Client, parent string, keys, perDirectory, valueBytes, inFlight int, values string) {
	timesMs := make([]float64, keys)
	next := make(chan int)
	var workers sync.WaitGroup
	for worker := 0; worker < inFlight; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for key := range next {
				path := fmt.Sprintf("%s/n%07d", parent, key)
				if perDirectory > 0 {
					path = fmt.Sprintf("%s/d%04d/n%07d", parent, key/perDirectory, key)
				}
				from := key * stride % valuesCount
				sent := time.Now()
				if _, err := client.Put(context.Background(), path, values[from:from+valueBytes]); err != nil {
					log.Fatal(err)
				}
				timesMs[key] = ms(time.Since(sent))
			}
		}()
	}
	began := time.Now()
	for key := 0; key < keys; key++ {
		next <- key
	}
	close(next)
	workers.Wait()
	printResult(keys, time.Since(began), timesMs, keys)
}

func list(client *clientv3.Client, path string, times int) {
	timesMs := make([]float64, times)
	items := 0
	began := time.Now()
	for at := range timesMs {
		sent := time.Now()
		answer, err := client.Get(context.Background(), path+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			log.Fatal(err)
		}
		timesMs[at] = ms(time.Since(sent))
		items = len(answer.Kvs)
	}
	printResult(times, time.Since(began), timesMs, items)
}

func probe(client *clientv3.Client, workers int, pause time.Duration, values string) {
	over := make(chan struct{})
	var running sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		running.Add(1)
		go func(path string) {
			defer running.Done()
			for {
				select {
				case <-over:
					return
				case <-time.After(pause):
				}
				sent := time.Now()
				if _, err := client.Put(context.Background(), path, values[:100]); err != nil {
					log.Fatal(err)
				}
				fmt.Printf("%.6f %.3f\n", float64(sent.UnixNano())/1e9, ms(time.Since(sent)))
			}
		}(fmt.Sprintf("/probe/%d", worker))
	}
	_, _ = io.Copy(ioutil.Discard, os.Stdin)
	close(over)
	running.Wait()
}

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: see the beginning of the source")
	}
	text := make([]byte, valuesCount+valueBytesMax)
	dice := uint32(1)
	for at := range text {
		dice = dice*1103515245 + 12345
		text[at] = byte(dice >> 16)
	}
	values := string(text)
	endpoints := strings.Split(os.Args[2], ",")
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	switch arguments := os.Args[3:]; os.Args[1] {
	case "fill":
		fill(client, arguments[0], number(arguments[1]), number(arguments[2]), number(arguments[3]), number(arguments[4]), values)
	case "ls":
		list(client, arguments[0], number(arguments[1]))
	case "probe":
		probe(client, number(arguments[0]), time.Duration(number(arguments[1]))*time.Millisecond, values)
	default:
		log.Fatal("usage: see the beginning of the source")
	}
}
