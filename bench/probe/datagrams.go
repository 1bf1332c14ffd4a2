package main

import (
	"fmt"
	"os"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// datagramCost prints what probes by datagrams cost: queries over UDP, and echo requests, which the kernel answers. Beside the
// processor time it prints how many descriptors the server had open at most, because each probe has a socket of its own.
// No other server is measured here: gdnsd has neither check, and HAProxy checks only over TCP.
func datagramCost(dir string) error {
	for _, protocol := range []string{"dns", "icmp"} {
		if err := printDatagrams(dir, workload{targets: *datagrams, protocol: protocol, interval: 10}); err != nil {
			return err
		}
	}
	return nil
}

// printDatagrams runs CoreDNS with a workload, and prints its figures.
func printDatagrams(dir string, w workload) error {
	backend, err := startBackend(w.protocol)
	if err != nil {
		return err
	}
	defer backend.shutdown()
	s, err := w.coredns(dir, backend.ports[0])
	if err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(30 * time.Second) // three intervals: see schedule
	var us []float64
	most := 0
	for range *windowCount {
		// Probes are counted by the server itself, because no backend sees an echo request.
		before, err := s.sum("coredns_multivalue_probes_total")
		if err != nil {
			return err
		}
		cpu, err := measure.CPU(s.process.Process.Pid)
		if err != nil {
			return err
		}
		for end := time.Now().Add(*window); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Process.Pid))
			if err != nil {
				return err
			}
			most = max(most, len(open))
		}
		later, err := measure.CPU(s.process.Process.Pid)
		if err != nil {
			return err
		}
		after, err := s.sum("coredns_multivalue_probes_total")
		if err != nil {
			return err
		}
		us = append(us, float64(later-cpu)/1e3/max(1, after-before))
	}
	fmt.Printf("%-6s %6d targets  every %2d s  %6.1f µs a probe  %4d descriptors at most\n", w.protocol, w.targets, w.interval, measure.Median(us), most)
	return nil
}
