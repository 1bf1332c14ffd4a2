//go:build linux

package kube

import "testing"

// upstream is the Corefile of a second DNS server, for names outside the cluster, and its zone.
const (
	upstream = `
example.org {
    bind 192.0.2.53
    file DIR/zone {
        reload 0
    }
}
`
	upstreamZone = `$ORIGIN example.org.
$TTL 300
@ SOA ns hostmaster 1 7200 900 1209600 3600
@ NS ns
ns A 192.0.2.53
www A 192.0.2.21
www A 192.0.2.22
www A 192.0.2.23
www A 198.18.0.9
`
)

// upstream starts the second DNS server.
func (s *scene) upstream() {
	s.Helper()
	s.file("zone", upstreamZone)
	s.program(s.configure(upstream, ""))
}

// external is a Service that is an alias of a name outside the cluster.
const external = `apiVersion: v1
kind: Service
metadata:
  name: db
spec: {type: ExternalName, externalName: www.example.org}`

// A Service that is an alias of an external name has the addresses of that name, without the dead ones. The stanza
// for that name judges them. An address that is not within our networks is served and not probed (B79, B60).
func TestExternalName(t *testing.T) {
	s := newScene(t)
	s.serve("192.0.2.21:9090", "192.0.2.22:9090", "192.0.2.23:9090", "198.18.0.9:9090")
	s.upstream()
	s.apply(external)
	s.run(s.configure(`
. {
    bind 127.0.0.1
    prometheus 127.0.0.1:9153
    multivalue example.org {
        check http://:9090/healthz
        PACE
        within 192.0.2.0/24
    }
    multivalue cluster.local {
        check http://:8080/healthz
        PACE
        within 192.0.2.0/24
    }
    kubernetes cluster.local {
        kubeconfig CONFIG
    }
    forward . 192.0.2.53
}`, ""))
	s.comesTo("db", "A", "192.0.2.21", "192.0.2.22", "192.0.2.23", "198.18.0.9", "www.example.org.")
	s.settled("db", 3, 0)
	s.stop("192.0.2.22:9090")
	s.leavesTo("db", "A", "192.0.2.21", "192.0.2.23", "198.18.0.9", "www.example.org.")
	s.comesTo("www.example.org.", "A", "192.0.2.21", "192.0.2.23", "198.18.0.9")
	s.serve("192.0.2.22:9090")
	s.leavesTo("db", "A", "192.0.2.21", "192.0.2.22", "192.0.2.23", "198.18.0.9", "www.example.org.")
	if without, within := s.asked("198.18.0.9:9090"), s.asked("192.0.2.21:9090"); without > 0 || within == 0 {
		t.Errorf("an address outside within was probed %d times, and one inside %d times", without, within)
	}
}
