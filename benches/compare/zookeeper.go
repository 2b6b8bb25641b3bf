//go:build zookeeper

package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

func init() {
	systems["zookeeper"] = func() system { return zookeeper{} }
	systems["zookeeper-sync"] = func() system { return zookeeper{syncs: true} }
}

// zookeeper reads what the server that is asked has, which may be old; with syncs it has that server catch up first, which
// comes nearer to a linearizable read.
type zookeeper struct{ syncs bool }

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func connect(endpoint string) (*zk.Conn, error) {
	conn, events, err := zk.Connect([]string{endpoint}, 30*time.Second, zk.WithLogger(quiet{}))
	if err != nil {
		return nil, err
	}
	late := time.After(10 * time.Second)
	for {
		select {
		case event := <-events:
			if event.State == zk.StateHasSession {
				return conn, nil
			}
		case <-late:
			conn.Close()
			return nil, fmt.Errorf("%s: no session in time", endpoint)
		}
	}
}

func (zookeeper) shares() bool { return true }

func (zookeeper) prepare(endpoints []string) error {
	conn, err := connect(endpoints[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Create("/bench", nil, 0, zk.WorldACL(zk.PermAll))
	if err == zk.ErrNodeExists {
		return nil
	}
	return err
}

func (zookeeper) leader(endpoints []string) (int, error) {
	for place, endpoint := range endpoints {
		conn, err := net.DialTimeout("tcp", endpoint, 2*time.Second)
		if err != nil {
			return 0, err
		}
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprint(conn, "srvr")
		text, err := io.ReadAll(conn)
		conn.Close()
		if err != nil {
			return 0, err
		}
		if strings.Contains(string(text), "Mode: leader") {
			return place, nil
		}
	}
	return 0, fmt.Errorf("nobody leads")
}

func (z zookeeper) open(endpoint string) (client, error) {
	conn, err := connect(endpoint)
	if err != nil {
		return nil, err
	}
	return zookeeperClient{conn, z.syncs}, nil
}

type zookeeperClient struct {
	conn  *zk.Conn
	syncs bool
}

func (c zookeeperClient) put(key int, value []byte) error {
	// The library may still hold the bytes that it was given when it has answered.
	path, copied := "/"+keyName(key), append([]byte(nil), value...)
	_, err := c.conn.Set(path, copied, -1)
	if err == zk.ErrNoNode {
		_, err = c.conn.Create(path, copied, 0, zk.WorldACL(zk.PermAll))
	}
	return err
}

func (c zookeeperClient) get(key int) error {
	path := "/" + keyName(key)
	if c.syncs {
		if _, err := c.conn.Sync(path); err != nil {
			return err
		}
	}
	_, _, err := c.conn.Get(path)
	return err
}

// scan asks for all of them at once over the one connection, which answers in order: ZooKeeper has no ranges, and its lists
// of a folder hold names only.
func (c zookeeperClient) scan(first, count int) error {
	if c.syncs {
		if _, err := c.conn.Sync("/" + keyName(first)); err != nil {
			return err
		}
	}
	answers := make(chan error, count)
	for key := first; key < first+count; key++ {
		go func() {
			_, _, err := c.conn.Get("/" + keyName(key))
			answers <- err
		}()
	}
	var failed error
	for range count {
		if err := <-answers; err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (c zookeeperClient) close() { c.conn.Close() }
