package main

import (
	"math"
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
