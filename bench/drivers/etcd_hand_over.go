// Driver: one of two processes that hand a lock to and fro, through etcd's concurrency.Mutex. Prints one line of JSON.
//
// What it does, measures and prints is what coordsvc_hand_over.py does.
//
// Rule of this file: each process notes its own moments; nothing is sent between them but the lock.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

const (
	lockPrefix = "/bench-hand-over"
	lineUp     = 120 * time.Millisecond
	alone      = time.Second
)

func seconds(moment time.Time) float64 { return float64(moment.UnixNano()) / 1e9 }

func contenders(client *clientv3.Client) int64 {
	answer, err := client.Get(context.Background(), lockPrefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		log.Fatal(err)
	}
	return answer.Count
}

func main() {
	endpoints := flag.String("endpoints", "", "host:port,host:port,host:port")
	turns := flag.Int("turns", 100, "")
	flag.Parse()
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), DialTimeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	if err != nil {
		log.Fatal(err)
	}
	mutex := concurrency.NewMutex(session, lockPrefix)
	var moments [][2]float64
	for turn := 0; turn < *turns; turn++ {
		if err := mutex.Lock(ctx); err != nil {
			log.Fatal(err)
		}
		granted := time.Now()
		for contenders(client) < 2 && time.Since(granted) < alone {
		}
		time.Sleep(lineUp)
		moments = append(moments, [2]float64{seconds(granted), seconds(time.Now())})
		if err := mutex.Unlock(ctx); err != nil {
			log.Fatal(err)
		}
	}
	if err := session.Close(); err != nil {
		log.Fatal(err)
	}
	line, err := json.Marshal(moments)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}
