package ports

import (
	"net"
	"os"
	"testing"
)

// Has reports whether a test can listen on an address. Not every machine has all addresses that tests use: a container may
// have no IPv6, and macOS and the BSDs have only 127.0.0.1 of 127.0.0.0/8. If the address is missing, Has logs that. If
// CI=true is set, the test fails instead, so that CI cannot lose a test without notice.
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

// Need skips the test if it cannot listen on one of these addresses. As with Has, the reason is logged, and CI fails.
func Need(t testing.TB, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		if !Has(t, host) {
			t.SkipNow()
		}
	}
}

// IPv6 returns ::1, or 127.0.0.1 on a machine without IPv6. It is for a test that also runs over IPv6 but is not about it.
// As with Has, a missing ::1 is logged, and CI fails.
func IPv6(t testing.TB) string {
	t.Helper()
	if Has(t, "::1") {
		return "::1"
	}
	return "127.0.0.1"
}
