package main

import (
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"time"
)

// plan is what one measurement does.
type plan struct {
	Name        string  `json:"name"`
	System      string  `json:"system"`
	At          string  `json:"at"`
	Reads       int     `json:"read_percent"`
	Range       int     `json:"range"`
	Clients     int     `json:"clients"`
	Connections int     `json:"connections"`
	Keys        int     `json:"keys"`
	Value       int     `json:"value_bytes"`
	Zipf        float64 `json:"zipf"`
	Seconds     float64 `json:"seconds"`
	Warmup      float64 `json:"warmup_seconds"`
	Round       int     `json:"round"`
	fill        bool
	endpoints   []string
	pids        []int
}

// result is what came of it.
type result struct {
	plan
	Operations   int64              `json:"operations"`
	Errors       int64              `json:"errors"`
	FirstError   string             `json:"first_error,omitempty"`
	PerSecond    float64            `json:"operations_per_second"`
	LatencyUS    map[string]float64 `json:"latency_us"`
	ServerCPUUS  float64            `json:"server_cpu_us_per_operation"`
	WrittenBytes float64            `json:"written_bytes_per_operation"`
	MemoryBytes  int64              `json:"memory_bytes_a_node"`
}

func (p plan) check() error {
	switch {
	case p.Clients < 1 || p.Clients > 16384:
		return fmt.Errorf("%d clients are not between 1 and 16384", p.Clients)
	case p.Keys < 1 || p.Keys > 100_000_000:
		return fmt.Errorf("%d keys are not between 1 and 100000000", p.Keys)
	case p.Value < 8 || p.Value > 64<<20:
		return fmt.Errorf("values of %d bytes are not between 8 bytes and 64 MiB", p.Value)
	case p.Reads < 0 || p.Reads > 100:
		return fmt.Errorf("%d is no share of a hundred", p.Reads)
	case p.Range < 0 || p.Range > p.Keys || p.Range > 0 && p.Reads != 100:
		return fmt.Errorf("ranges of %d keys among %d, with %d %% reads", p.Range, p.Keys, p.Reads)
	case p.Connections < 0 || p.Connections > p.Clients:
		return fmt.Errorf("%d connections for %d clients", p.Connections, p.Clients)
	case p.Zipf != 0 && p.Zipf <= 1:
		return fmt.Errorf("the exponent %v is not above 1, as the library wants it", p.Zipf)
	case p.Seconds <= 0 || p.Seconds > 3600 || p.Warmup < 0 || p.Warmup > 3600:
		return fmt.Errorf("a measurement takes up to an hour")
	}
	return nil
}

// open makes the clients, of which several may be the same where a system shares its connections.
func open(system system, plan plan) ([]client, error) {
	count := plan.Clients
	if plan.Connections > 0 && system.shares() {
		count = plan.Connections
	}
	opened := make([]client, count)
	for at := range opened {
		one, err := system.open(plan.endpoints[at%len(plan.endpoints)])
		if err != nil {
			return nil, fmt.Errorf("client %d: %w", at, err)
		}
		opened[at] = one
	}
	clients := make([]client, plan.Clients)
	for at := range clients {
		clients[at] = opened[at%count]
	}
	return clients, nil
}

