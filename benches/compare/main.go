// Command load puts the same closed loop on several systems, each through its own client library, and tells what came of
// it as one object of JSON. `run` beside it builds it and starts the systems.
//
//	load ports N                     free ports on loopback
//	load leader SYSTEM ENDPOINTS     the place of the leader among the endpoints
//	load measure FLAGS               one measurement
//	load report RAW.jsonl            medians of many, as Markdown
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// client is one connection's view of a system; it is used by one goroutine at a time.
type client interface {
	put(key int, value []byte) error
	get(key int) error
	close()
}

// ranger is a client that can read neighbouring keys; not every system has that.
type ranger interface {
	// scan reads so many keys from the first one on, with their values.
	scan(first, count int) error
}

// system is how to reach one kind of server.
type system interface {
	// prepare makes what the keys live in, once there is a leader.
	prepare(endpoints []string) error
	// leader says which endpoint leads.
	leader(endpoints []string) (int, error)
	open(endpoint string) (client, error)
	// shares says whether several goroutines may use one client at once.
	shares() bool
}

// systems has one entry for each client library that could be had; they enter themselves.
var systems = map[string]func() system{}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to do: ports, leader, measure or report")
	}
	switch command, rest := args[0], args[1:]; {
	case command == "ports" && len(rest) == 1:
		return ports(rest[0])
	case command == "leader" && len(rest) == 2:
		return tellLeader(rest[0], strings.Split(rest[1], ","))
	case command == "measure":
		return measureCommand(rest)
	case command == "report" && len(rest) == 1:
		return report(rest[0])
	}
	return fmt.Errorf("unknown command or number of arguments: %s", strings.Join(args, " "))
}

func ports(text string) error {
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 || count > 100 {
		return fmt.Errorf("%q is no number of ports", text)
	}
	// All are held until all are known, or one would be given twice.
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer listener.Close()
		fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	}
	return nil
}

func find(name string) (system, error) {
	make, ok := systems[name]
	if !ok {
		return nil, fmt.Errorf("there is no client library for %q here", name)
	}
	return make(), nil
}

// tellLeader waits until there is one.
func tellLeader(name string, endpoints []string) error {
	system, err := find(name)
	if err != nil {
		return err
	}
	for until := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if err = system.prepare(endpoints); err == nil {
			var place int
			if place, err = system.leader(endpoints); err == nil {
				fmt.Println(place)
				return nil
			}
		}
		if time.Now().After(until) {
			return fmt.Errorf("%s has no leader after a minute: %w", name, err)
		}
	}
}

func measureCommand(args []string) error {
	var plan plan
	var endpoints, pids string
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	flags.StringVar(&plan.Name, "name", "", "what the report calls it")
	flags.StringVar(&plan.System, "system", "", "which client library")
	flags.StringVar(&endpoints, "endpoints", "", "where, separated by commas")
	flags.StringVar(&plan.At, "at", "leader", "what the report says of the endpoints")
	flags.StringVar(&pids, "pids", "", "the servers' processes, separated by commas")
	flags.IntVar(&plan.Reads, "reads", 0, "reads of a hundred operations")
	flags.IntVar(&plan.Range, "range", 0, "how many neighbouring keys each reads at once; 0: one")
	flags.IntVar(&plan.Clients, "clients", 64, "how many ask at once")
	flags.IntVar(&plan.Connections, "connections", 0, "shared by the clients; 0: one each")
	flags.IntVar(&plan.Keys, "keys", 100000, "how many keys")
	flags.IntVar(&plan.Value, "value", 256, "bytes of a value")
	flags.Float64Var(&plan.Zipf, "zipf", 0, "exponent above 1; 0: all keys alike")
	flags.Float64Var(&plan.Seconds, "seconds", 4, "how long to measure")
	flags.Float64Var(&plan.Warmup, "warmup", 1, "and how long before")
	flags.IntVar(&plan.Round, "round", 1, "which round it is")
	flags.BoolVar(&plan.fill, "fill", false, "set each key once and measure nothing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	plan.endpoints = strings.Split(endpoints, ",")
	for _, text := range strings.FieldsFunc(pids, func(r rune) bool { return r == ',' }) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no process", text)
		}
		plan.pids = append(plan.pids, pid)
	}
	if err := plan.check(); err != nil {
		return err
	}
	result, err := measure(plan)
	if err != nil || plan.fill {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
