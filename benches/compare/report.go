package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// load is what systems are compared under.
type load struct {
	at                                  string
	reads, clients, keys, value, shared int
	ranges                              int
	zipf                                float64
}

func (l load) String() string {
	var text string
	switch {
	case l.ranges > 0:
		text = fmt.Sprintf("ranges of %d keys", l.ranges)
	case l.reads == 0:
		text = "PUT"
	case l.reads == 100:
		text = "GET"
	default:
		text = fmt.Sprintf("%d %% GET, %d %% PUT", l.reads, 100-l.reads)
	}
	who := "clients"
	if l.clients == 1 {
		who = "client"
	}
	text += fmt.Sprintf(", %d %s, %d B, %d keys", l.clients, who, l.value, l.keys)
	if l.zipf != 0 {
		text += fmt.Sprintf(", zipf %v", l.zipf)
	}
	switch l.at {
	case "leader":
		text += ", at the leader"
	case "followers":
		text += ", at the followers"
	default:
		text += ", over all nodes"
	}
	if l.shared > 0 {
		text += fmt.Sprintf(" (%d connections shared, where the system can)", l.shared)
	}
	return text
}

// report prints the medians of each load's rounds, and how they compare.
func report(file string) error {
	input, err := os.Open(file)
	if err != nil {
		return err
	}
	defer input.Close()
	rounds := map[load]map[string][]result{}
	var loads []load
	var names []string
	lines := bufio.NewScanner(input)
	for lines.Scan() {
		var one result
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		key := load{one.At, one.Reads, one.Clients, one.Keys, one.Value, one.Connections, one.Range, one.Zipf}
		if rounds[key] == nil {
			rounds[key] = map[string][]result{}
			loads = append(loads, key)
		}
		if !slices.Contains(names, one.Name) {
			names = append(names, one.Name)
		}
		rounds[key][one.Name] = append(rounds[key][one.Name], one)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	slices.SortStableFunc(loads, func(a, b load) int {
		return cmp.Or(cmp.Compare(a.ranges, b.ranges), cmp.Compare(a.reads, b.reads), cmp.Compare(a.value, b.value), cmp.Compare(a.clients, b.clients))
	})
	for _, key := range loads {
		table(key, names, rounds[key])
	}
	return nil
}

func table(key load, names []string, rounds map[string][]result) {
	fmt.Printf("\n### %s\n\n", key)
	fmt.Println("| system | /s | p50 ms | p99 ms | p99.9 ms | server CPU µs/op | disk B/op | memory a node MiB | × etcd: /s, CPU | × ZooKeeper: /s, CPU |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	var notes []string
	for _, name := range names {
		all := rounds[name]
		if len(all) == 0 {
			continue
		}
		rate, cpu := medians(all)
		latency := func(of string) float64 {
			return median(all, func(r result) float64 { return r.LatencyUS[of] / 1e3 })
		}
		fmt.Printf("| %s | %.0f | %.2f | %.2f | %.2f | %.1f | %.0f | %.0f | %s | %s |\n", name, rate,
			latency("p50"), latency("p99"), latency("p99_9"), cpu,
			median(all, func(r result) float64 { return r.WrittenBytes }),
			median(all, func(r result) float64 { return float64(r.MemoryBytes) / (1 << 20) }),
			ratio(rate, cpu, rounds["etcd"]), ratio(rate, cpu, rounds["ZooKeeper"]))
		var errors int64
		for _, one := range all {
			errors += one.Errors
		}
		if errors > 0 {
			first := ""
			for _, one := range all {
				first = cmp.Or(first, one.FirstError)
			}
			notes = append(notes, fmt.Sprintf("%s had %d errors, such as: %s", name, errors, first))
		}
	}
	if len(notes) > 0 {
		fmt.Printf("\n%s.\n", strings.Join(notes, "; "))
	}
}

func medians(all []result) (rate, cpu float64) {
	rate = median(all, func(r result) float64 { return r.PerSecond })
	return rate, median(all, func(r result) float64 { return r.ServerCPUUS })
}

func median(all []result, of func(result) float64) float64 {
	numbers := make([]float64, 0, len(all))
	for _, one := range all {
		numbers = append(numbers, of(one))
	}
	slices.Sort(numbers)
	half := len(numbers) / 2
	if len(numbers)%2 == 1 {
		return numbers[half]
	}
	return (numbers[half-1] + numbers[half]) / 2
}

// ratio is how many times as much throughput there is, and CPU an operation.
func ratio(rate, cpu float64, other []result) string {
	if len(other) == 0 {
		return "-"
	}
	otherRate, otherCPU := medians(other)
	if otherRate == 0 || otherCPU == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f, %.2f", rate/otherRate, cpu/otherCPU)
}
