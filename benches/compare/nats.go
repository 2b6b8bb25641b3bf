//go:build nats

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const bucket = "bench"

func init() {
	systems["nats"] = func() system { return natsKV{} }
	systems["nats-direct"] = func() system { return natsKV{direct: true} }
}

// natsKV is a bucket with as many replicas as there are servers. Its reads are the leader's own, without asking others; with
// direct any replica answers them, as the library sets buckets up.
type natsKV struct{ direct bool }

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}

func stream(endpoint string) (*nats.Conn, jetstream.JetStream, error) {
	conn, err := nats.Connect(endpoint, nats.Timeout(5*time.Second))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(conn)
	return conn, js, err
}

func (natsKV) shares() bool { return true }

func (n natsKV) prepare(endpoints []string) error {
	conn, js, err := stream(endpoints[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	limited, cancel := limited()
	defer cancel()
	_, err = js.CreateKeyValue(limited, jetstream.KeyValueConfig{
		Bucket: bucket, Replicas: len(endpoints), Storage: jetstream.FileStorage,
	})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return nil
	}
	if err != nil || n.direct {
		return err
	}
	found, err := js.Stream(limited, "KV_"+bucket)
	if err != nil {
		return err
	}
	config := found.CachedInfo().Config
	config.AllowDirect = false
	_, err = js.UpdateStream(limited, config)
	return err
}

// leader is the place in the servers' names, which end in their number.
func (natsKV) leader(endpoints []string) (int, error) {
	conn, js, err := stream(endpoints[0])
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	limited, cancel := limited()
	defer cancel()
	found, err := js.Stream(limited, "KV_"+bucket)
	if err != nil {
		return 0, err
	}
	info, err := found.Info(limited)
	if err != nil {
		return 0, err
	}
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return 0, fmt.Errorf("nobody leads")
	}
	var number int
	name := strings.TrimPrefix(info.Cluster.Leader, "node")
	if _, err := fmt.Sscan(name, &number); err != nil || number < 1 || number > len(endpoints) {
		return 0, fmt.Errorf("the leader is %q", info.Cluster.Leader)
	}
	return number - 1, nil
}

func (natsKV) open(endpoint string) (client, error) {
	conn, js, err := stream(endpoint)
	if err != nil {
		return nil, err
	}
	limited, cancel := limited()
	defer cancel()
	found, err := js.KeyValue(limited, bucket)
	if err != nil {
		return nil, err
	}
	return natsClient{conn, found}, nil
}

type natsClient struct {
	conn   *nats.Conn
	bucket jetstream.KeyValue
}

func (c natsClient) put(key int, value []byte) error {
	limited, cancel := limited()
	defer cancel()
	_, err := c.bucket.Put(limited, keyName(key), value)
	return err
}

func (c natsClient) get(key int) error {
	limited, cancel := limited()
	defer cancel()
	_, err := c.bucket.Get(limited, keyName(key))
	return err
}

func (c natsClient) close() { c.conn.Close() }
