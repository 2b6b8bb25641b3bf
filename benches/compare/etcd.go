//go:build etcd

package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func init() { systems["etcd"] = func() system { return etcd{} } }

// etcd is asked over gRPC; its reads are linearizable.
type etcd struct{}

func (etcd) prepare([]string) error { return nil }
func (etcd) shares() bool           { return true }

func dial(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
}

func (etcd) leader(endpoints []string) (int, error) {
	client, err := dial(endpoints...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for place, endpoint := range endpoints {
		limited, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		status, err := client.Status(limited, endpoint)
		cancel()
		if err != nil {
			return 0, err
		}
		if status.Leader == status.Header.MemberId {
			return place, nil
		}
	}
	return 0, fmt.Errorf("nobody leads")
}

func (etcd) open(endpoint string) (client, error) {
	client, err := dial(endpoint)
	if err != nil {
		return nil, err
	}
	return etcdClient{client}, nil
}

type etcdClient struct{ client *clientv3.Client }

func (c etcdClient) put(key int, value []byte) error {
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := c.client.Put(limited, keyName(key), string(value))
	return err
}

func (c etcdClient) get(key int) error {
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found, err := c.client.Get(limited, keyName(key))
	if err == nil && len(found.Kvs) != 1 {
		return fmt.Errorf("%d keys found", len(found.Kvs))
	}
	return err
}

func (c etcdClient) scan(first, count int) error {
	limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	end := clientv3.WithRange(keyName(first + count))
	found, err := c.client.Get(limited, keyName(first), end, clientv3.WithLimit(int64(count)))
	if err == nil && len(found.Kvs) != count {
		return fmt.Errorf("%d keys found", len(found.Kvs))
	}
	return err
}

func (c etcdClient) close() { c.client.Close() }
