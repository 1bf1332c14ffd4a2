package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const reporting = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org {
        reload 0
    }
    multivalue {
        QUICK
        check agent://:AGENT
        status 127.0.0.1:STATUS
    }
}`

// lines are what the agents of a test say, by the last number of their address.
type lines struct {
	sync.Mutex
	of map[int]string
}

func (l *lines) say(line string, octets ...int) {
	l.Lock()
	defer l.Unlock()
	for _, n := range octets {
		l.of[n] = line
	}
}

func (l *lines) get(octet int) string {
	l.Lock()
	defer l.Unlock()
	return l.of[octet]
}

// agents starts agents at 127.0.0.N that share a port. They say up at first.
func (s *scene) agents(octets ...int) (*scene, *lines) {
	s.Helper()
	a, l := newScene(s.TB), &lines{of: make(map[int]string)}
	for _, n := range octets {
		l.say("up ready 100%", n)
		a.backends[n] = a.listen(fmt.Sprintf("127.0.0.%d", n), func(conn net.Conn) {
			_, _ = fmt.Fprintf(conn, "%s\n", l.get(n))
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = conn.Read(make([]byte, 1)) // until the end of the probe
		})
	}
	return a, l
}

// reported is a target with what its backend says.
type reported struct {
	Address, Check, State, Reason, Said string
	Weight                              *int
	Drained                             bool
}

// reported is the target of an agent at 127.0.0.N, as JSON has it.
func (s *scene) reported(base string, octet int) (r reported) {
	s.Helper()
	var page struct{ Targets []reported }
	s.json(base+"/v1/targets?check=agent", &page)
	for _, t := range page.Targets {
		if strings.HasPrefix(t.Address, fmt.Sprintf("127.0.0.%d:", octet)) {
			return t
		}
	}
	return r
}

// awaitReport waits until JSON shows a target so: a snapshot may be half a second old.
func (s *scene) awaitReport(base string, octet int, is func(reported) bool) {
	s.Helper()
	s.eventually(func() bool { return is(s.reported(base, octet)) }, func() string { return fmt.Sprintf("%+v", s.reported(base, octet)) })
}

// Backends say by their agents that they want no clients, or are taken out, and come back (B100). It shows on the page, in JSON,
// in explanations and in metrics, and is kept over a reload.
func TestAgents(t *testing.T) {
	s := newScene(t, 11, 12, 13)
	a, l := s.agents(11, 12, 13)
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13")
	corefile := strings.ReplaceAll(reporting, "AGENT", a.port)
	v, base := s.shown(corefile)
	v.comesTo("www.example.org A", "11 12 13")
	v.settled(6, 0)

	l.say("0%", 12)
	v.comesTo("www.example.org A", "11 13")
	s.awaitReport(base, 12, func(r reported) bool {
		return r.State == "up" && r.Drained && r.Weight != nil && *r.Weight == 0 && r.Said == "backend says 0%"
	})
	l.say("maint #deploying 1.2", 13)
	v.comesTo("www.example.org A", "11")
	s.awaitReport(base, 13, func(r reported) bool {
		return r.State == "down" && !r.Drained && r.Reason == `backend says maint: "deploying 1.2"`
	})
	if page := s.page(base + "/"); !strings.Contains(page, "backend says maint: &#34;deploying 1.2&#34;") || !strings.Contains(page, ">drained</span>") || !strings.Contains(page, "weight 0%") {
		t.Errorf("the page does not say it: %s", page)
	}
	e := s.explain(base, "www.example.org A")
	if got, want := e.brief(), `NOERROR thin, +11 up, -12 drained, not needed: backend says 0%, -13 backend says maint: "deploying 1.2"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l.say("up", 13) // which does not end maint
	l.say("", 12)
	corefile = strings.Replace(corefile, "QUICK", "QUICK\n limit 7", 1)
	port := base[strings.LastIndexByte(base, ':')+1:]
	v.mustReload(strings.ReplaceAll(corefile, "STATUS", port))
	v.addr = v.instance.Servers()[0].LocalAddr().String()
	if got := members(v.ask("www.example.org A")); got != "11" {
		t.Errorf("after a reload the first answer has %q", got)
	}
	l.say("drain", 11)
	v.comesTo("www.example.org A", "11 12") // the last resort before what is down
	l.say("ready", 13)
	v.comesTo("www.example.org A", "13")
	l.say("ready", 11)
	l.say("1%", 12)
	v.comesTo("www.example.org A", "11 12 13")

	l.say("1%", 11)
	s.eventually(func() bool { return metric("coredns_multivalue_reported_weight", "aggregate=sum") == 102 },
		func() string {
			return fmt.Sprintf("the sum of the weights is %v", metric("coredns_multivalue_reported_weight", "aggregate=sum"))
		})
	if least := metric("coredns_multivalue_reported_weight", "aggregate=least"); least != 1 {
		t.Errorf("the least weight is %v", least)
	}
	first := 0
	for range 60 {
		if addr, _ := addressOf(v.ask("www.example.org A").Answer[0]); addr.As4()[3] == 13 {
			first++
		}
	}
	if first < 45 { // 98 of 100, by chance
		t.Errorf("the address with all of its weight comes first in %d of 60 answers", first)
	}

	abstained := metric("coredns_multivalue_probes_total", "result=abstained")
	a.kill(12)
	s.eventually(func() bool { return metric("coredns_multivalue_probes_total", "result=abstained") >= abstained+3 },
		func() string { return "the agent that is gone is not asked" })
	if got := members(v.ask("www.example.org A")); got != "11 12 13" {
		t.Errorf("an agent that is gone proves nothing, and the answer has %q", got)
	}
	s.kill(12)
	v.comesTo("www.example.org A", "11 13")
}

