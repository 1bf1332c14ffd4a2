package ports

import (
	"net"
	"os"
	"testing"
)

// Has reports whether a test can listen on an address. Not every machine has all that tests use: a container may have no
// IPv6, and macOS and the BSDs have no address of 127.0.0.0/8 but 127.0.0.1. Where one is lacking, the test's output says
// so. If CI=true is set, the test fails there, so that CI cannot lose it.
func Has(t testing.TB, host string) bool {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err == nil {
		l.Close()
		return true
	}
	tell := t.Logf
	if os.Getenv("CI") == "true" {
		tell = t.Fatalf
	}
	tell("this machine cannot listen on %s, which the test needs: %v", host, err)
	return false
}

// Need skips a test that cannot listen on one of these addresses. As with Has, the reason is told, and CI fails.
func Need(t testing.TB, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		if !Has(t, host) {
			t.SkipNow()
		}
	}
}

// IPv6 is ::1, for a test that is run over IPv6 but is about something else, or 127.0.0.1 on a machine without IPv6. As with
// Has, that is told, and CI fails.
func IPv6(t testing.TB) string {
	t.Helper()
	if Has(t, "::1") {
		return "::1"
	}
	return "127.0.0.1"
}
