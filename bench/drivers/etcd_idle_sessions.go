// Driver: many leases that are kept alive and nothing else, through etcd's Go client. One process's share of them.
//
// Each session is a client with a connection of its own and one lease, as in a program that holds a lock; the
// client renews it every third of its time to live. It prints one line when all are open, and one for each that was
// lost; it ends when its standard input does.
//
// Rule of this file: no connection is shared.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"math/rand"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

func open(ctx context.Context, endpoint string, ttl int64) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 30 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	lease, err := client.Grant(ctx, ttl)
	if err != nil {
		log.Fatal(err)
	}
	renewals, err := client.KeepAlive(ctx, lease.ID)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for range renewals {
		}
		fmt.Println("lost")
	}()
}

func main() {
	endpointList := flag.String("endpoints", "", "host:port,host:port,host:port")
	sessions := flag.Int("sessions", 500, "")
	timeout := flag.Float64("timeout", 10, "time to live of a lease, in seconds")
	flag.Parse()
	endpoints := strings.Split(*endpointList, ",")
	ctx := context.Background()
	room := make(chan bool, 8)
	var all sync.WaitGroup
	for number := 0; number < *sessions; number++ {
		all.Add(1)
		room <- true
		go func(number int) {
			defer all.Done()
			open(ctx, endpoints[number%len(endpoints)], int64(*timeout))
			// Users start at any time: so do the renewals.
			time.Sleep(time.Duration(rand.Float64() * *timeout / 3 / float64(*sessions) * 8 * float64(time.Second)))
			<-room
		}(number)
	}
	all.Wait()
	fmt.Println("open")
	io.Copy(ioutil.Discard, os.Stdin)
}