func measure(plan plan) (*result, error) {
	system, err := find(plan.System)
	if err != nil {
		return nil, err
	}
	clients, err := open(system, plan)
	if err != nil {
		return nil, err
	}
	if plan.fill {
		return nil, fill(clients, plan)
	}
	if _, ok := clients[0].(ranger); plan.Range > 0 && !ok {
		return nil, fmt.Errorf("%s reads no ranges", plan.System)
	}
	began := time.Now()
	from := began.Add(seconds(plan.Warmup))
	until := from.Add(seconds(plan.Seconds))
	seen := make([]seen, len(clients))
	var running sync.WaitGroup
	for at, client := range clients {
		running.Go(func() { seen[at].ask(client, plan, at, from, until) })
	}
	time.Sleep(time.Until(from))
	before, err := usageOf(plan.pids)
	if err != nil {
		return nil, err
	}
	running.Wait()
	took := time.Since(from).Seconds()
	after, err := usageOf(plan.pids)
	if err != nil {
		return nil, err
	}
	all := &seen[0]
	for at := range seen[1:] {
		all.add(&seen[at+1])
	}
	answer := &result{plan: plan, Operations: all.done, Errors: all.errors, FirstError: all.first}
	answer.PerSecond = float64(all.done) / took
	answer.LatencyUS = map[string]float64{"p50": all.times.at(0.5), "p90": all.times.at(0.9),
		"p99": all.times.at(0.99), "p99_9": all.times.at(0.999), "max": all.times.at(1)}
	if operations := float64(all.done); all.done > 0 {
		answer.ServerCPUUS = float64((after.cpu - before.cpu).Microseconds()) / operations
		answer.WrittenBytes = float64(after.written-before.written) / operations
	}
	if len(plan.pids) > 0 {
		answer.MemoryBytes = after.memory / int64(len(plan.pids))
	}
	return answer, nil
}

// seen is what one client saw.
type seen struct {
	done, errors int64
	first        string
	times        histogram
}

func (s *seen) add(other *seen) {
	s.done += other.done
	s.errors += other.errors
	if s.first == "" {
		s.first = other.first
	}
	s.times.add(&other.times)
}

// ask is the closed loop: the next operation begins when the last one has ended.
func (s *seen) ask(client client, plan plan, at int, from, until time.Time) {
	random := rand.New(rand.NewSource(int64(at)<<16 + int64(plan.Round)))
	draw := func() int { return random.Intn(plan.Keys) }
	if plan.Zipf != 0 {
		zipf := rand.NewZipf(random, plan.Zipf, 1, uint64(plan.Keys-1))
		// Those that are asked for most do not lie side by side.
		draw = func() int { return int(zipf.Uint64() * 2_654_435_761 % uint64(plan.Keys)) }
	}
	value := valueOf(plan.Value, random)
	for count := uint64(0); ; count++ {
		began := time.Now()
		if !began.Before(until) {
			return
		}
		var err error
		if plan.Range > 0 {
			// A range that would go beyond the last key ends with it.
			err = client.(ranger).scan(min(draw(), plan.Keys-plan.Range), plan.Range)
		} else if random.Intn(100) < plan.Reads {
			err = client.get(draw())
		} else {
			stamp(value, count)
			err = client.put(draw(), value)
		}
		ended := time.Now()
		switch {
		case err != nil:
			if !began.Before(from) {
				s.errors++
			}
			if s.first == "" {
				s.first = err.Error()
			}
			// Who asks again at once only takes the servers' time.
			time.Sleep(10 * time.Millisecond)
		case !began.Before(from):
			s.done++
			s.times.record(ended.Sub(began))
		}
	}
}

// fill sets each key once.
func fill(clients []client, plan plan) error {
	var next atomic.Int64
	failed := make(chan error, len(clients))
	var running sync.WaitGroup
	for at, client := range clients {
		running.Go(func() {
			random := rand.New(rand.NewSource(int64(at)))
			value := valueOf(plan.Value, random)
			for key := next.Add(1) - 1; key < int64(plan.Keys); key = next.Add(1) - 1 {
				stamp(value, uint64(key))
				err := client.put(int(key), value)
				for again := 0; err != nil && again < 100; again++ {
					time.Sleep(100 * time.Millisecond)
					err = client.put(int(key), value)
				}
				if err != nil {
					failed <- fmt.Errorf("key %d could not be set: %w", key, err)
					return
				}
			}
		})
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// valueOf is as random as it can be, so that nobody gains by compressing it.
func valueOf(size int, random *rand.Rand) []byte {
	value := make([]byte, size)
	random.Read(value)
	return value
}

// stamp makes one value differ from the next.
func stamp(value []byte, count uint64) {
	for at := range 8 {
		value[at] = byte(count >> (8 * at))
	}
}

func keyName(key int) string { return fmt.Sprintf("bench/%09d", key) }

func seconds(count float64) time.Duration { return time.Duration(count * float64(time.Second)) }
