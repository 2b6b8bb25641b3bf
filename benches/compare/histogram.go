package main

import (
	"math/bits"
	"time"
)

// Each power of two is cut into so many parts, so that a time is known to less than a hundredth.
const partBits = 7

// histogram counts times in logarithmic steps that are linear inside, like an HDR histogram.
type histogram struct {
	counts [(64 - partBits) << partBits]int64
	count  int64
	max    int64
}

// place is where a time of so many nanoseconds is counted.
func place(nanos uint64) int {
	power := bits.Len64(nanos >> partBits)
	if power == 0 {
		return int(nanos)
	}
	return power<<partBits + int(nanos>>(power-1)) - 1<<partBits
}

// value is the middle of what is counted in a place.
func value(place int) float64 {
	power := place >> partBits
	if power == 0 {
		return float64(place)
	}
	low := uint64(place&(1<<partBits-1)+1<<partBits) << (power - 1)
	return float64(low) + float64(uint64(1)<<(power-1))/2
}

func (h *histogram) record(took time.Duration) {
	nanos := max(took.Nanoseconds(), 0)
	h.counts[place(uint64(nanos))]++
	h.count++
	h.max = max(h.max, nanos)
}

func (h *histogram) add(other *histogram) {
	for place, count := range other.counts {
		h.counts[place] += count
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// at is a quantile in microseconds; 1 is the largest, exactly.
func (h *histogram) at(quantile float64) float64 {
	rank := int64(quantile*float64(h.count) + 0.5)
	if rank >= h.count {
		return float64(h.max) / 1e3
	}
	for place, count := range h.counts {
		if rank -= count; rank <= 0 && count > 0 {
			return value(place) / 1e3
		}
	}
	return float64(h.max) / 1e3
}
