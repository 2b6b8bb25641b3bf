package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Linux tells CPU time in hundredths of a second to every program.
const tick = 10 * time.Millisecond

// usage is what processes took so far, and hold.
type usage struct {
	cpu     time.Duration
	written int64
	memory  int64
}

func usageOf(pids []int) (usage, error) {
	var all usage
	for _, pid := range pids {
		folder := fmt.Sprintf("/proc/%d/", pid)
		stat, err := os.ReadFile(folder + "stat")
		if err != nil {
			return all, fmt.Errorf("a server has ended: %w", err)
		}
		// The name in parentheses may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			return all, fmt.Errorf("%sstat is too short", folder)
		}
		for _, field := range fields[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return all, err
			}
			all.cpu += time.Duration(ticks) * tick
		}
		written, err := numberIn(folder+"io", "write_bytes:")
		if err != nil {
			return all, err
		}
		memory, err := numberIn(folder+"status", "VmRSS:")
		if err != nil {
			return all, err
		}
		all.written += written
		all.memory += memory << 10
	}
	return all, nil
}

func numberIn(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
