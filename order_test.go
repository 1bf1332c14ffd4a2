package multivalue

import (
	"bytes"
	"context"
	stdlog "log"
	"testing"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/pooltest"
	"github.com/coredns-multivalue/multivalue/plugin/answer"
	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/coredns/coredns/plugin/test"

	"github.com/miekg/dns"
)

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

// When the log says that an address is down, queries see it.
func TestLogFollowsTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		s := testStanza("tcp://:80", n, pooltest.Pace)
		begin(p, s)
		pass(time.Minute, s, pooltest.Addr(1))
		seen := verdict.Unchecked
		before := stdlog.Writer()
		defer stdlog.SetOutput(before)
		stdlog.SetOutput(writeFunc(func(b []byte) (int, error) {
			if bytes.Contains(b, []byte("is down")) {
				seen = stateOf(s, pooltest.Addr(1))
			}
			return len(b), nil
		}))
		n.Kill(pooltest.Addr(1))
		pass(time.Minute, s, pooltest.Addr(1))
		if seen != verdict.Down {
			t.Errorf("when the log said down, a query saw %s", seen)
		}
	})
}

type sentWriter struct {
	test.ResponseWriter
	sent func()
}

func (w *sentWriter) WriteMsg(*dns.Msg) error { w.sent(); return nil }

// When a client has its answer, the outcome is there for metadata.
func TestRecordedBeforeTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, p *process, n *pooltest.FakeNetwork) {
		h := serving(p, zoneOf(www...), forZone(testStanza("tcp://:80", n, pooltest.Pace), "example.org."))
		r := &report{block: h.block}
		got := answer.None
		ctx := context.WithValue(context.Background(), reportKey{}, r)
		h.ServeDNS(ctx, &sentWriter{sent: func() { got = r.Outcome }}, query(owner, dns.TypeA))
		if got == answer.None {
			t.Error("the answer went out before its outcome was recorded")
		}
	})
}
