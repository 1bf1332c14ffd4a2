package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/internal/freeport"
)

const (
	// members and vantage are how many CoreDNS there are, and how many of them probe a web server for all. With the default of 3
	// vantage points, 3 members would save no probe.
	members, vantage = 3, 2
	// countFor is how long probes are counted, and looks how often the demo looks in that time. It is several intervals, so that a
	// late probe does not look like a lost one.
	countFor = 4 * time.Second
	looks    = 16
	// fleetTimeout is how long to wait for what has to happen. It is many times what is promised, as answerTimeout is.
	fleetTimeout = time.Minute
)

// The scene with a fleet has three acts: who probes whom, then a CoreDNS that dies, then a web server that dies and returns. Each act
// waits for what has to happen, shows it, and returns an error if it does not come.

// fleet is a scene: two web servers, and CoreDNS that share the probes of them.
type fleet struct {
	*environment
	members   []*member
	printLine func(string, ...any)
}

// runFleet runs the scene with a fleet, and writes what happens to out. Like run, it returns an error if something does not
// happen, returns early if the context is canceled, and has stopped everything when it returns.
func runFleet(ctx context.Context, out io.Writer, opts options) error {
	f := &fleet{environment: new(environment), printLine: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }}
	defer f.stop()
	if err := f.launch(opts); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{f.showSharing, f.loseMember, f.loseWeb} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	if opts.keep {
		f.printLine("\nLeft running; end it with Ctrl-C. Try\n")
		for _, m := range f.members {
			f.printLine("    %s", f.dig(m.dns))
		}
		<-ctx.Done()
	}
	return nil
}

// launch starts the web servers and the members.
func (f *fleet) launch(opts options) error {
	if err := f.prepare(opts.hosts); err != nil {
		return err
	}
	if f.remark != "" {
		f.printLine("%s", f.remark)
	}
	f.printLine("Two web servers: http://%s/ and http://%s/", f.webs[0].addr(), f.webs[1].addr())
	// All that a fleet needs is a key and the address of one member.
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	if err := os.WriteFile(filepath.Join(f.dir, "fleet.key"), []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		return err
	}
	ports, err := freeport.Find(members)
	if err != nil {
		return err
	}
	for i := range members {
		// With -port, the ports of the DNS servers follow one another.
		dns := 0
		if opts.port != 0 {
			dns = opts.port + i
		}
		if err := f.addMember(fmt.Sprintf("dns%d", i+1), dns, ports[i], ports); err != nil {
			return err
		}
	}
	f.printLine("%d CoreDNS with multivalue, each in a process of its own. %s has this Corefile:\n\n%s", members, f.members[0].name, indent(f.corefile))
	f.printLine("The others have a name and a port to listen on of their own. The web servers count by X-Member who probes.")
	return nil
}