// page is the text of a page.
func (s *scene) page(url string) string {
	s.Helper()
	reply, err := http.Get(url)
	if err != nil {
		s.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

const lonely = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        check agent://:PORT
        interval 600ms 100ms
        timeout 600ms
        within 127.0.0.0/8
    }
}`

// Where an agent is the only check, a connection that fails is a failure, and what it said counts again when it is back (B100).
func TestAgentAlone(t *testing.T) {
	s := newScene(t)
	a, l := s.agents(11, 12)
	s.port = a.port
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v := s.serve(lonely)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	l.say("drain", 12)
	v.comesTo("www.example.org A", "11")
	a.kill(11)
	v.comesTo("www.example.org A", "12")
	v.settled(1, 1)
}

const weighing = `
example.org:0 {
    bind 127.0.0.1
    file DIR/example.org
    multivalue {
        check http://:PORT/ weight_header X-Weight
        interval 600ms 100ms
        timeout 600ms
        within 127.0.0.0/8
        force DIR/forced
        status 127.0.0.1:STATUS
    }
}`

// A header says how much of its weight a backend wants: it leaves the answers at 0, comes back with some, and a forced state
// comes before it (B101).
func TestWeightHeaders(t *testing.T) {
	s := newScene(t)
	l := &lines{of: make(map[int]string)}
	for _, n := range []int{11, 12} {
		l.say("X-Weight: 100", n)
		s.backends[n] = s.listen(fmt.Sprintf("127.0.0.%d", n), func(conn net.Conn) {
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%s\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", l.get(n))
			}
		})
	}
	s.zone("example.org", "www A 127.0.0.11\nwww A 127.0.0.12")
	v, base := s.shown(weighing)
	v.comesTo("www.example.org A", "11 12")
	v.settled(2, 0)
	l.say("X-Weight: 0", 12)
	v.comesTo("www.example.org A", "11")
	mark := logs.Mark()
	l.say("X-Weight: lots", 12) // changes nothing
	s.eventually(func() bool {
		return strings.Contains(logs.Since(mark), `has an invalid weight "lots", which changes nothing`)
	},
		func() string { return "the log does not say that the weight is invalid" })
	if got := members(v.ask("www.example.org A")); got != "11" {
		t.Errorf("an invalid weight changed the answer to %q", got)
	}
	s.file("forced", "up 127.0.0.12")
	v.comesTo("www.example.org A", "11 12")
	s.file("forced", "# none")
	v.comesTo("www.example.org A", "11")
	l.say("X-Weight: 50%", 12)
	v.comesTo("www.example.org A", "11 12")
	if got, want := s.explain(base, "www.example.org A").Explanations[0].Sets[0].Why, "their order is drawn by reported weights"; !strings.Contains(got, want) {
		t.Errorf("%q lacks %q", got, want)
	}
	why := s.explain(base, "www.example.org A").brief()
	if !strings.Contains(why, "+12 up; weight 1, of which its backend wants 50%, first in 33.3% of answers") {
		t.Error(why)
	}
	l.say("X-Else: 1", 12) // without the header it wants all of it
	s.eventually(func() bool { return metric("coredns_multivalue_reported_weight", "aggregate=sum") == 200 },
		func() string { return "without the header the weight is not 100" })
}
