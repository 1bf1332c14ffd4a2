package main

import (
	"fmt"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// memory prints how many bytes of memory a target takes in each server, with a check of TCP.
//
// gdnsd and HAProxy have their targets in their configuration, so what they keep of that counts. A server of HAProxy is there
// to be used, so it has more than a health check needs.
func memory(dir string) error {
	rows, err := installed([]row{{multivalue, "tcp", ""}, {gdnsd, "tcp", ""}, {haproxy, "tcp", ""}})
	if err != nil {
		return err
	}
	// A long interval leaves few connections open at the moment of the sample. Their buffers belong to the probes of that
	// moment, and not to the targets.
	return printMemory(dir, "memory", rows, *many, 20, 45*time.Second)
}

// keptMemory prints the same for targets whose connections are kept. What the kernel keeps for a connection is not in it. All
// connections are opened at the start, and what their handshakes have left goes back to the system within minutes.
func keptMemory(dir string) error {
	for _, r := range []row{{multivalue, "http", "reuse"}, {multivalue, "https", "insecure reuse"}} {
		if err := printMemory(dir, "kept", []row{r}, *kept, 10, 150*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// printMemory measures every row twice, with 8 targets and with many, when every target has a state and buffers have their
// size, which settling should be enough for. It divides the difference by the difference in
// targets. The zone files are equal in both runs, so neither the program nor the zone counts.
//
// This is one sample, without an average: many targets take far more than what the heap varies by.
func printMemory(dir, section string, rows []row, targets, interval int, settling time.Duration) error {
	var protocols []string
	for _, r := range rows {
		protocols = append(protocols, r.check)
	}
	backend, err := startBackend(protocols...)
	if err != nil {
		return err
	}
	defer backend.shutdown()
	var bytes [2][]int64 // of each row, with few targets and with many
	for i, n := range []int{perName, targets} {
		var servers []*server
		for j, r := range rows {
			w := workload{targets: n, hosts: targets, protocol: r.check, options: r.options, interval: interval}
			var s *server
			if s, err = w.start(r.server, dir, backend.ports[j]); err != nil {
				break
			}
			servers = append(servers, s)
		}
		if err == nil {
			time.Sleep(settling)
			bytes[i], err = sizes(servers)
		}
		stopAll(servers)
		if err != nil {
			return err
		}
	}
	for i, r := range rows {
		fmt.Printf("%-6s %6d targets  %-33s %6.0f bytes a target\n", section, targets, r, float64(bytes[1][i]-bytes[0][i])/float64(targets-perName))
	}
	return nil
}

// sizes returns the memory of each server.
func sizes(servers []*server) (bytes []int64, err error) {
	for _, s := range servers {
		n, err := measure.Memory(s.process.Process.Pid)
		if err != nil {
			return nil, err
		}
		bytes = append(bytes, n)
	}
	return bytes, nil
}
