// Driver: writes without a pause while members die, through etcd's Go client. Prints a line for each
// acknowledgement.
//
// A line is `WRITER BEGUN ACKNOWLEDGED`, the times in nanoseconds since the epoch. Writers 0 to 2 know one member
// each, and begin a write every 20 ms whether or not earlier ones were answered; writer 3 knows all members and
// writes one at a time. It goes on until it is killed.
//
// Rule of this file: a write that is not answered within a second is given up and made anew, since a member that
// has lost its leader holds it for seven; a failure is no line.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/ioutil"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"google.golang.org/grpc/grpclog"
)

const (
	interval       = 20 * time.Millisecond
	outstandingMax = 500
	pause          = 2 * time.Millisecond
	tryFor         = time.Second
)

var (
	value  = strings.Repeat("v", 100)
	output sync.Mutex
)

func connect(endpoints ...string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func write(client *clientv3.Client, writer int) {
	ctx, cancel := context.WithTimeout(context.Background(), tryFor)
	defer cancel()
	begun := time.Now()
	if _, err := client.Put(ctx, fmt.Sprintf("fail-over-%d", writer), value); err != nil {
		return
	}
	acknowledged := time.Now()
	output.Lock()
	fmt.Fprintf(os.Stdout, "%d %d %d\n", writer, begun.UnixNano(), acknowledged.UnixNano())
	output.Unlock()
}

func writeAtIntervals(client *clientv3.Client, writer int) {
	outstanding := make(chan struct{}, outstandingMax)
	for range time.Tick(interval) {
		select {
		case outstanding <- struct{}{}:
			go func() {
				write(client, writer)
				<-outstanding
			}()
		default:
		}
	}
}

func main() {
	endpointList := flag.String("endpoints", "", "host:port,host:port,host:port")
	flag.Parse()
	clientv3.SetLogger(grpclog.NewLoggerV2(ioutil.Discard, ioutil.Discard, ioutil.Discard))
	endpoints := strings.Split(*endpointList, ",")
	for writer, endpoint := range endpoints {
		go writeAtIntervals(connect(endpoint), writer)
	}
	client := connect(endpoints...)
	for {
		write(client, len(endpoints))
		time.Sleep(pause)
	}
}
