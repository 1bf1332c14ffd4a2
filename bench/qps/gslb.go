package main

import (
	"fmt"
	"os"
	"strings"
)

// failover is the block of CoreDNS-GSLB. In the mode failover, an answer has all healthy backends of the lowest priority, which
// all have here: it is the same answer as that of multivalue, without a limit. The stagger is that of the first probes.
const failover = `gslb {
        zone example.org. RECORDS
        max_stagger_start 1s
        api_enable false
    }`

// writeRecords writes the backends of CoreDNS-GSLB, which does not take them from the zone: the addresses of the name that is
// queried, with a check of TCP at its default interval of 10 seconds.
func writeRecords(path string, z zone, port int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "records:\n  www.example.org.:\n    mode: failover\n    record_ttl: %d\n    backends:\n", z.ttl)
	for i := range z.addresses {
		fmt.Fprintf(&b, "    - address: 127.0.1.%d\n      healthchecks:\n      - type: tcp\n        params:\n          port: %d\n          timeout: 1s\n", i+1, port)
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}
