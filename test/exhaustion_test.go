package test

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
)

const watched = `
example.org:LISTEN {
    bind 127.0.0.1
    prometheus 127.0.0.1:SCRAPE
    timeouts {
        read 5m
        idle 5m
    }
    file DIR/example.org
    multivalue {
        QUICK
    }
}`

// A server without free file descriptors keeps answering over UDP. Its probes abstain, which is counted, and no
// address is removed because of that. When descriptors are free again, it detects a failure as before (B49).
func TestWithoutDescriptorsNothingIsTakenOut(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\nwww A 127.0.0.14")
	scrape := freePort(t)
	p := s.run(t, strings.Replace(watched, "SCRAPE", scrape, 1), 48)
	p.comesTo("www.example.org A", "11 12 13")
	page := s.keptPage("127.0.0.1:" + scrape)
	var abstained float64
	release := p.exhaust(100)
	s.eventually(func() bool {
		if got := members(p.ask("www.example.org A")); got != "11 12 13" {
			t.Fatalf("without descriptors, the answer has %q, want 11 12 13", got)
		}
		abstained = sample(page(), `result="abstained"`)
		return abstained >= 20
	}, func() string { return fmt.Sprintf("%v probes have abstained, want 20", abstained) })
	release()
	s.kill(12)
	p.comesTo("www.example.org A", "11 13")
	s.start(12)
	p.comesTo("www.example.org A", "11 12 13")
}

// exhaust opens idle DNS connections, more than the server can accept. Call the returned function to close them.
func (p *process) exhaust(n int) (release func()) {
	p.Helper()
	var all []net.Conn
	release = func() {
		for _, conn := range all {
			conn.Close()
		}
	}
	p.Cleanup(release)
	for range n {
		conn, err := net.Dial("tcp", p.tcp)
		if err != nil {
			p.Fatal(err)
		}
		all = append(all, conn)
	}
	return release
}

// keptPage fetches the metrics repeatedly over one connection, which it opens while that is still possible.
func (s *scene) keptPage(addr string) func() string {
	s.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	lines := bufio.NewReader(conn)
	fetch := func() string {
		fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n")
		return chunks(lines)
	}
	if fetch() == "" { // the response also shows that the server accepted the connection
		s.Fatal("no metrics")
	}
	return fetch
}

// chunks reads the lines of a response up to the empty chunk that ends it.
func chunks(lines *bufio.Reader) string {
	var page strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil || line == "0\r\n" {
			_, _ = lines.ReadString('\n')
			return page.String()
		}
		page.WriteString(line)
	}
}

// sample adds up the samples whose line has the text.
func sample(page, text string) (total float64) {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "coredns_multivalue") && strings.Contains(line, text) {
			value, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			total += value
		}
	}
	return total
}