// addMember writes the Corefile of a member, and starts it. The value of the header may differ from member to
// member: it does not decide what they share.
func (f *fleet) addMember(name string, dns, own int, all []int) error {
	var peers strings.Builder
	for _, port := range all {
		fmt.Fprintf(&peers, " 127.0.0.1:%d", port)
	}
	text := f.stanza(dns, fmt.Sprintf(`fleet%s {
            key %s
            listen 127.0.0.1:%d
            vantage %d
        }`, peers.String(), filepath.Join(f.dir, "fleet.key"), own, vantage), "header X-Member "+name)
	path := filepath.Join(f.dir, "Corefile."+name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	m, err := startMember(name, path)
	if err != nil {
		return err
	}
	f.members = append(f.members, m)
	if f.corefile == "" {
		f.corefile = withPort(text, m.dns)
	}
	return nil
}

// showSharing shows that all members give both addresses, and that few of them probe.
func (f *fleet) showSharing(ctx context.Context) error {
	f.printLine("\n$ %s, and the same with the ports of the others", f.dig(f.members[0].dns))
	if _, err := f.waitForAll(ctx, f.data...); err != nil {
		return err
	}
	f.printLine("\nCounting probes until the members have found each other ...")
	if _, err := f.waitForProbes(ctx); err != nil {
		return err
	}
	f.printLine("\nEach web server is probed by %d of the %d: each for itself, it would be %d an interval.", vantage, members, members)
	return nil
}

// loseMember kills the member that probes the most, and shows that the others answer as before, and that one of them takes over.
func (f *fleet) loseMember(ctx context.Context) error {
	// One that probes nothing would be no loss: most to see is at the one with the most probes.
	busiest := slices.MaxFunc(f.members, func(a, b *member) int { return f.probesBy(a.name) - f.probesBy(b.name) })
	f.printLine("\nKilling %s (%s) ...", busiest.name, f.dig(busiest.dns))
	busiest.kill()
	// It is asked no more: the clients of a dead DNS server ask another one.
	f.members = slices.DeleteFunc(slices.Clone(f.members), func(m *member) bool { return m == busiest })
	both, err := f.waitForProbes(ctx)
	if err != nil {
		return err
	}
	f.printLine("\nThe others have taken over. Of their answers, %.0f %% had both addresses.", 100*both)
	if both < 0.9 { // a machine that stands still for seconds may take a web server down for a moment
		return fmt.Errorf("only %.0f %% of the answers had both addresses, and both web servers run", 100*both)
	}
	return nil
}

// loseWeb kills a web server, and starts it again.
func (f *fleet) loseWeb(ctx context.Context) error {
	w := f.webs[1]
	f.printLine("\nStopping the web server on %s ...", w.addr())
	w.kill()
	took, err := f.waitForAll(ctx, f.data[0])
	if err != nil {
		return err
	}
	f.printLine("gone from the answers of all after %.1f s (promised: within %.1f s while no member dies)", took.Seconds(), pace.Bound().Seconds()+0.1)
	// The line says how many vantage points find it down, and why.
	if err := f.waitForLine(ctx, w.addr(), " is down: "); err != nil {
		return err
	}
	f.printLine("\nStarting it again ...")
	if err := w.start(); err != nil {
		return err
	}
	if took, err = f.waitForAll(ctx, f.data...); err != nil {
		return err
	}
	f.printLine("back in the answers of all after %.1f s", took.Seconds())
	return f.waitForLine(ctx, w.addr(), " is up: ")
}

// waitForAll sends queries to all members until all answers have exactly these records, and returns how long that took. It prints
// the answers each time that one differs.
func (f *fleet) waitForAll(ctx context.Context, want ...string) (time.Duration, error) {
	want = slices.Sorted(slices.Values(want))
	// The answers of all are one text, which is printed if it is not the one before.
	last := ""
	return f.wait(ctx, fmt.Sprintf("all members answer with %s", join(want)), 50*time.Millisecond, func(since time.Duration) (bool, error) {
		now, all := "", true
		for _, m := range f.members {
			got, err := f.ask(ctx, m.dns)
			if err != nil {
				return false, err
			}
			now += fmt.Sprintf("   %s: %s", m.name, join(got))
			all = all && slices.Equal(got, want)
		}
		if now != last {
			f.printLine("  %5.1f s%s", since.Seconds(), now)
			last = now
		}
		return all, nil
	})
}

// waitForProbes waits until as many members probe each web server as there are vantage points, and no others. It prints who has
// probed how often lately. It returns the share of answers with both addresses meanwhile, of all members.
func (f *fleet) waitForProbes(ctx context.Context) (both float64, err error) {
	var seen []counts  // one a look, the latest last
	all, whole := 0, 0 // answers
	latest := func() window { return seen[len(seen)-1].minus(seen[len(seen)-1-looks]) }
	_, err = f.wait(ctx, fmt.Sprintf("%d members probe each web server", vantage), countFor/looks, func(time.Duration) (bool, error) {
		for _, m := range f.members {
			got, err := f.ask(ctx, m.dns)
			if err != nil {
				return false, err
			}
			if all++; len(got) == len(f.data) {
				whole++
			}
		}
		seen = append(seen, f.probesSoFar())
		return len(seen) > looks && f.isShared(latest()), nil
	})
	if err != nil {
		return 0, err
	}
	f.printProbes(latest())
	return float64(whole) / float64(all), nil
}

// waitForLine waits for a line in the log of a member that has all of these words, and prints it.
func (f *fleet) waitForLine(ctx context.Context, words ...string) error {
	_, err := f.wait(ctx, fmt.Sprintf("a line in a log with %q", words), 50*time.Millisecond, func(time.Duration) (bool, error) {
		for _, m := range f.members {
			for _, line := range m.log() {
				if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
					f.printLine("%s logs: %s", m.name, line)
					return true, nil
				}
			}
		}
		return false, nil
	})
	return err
}

// wait calls a function again and again until it is done, and returns how long that took.
func (f *fleet) wait(ctx context.Context, what string, every time.Duration, done func(time.Duration) (bool, error)) (time.Duration, error) {
	began := time.Now()
	for {
		if ok, err := done(time.Since(began)); ok || err != nil {
			return time.Since(began), err
		}
		if time.Since(began) > fleetTimeout {
			return 0, fmt.Errorf("waited %s in vain: %s", fleetTimeout, what)
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(every):
		}
	}
}

// stop ends everything, and waits until it has ended.
func (f *fleet) stop() {
	for _, m := range f.members {
		m.kill()
	}
	f.close()
}
