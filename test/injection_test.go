package test

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// hostile answers with text that would be log lines, colours or markup if it were not escaped.
func hostile(conn net.Conn) {
	if _, err := conn.Read(make([]byte, 4096)); err == nil {
		_, _ = conn.Write([]byte("SSH-2.0-\x1b[31m\r[INFO] all is well \u202e<script>\"} 1\n[INFO] plugin/multivalue: up\r\n\r\n"))
	}
}

// Names, bodies and options that look like lines of a log or a scrape, or that move a terminal's cursor, come out as
// text. Each log line is one of ours and has no control character, and a scrape can be parsed.
func TestHostileTextStaysText(t *testing.T) {
	s := newScene(t, 11)
	for _, n := range []string{"12", "13"} {
		s.listen("127.0.0."+n, hostile)
	}
	const evil = `x\010\091INFO\093\032plugin/multivalue:\032\027\0911m`
	s.zone("example.org", evil+" A 127.0.0.12\n"+evil+" A 127.0.0.13")
	mark := logs.Mark()
	v := s.serve(strings.NewReplacer("QUICK", `check http://:PORT/?a="b"}%0a`+" body \"a\\\"} 1\\n\xff\u202eb\"\n interval 24h 100ms\n timeout 1m\n within 127.0.0.0/8").Replace(classic))
	v.ask(evil + ".example.org A")
	v.down(2)
	const served = "2 of 2 addresses are down"
	s.eventually(func() bool {
		v.ask(evil + ".example.org A")
		return strings.Contains(logs.Since(mark), served)
	}, func() string { return logs.Since(mark) })
	said := strings.TrimSuffix(logs.Since(mark), "\n")
	line := regexp.MustCompile(`^[0-9/: ]+\[(INFO|WARNING)\] plugin/multivalue: (127\.0\.0\.1[23]:\d+ is down after 3 failures of |x\\010)`)
	for l := range strings.SplitSeq(said, "\n") {
		if !line.MatchString(l) || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e }) {
			t.Errorf("the log has the line %q", l)
		}
	}
	if !strings.Contains(said, `malformed response "SSH-2.0-\x1b[31m`) {
		t.Errorf("the log does not quote the peer:\n%s", said)
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&page, f); err != nil {
			t.Fatal(err)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(page.String())); err != nil {
		t.Errorf("the scrape cannot be read: %v", err)
	}
}
