package ports

import (
	"net"
	"os"
	"testing"
)

// Need skips a test that cannot listen on one of these addresses, and says which. Not every machine has all of them: a
// container may have no IPv6, and macOS and the BSDs have no address of 127.0.0.0/8 but 127.0.0.1. If CI=true is set, the
// test fails, so that CI cannot lose it.
func Need(t testing.TB, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		if err := lacking(host); err != nil {
			orFail(t, t.Skipf)("this machine cannot listen on %s, which the test needs: %v", host, err)
		}
	}
}

// IPv6 is ::1, for a test that is run over IPv6 but is about something else. On a machine without IPv6 it is 127.0.0.1, and
// the test's output says so. If CI=true is set, the test fails there, as with Need.
func IPv6(t testing.TB) string {
	t.Helper()
	err := lacking("::1")
	if err == nil {
		return "::1"
	}
	orFail(t, t.Logf)("this machine has no IPv6, so the test uses 127.0.0.1 in its place: %v", err)
	return "127.0.0.1"
}

// lacking is why no test can listen on an address, or nil.
func lacking(host string) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return err
	}
	return l.Close()
}

// orFail is what to do where something is lacking: in CI, fail.
func orFail(t testing.TB, do func(string, ...any)) func(string, ...any) {
	if os.Getenv("CI") == "true" {
		return t.Fatalf
	}
	return do
}
