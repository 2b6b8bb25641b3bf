package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestPlacesFollowOneAnother(t *testing.T) {
	last := -1
	for nanos := uint64(0); nanos < 1<<20; nanos++ {
		at := place(nanos)
		if at != last && at != last+1 {
			t.Fatalf("%d is counted in %d after %d", nanos, at, last)
		}
		last = at
		if off := math.Abs(value(at) - float64(nanos)); off > float64(nanos)/128+1 {
			t.Fatalf("%d counts as %v", nanos, value(at))
		}
	}
	if place(math.MaxInt64) >= len(histogram{}.counts) {
		t.Fatal("the longest time has no place")
	}
}

func TestPlans(t *testing.T) {
	good := plan{Clients: 1, Keys: 100, Value: 8, Reads: 100, Range: 100, Seconds: 1}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*plan){
		"more than there are": func(p *plan) { p.Range = 101 },
		"with writes":         func(p *plan) { p.Reads = 99 },
		"less than none":      func(p *plan) { p.Range = -1 },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("a range, %s, is no error", name)
		}
	}
}

func TestRangesAreToldApart(t *testing.T) {
	one, many := load{reads: 100, clients: 1}, load{reads: 100, clients: 1, ranges: 100}
	if one == many || !strings.HasPrefix(many.String(), "ranges of 100 keys, 1 client") ||
		!strings.HasPrefix(one.String(), "GET, 1 client") {
		t.Errorf("%q and %q", one, many)
	}
}

func TestQuantiles(t *testing.T) {
	var one, other histogram
	for micros := 1; micros <= 1000; micros++ {
		half := &one
		if micros%2 == 0 {
			half = &other
		}
		half.record(time.Duration(micros) * time.Microsecond)
	}
	one.add(&other)
	for quantile, expected := range map[float64]float64{0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if found := one.at(quantile); math.Abs(found-expected) > expected/100 {
			t.Errorf("%v: %v", quantile, found)
		}
	}
}
