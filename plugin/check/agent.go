package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns-multivalue/multivalue/plugin/report"
)

// agentLimit is the longest line of an agent, in bytes, with its end.
const agentLimit = 4096

// agentOptions are the options of agent.
var agentOptions = slices.Concat([]string{"send"}, answerOptions, proxyOptions, socketOptions)

// ErrSilent means that an agent has not said how its backend is. Beside other checks that proves nothing, so errors that wrap
// it wrap [ErrAbstain], too; but nothing is wrong with this host, and there is no reason to ask again soon.
var ErrSilent = errors.New("no word from the agent")

// An agentCheck asks the agent of a backend how the backend is, by the protocol of HAProxy's agent-check (its manual, 5.2): it
// connects, may send a text, and reads one line.
type agentCheck struct {
	spec  *spec
	alone bool // no other check says whether the backend is up, so silence is a failure
}

// newAgent builds the check. Its port is not that of the service, so no record can name it.
func newAgent(s *spec) (prober, error) {
	switch {
	case s.path != "" || s.query != "":
		return nil, errors.New("agent takes no path and no query: write " + s.scheme.example)
	case s.host != "":
		return nil, errors.New("agent does not use a host: write " + s.scheme.example)
	case s.port == 0:
		return nil, errors.New("agent needs a port, that of the agent and not of the service: write it as in " + s.scheme.example)
	case len(s.steps) > 1:
		return nil, s.optionError("send", errors.New("an agent reads one text: keep one"))
	}
	s.reports = true
	return &agentCheck{spec: s}, nil
}

// Alone is the check as it counts if no check of another kind is beside it. For an agent that is another check, with another
// text: a connection that fails is a failure, because nothing else would notice that the backend is gone.
func (c *Check) Alone() *Check {
	agent, ok := c.prober.(*agentCheck)
	if !ok || agent.alone {
		return c
	}
	alone := *c
	alone.prober = &agentCheck{agent.spec, true}
	alone.text += " alone"
	return &alone
}

// IsAgent reports whether the check asks an agent, which may say at any time that its backend is down.
func (c *Check) IsAgent() bool {
	_, ok := c.prober.(*agentCheck)
	return ok
}

// probe asks for a line and reports what it says.
func (a *agentCheck) probe(ctx context.Context, addr netip.AddrPort) error {
	line, err := a.ask(ctx, addr)
	switch {
	case errors.Is(err, ErrAbstain):
		return err
	case err != nil && a.alone:
		return err
	case err != nil:
		return fmt.Errorf("%w: %w: %w", ErrAbstain, ErrSilent, err)
	}
	said := parseAgentLine(line, len(a.spec.steps) == 0)
	if to := Reported(ctx); to != nil {
		*to = said
	}
	if refusal := said.Refusal(); refusal != "" {
		return errors.New(refusal)
	}
	return nil
}

// ask reads the line of an agent.
func (a *agentCheck) ask(ctx context.Context, addr netip.AddrPort) (string, error) {
	conn, closeConn, err := a.spec.dialer.dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer closeConn()
	d := &dialogue{conn: limitFirstByte(conn, a.spec.firstByteTimeout), left: agentLimit}
	if err := d.runSteps(ctx, a.spec.steps); err != nil {
		return "", err
	}
	line, err := d.firstLine()
	endConnection(conn, false)
	return line, err
}

// firstLine returns what comes before the first CR or LF. A line that does not end is none: half of a word may be another
// word, and half of a number is another number.
func (d *dialogue) firstLine() (string, error) {
	for {
		if i := bytes.IndexAny(d.received, "\r\n"); i >= 0 {
			return string(d.received[:i]), nil
		}
		switch err := d.readMore(); {
		case err == nil:
		case errors.Is(err, errTooLong):
			return "", errors.New("line longer than 4 KiB")
		case len(d.received) > 0:
			return "", errors.New("incomplete line: " + describe(err))
		default:
			return "", responseFailure(err)
		}
	}
}

// parseAgentLine reads the line of an agent, without its end. Words are separated by spaces, tabs and commas; the last one of
// each kind counts, and a word that begins with # begins the reason. Nothing of a line may be quoted if the agent was told a
// text, which it may repeat.
func parseAgentLine(line string, quotable bool) report.Report {
	r := report.Report{Decides: true}
	weight := ""
	for line != "" {
		if strings.IndexByte(" \t,", line[0]) >= 0 {
			line = line[1:]
			continue
		}
		if line[0] == '#' {
			if reason := strings.Trim(line[1:], " \t"); reason != "" && quotable {
				r.Reason = quote(reason)
			}
			break
		}
		word := line
		if i := strings.IndexAny(line, " \t,"); i >= 0 {
			word = line[:i]
		}
		line = line[len(word):]
		if word[0] >= '0' && word[0] <= '9' && strings.Contains(word, "%") {
			weight = word
			continue
		}
		addAgentWord(&r, word, quotable)
	}
	if weight != "" {
		addAgentWeight(&r, weight, quotable)
	}
	return r
}

// addAgentWord adds a word that is not a weight. The first one that is not known is told.
func addAgentWord(r *report.Report, word string, quotable bool) {
	switch lower := strings.ToLower(word); lower {
	case "up", "down", "fail", "stopped":
		r.Health = lower
	case "ready", "drain", "maint":
		r.Admin = lower
	default:
		if !strings.HasPrefix(lower, "maxconn:") {
			noteOdd(r, report.OddWord, "an unknown word", word, quotable, ", which changes nothing")
		}
	}
}

// addAgentWeight adds a weight in per cent, which begins with a digit. Unlike HAProxy, which lets a server have more than its
// weight, it is at most 100.
func addAgentWeight(r *report.Report, word string, quotable bool) {
	digits, ok := strings.CutSuffix(word, "%")
	weight, tooMuch := parseWeight(digits)
	switch {
	case !ok || weight < 0 && !tooMuch:
		noteInvalidWeight(r, word, quotable)
		return
	case tooMuch:
		noteOdd(r, report.OddExcess, "a weight over 100 %", word, quotable, ", which counts as 100")
		weight = 100
	}
	r.HasWeight, r.Weight = true, uint8(weight)
}

// parseWeight reads a number from 0 to 100. It is negative if the text is none; tooMuch tells a number that is only too high.
func parseWeight(digits string) (weight int, tooMuch bool) {
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return -1, false
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n > 100 {
		return -1, true
	}
	return int(n), false
}

// noteInvalidWeight notes a weight that is not a number in range.
func noteInvalidWeight(r *report.Report, text string, quotable bool) {
	noteOdd(r, report.OddWeight, "an invalid weight", text, quotable, ", which changes nothing: use 0 to 100")
}

// noteOdd notes what could not be understood, unless something else was before.
func noteOdd(r *report.Report, kind report.Oddity, what, text string, quotable bool, meaning string) {
	if r.Odd != "" {
		return
	}
	if quotable {
		what += " " + quote(text)
	}
	r.Odd, r.OddKind = what+meaning, kind
}
