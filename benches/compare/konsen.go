package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

func init() { systems["konsen"] = func() system { return konsen{} } }

// konsen is asked over HTTP/1.1, one connection a client.
type konsen struct{}

func (konsen) prepare([]string) error { return nil }
func (konsen) shares() bool           { return false }

func (konsen) leader(endpoints []string) (int, error) {
	short := http.Client{Timeout: 2 * time.Second}
	for place, endpoint := range endpoints {
		answer, err := short.Get(endpoint + "/v1/status")
		if err != nil {
			return 0, err
		}
		var status struct{ Role string }
		err = json.NewDecoder(answer.Body).Decode(&status)
		answer.Body.Close()
		if err != nil {
			return 0, err
		}
		if status.Role == "leader" {
			return place, nil
		}
	}
	return 0, fmt.Errorf("nobody leads")
}

func (konsen) open(endpoint string) (client, error) {
	transport := &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true}
	return &konsenClient{&http.Client{Transport: transport, Timeout: 10 * time.Second}, endpoint}, nil
}

type konsenClient struct {
	http     *http.Client
	endpoint string
}

func (c *konsenClient) put(key int, value []byte) error {
	url := c.endpoint + "/v1/kv/" + keyName(key)
	request, err := http.NewRequest(http.MethodPut, url, bytes.NewReader(value))
	if err != nil {
		return err
	}
	return c.send(request)
}

func (c *konsenClient) get(key int) error {
	request, err := http.NewRequest(http.MethodGet, c.endpoint+"/v1/kv/"+keyName(key), nil)
	if err != nil {
		return err
	}
	return c.send(request)
}

func (c *konsenClient) send(request *http.Request) error {
	answer, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	return nil
}

func (c *konsenClient) scan(first, count int) error {
	url := fmt.Sprintf("%s/v1/kv?start=%s&end=%s&limit=%d", c.endpoint, keyName(first), keyName(first+count), count)
	answer, err := c.http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	// Decoded as whoever wants the values has to, and as the other systems' libraries do.
	var page struct {
		Items []struct {
			Key   string
			Value []byte `json:"value_base64"`
		}
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return err
	}
	if len(page.Items) != count {
		return fmt.Errorf("%d keys found", len(page.Items))
	}
	return nil
}

func (c *konsenClient) close() { c.http.CloseIdleConnections() }
