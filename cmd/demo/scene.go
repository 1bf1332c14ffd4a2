package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/plugin/verdict"

	"github.com/miekg/dns"
)

// patience is how long the scene waits for an answer that has to come about. It is many times the bound.
const patience = 30 * time.Second

// pace is quicker than the default, so that the scene is short.
var pace = verdict.Pace{Interval: time.Second, Fast: 200 * time.Millisecond, Timeout: 500 * time.Millisecond, Rise: 2, Fall: 3}

// wishes are what can be chosen of a scene.
type wishes struct {
	hosts []string // of the web servers, if they are this machine's
	port  int      // of the DNS server; a free one if 0
	keep  bool     // everything running at the end
}

// play plays the scene, and tells it on out.
func play(ctx context.Context, out io.Writer, wish wishes) error {
	stage, err := build(wish)
	if err != nil {
		return err
	}
	defer stage.close()
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if stage.remark != "" {
		say("%s", stage.remark)
	}
	say("Two web servers: http://%s/ and http://%s/", stage.webs[0].addr(), stage.webs[1].addr())
	say("CoreDNS with multivalue on %s, with this Corefile:\n\n%s", stage.dns, indent(stage.corefile))
	say("$ %s", stage.dig())
	if _, err := stage.await(ctx, say, stage.data...); err != nil {
		return err
	}
	say("\nStopping the web server on %s ...", stage.webs[1].addr())
	stage.webs[1].stop()
	took, err := stage.await(ctx, say, stage.data[0])
	if err != nil {
		return err
	}
	say("gone after %.1f s (promised: within %.1f s)", took.Seconds(), pace.Bound().Seconds())
	say("\nStarting it again ...")
	if err := stage.webs[1].start(); err != nil {
		return err
	}
	if took, err = stage.await(ctx, say, stage.data...); err != nil {
		return err
	}
	say("back after %.1f s", took.Seconds())
	if wish.keep {
		say("\nLeft running; end it with Ctrl-C. Try\n\n    %s", stage.dig())
		<-ctx.Done()
	}
	return nil
}

// await asks until the answer has just these records. It prints each answer that differs from the one before, and
// returns how long it took.
func (s *stage) await(ctx context.Context, say func(string, ...any), want ...string) (time.Duration, error) {
	want = slices.Sorted(slices.Values(want))
	began := time.Now()
	var last []string
	for {
		got, err := s.ask(ctx)
		if err != nil {
			return 0, err
		}
		if !slices.Equal(got, last) {
			say("  %5.1f s   %s", time.Since(began).Seconds(), join(got))
			last = got
		}
		if slices.Equal(got, want) {
			return time.Since(began), nil
		}
		if time.Since(began) > patience {
			return 0, fmt.Errorf("after %s the answer is %s, and not %s", patience, join(got), join(want))
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ask sends one query over UDP, and returns the data of the records in the answer, sorted.
func (s *stage) ask(ctx context.Context) (data []string, err error) {
	question := new(dns.Msg).SetQuestion(s.name, dns.StringToType[s.qtype])
	reply, _, err := new(dns.Client).ExchangeContext(ctx, question, s.dns)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no answer from %s: %w", s.dns, err)
	}
	for _, rr := range reply.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return data, nil
}

// dig is the command that asks the same.
func (s *stage) dig() string {
	host, port, _ := net.SplitHostPort(s.dns)
	return fmt.Sprintf("dig +short @%s -p %s %s %s", host, port, strings.TrimSuffix(s.name, "."), s.qtype)
}

func join(data []string) string {
	if len(data) == 0 {
		return "no record"
	}
	return strings.Join(data, "  ")
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}
