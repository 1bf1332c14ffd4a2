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

// answerTimeout is how long to wait for an expected answer before the demo fails. It is many times the bound of the pace,
// so that a busy machine does not fail it.
const answerTimeout = 30 * time.Second

// pace is faster than the default, so that the demo takes seconds: its bound is 2.5 s instead of 16 s. Rise and Fall are
// the defaults, and must stay so, because the Corefile does not set them.
var pace = verdict.Pace{Interval: time.Second, Fast: 200 * time.Millisecond, Timeout: 500 * time.Millisecond, Rise: 2, Fall: 3}

// options are the options of the demo.
type options struct {
	hosts []string // addresses of the web servers; if this machine lacks one, both use 127.0.0.1
	port  int      // of the DNS server; 0 for a free one
	keep  bool     // leave everything running at the end
	fleet bool     // show a fleet
}

// run runs the demo, and writes what happens to out. It returns an error if an answer does not become what it should. If
// the context is canceled, it returns early. All servers have stopped when it returns.
func run(ctx context.Context, out io.Writer, opts options) error {
	env, err := build(opts)
	if err != nil {
		return err
	}
	defer env.close()
	printLine := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	if env.remark != "" {
		printLine("%s", env.remark)
	}
	printLine("Two web servers: http://%s/ and http://%s/", env.webs[0].addr(), env.webs[1].addr())
	printLine("CoreDNS with multivalue on %s, with this Corefile:\n\n%s", env.dns, indent(env.corefile))
	printLine("$ %s", env.dig(env.dns))
	if _, err := env.waitFor(ctx, printLine, env.data...); err != nil {
		return err
	}
	printLine("\nStopping the web server on %s ...", env.webs[1].addr())
	env.webs[1].kill()
	took, err := env.waitFor(ctx, printLine, env.data[0])
	if err != nil {
		return err
	}
	printLine("gone after %.1f s (promised: within %.1f s)", took.Seconds(), pace.Bound().Seconds())
	printLine("\nStarting it again ...")
	if err := env.webs[1].start(); err != nil {
		return err
	}
	if took, err = env.waitFor(ctx, printLine, env.data...); err != nil {
		return err
	}
	printLine("back after %.1f s", took.Seconds())
	if opts.keep {
		printLine("\nLeft running; end it with Ctrl-C. Try\n\n    %s", env.dig(env.dns))
		<-ctx.Done()
	}
	return nil
}

// waitFor sends queries until the answer has exactly these records, and returns how long that took. It prints each answer
// that differs from the previous one, so a wrong answer in between would be seen.
func (e *environment) waitFor(ctx context.Context, printLine func(string, ...any), want ...string) (time.Duration, error) {
	want = slices.Sorted(slices.Values(want))
	began := time.Now()
	var last []string
	for {
		got, err := e.ask(ctx, e.dns)
		if err != nil {
			return 0, err
		}
		if !slices.Equal(got, last) {
			printLine("  %5.1f s   %s", time.Since(began).Seconds(), join(got))
			last = got
		}
		if slices.Equal(got, want) {
			return time.Since(began), nil
		}
		if time.Since(began) > answerTimeout {
			return 0, fmt.Errorf("after %s the answer is still %s, want %s", answerTimeout, join(got), join(want))
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(50 * time.Millisecond): // short against a pace of 200 ms, so the printed time is close
		}
	}
}

// ask sends one query over UDP, and returns the data of the records in the answer. They are sorted, because only which
// records there are matters, and not their order.
func (s *setting) ask(ctx context.Context, server string) (data []string, err error) {
	question := new(dns.Msg).SetQuestion(s.name, dns.StringToType[s.qtype])
	reply, _, err := new(dns.Client).ExchangeContext(ctx, question, server)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no answer from %s: %w", server, err)
	}
	for _, rr := range reply.Answer {
		data = append(data, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(data)
	return data, nil
}

// dig returns the command that sends the same query, for readers who want to try it.
func (s *setting) dig(server string) string {
	host, port, _ := net.SplitHostPort(server)
	return fmt.Sprintf("dig +short @%s -p %s %s %s", host, port, strings.TrimSuffix(s.name, "."), s.qtype)
}

// join returns the records of an answer on one line.
func join(data []string) string {
	if len(data) == 0 {
		return "no record"
	}
	return strings.Join(data, "  ")
}

// indent returns a text of several lines as a block.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ") + "\n"
}
