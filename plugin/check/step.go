package check

import (
	"context"
	"errors"
	"fmt"
	"regexp"
)

// stepOptions are the steps of a dialogue. They are performed in the order in which they are given.
var stepOptions = []string{"send", "expect", "expect_regex", "starttls"}

const (
	// stepLimit is how many steps a dialogue may have. It only keeps a mistake in generated
	// configuration from growing without bound.
	stepLimit = 64
	// textLimit is the longest text of a step, in bytes.
	textLimit = 4096
)

// A step is one turn of a dialogue. It is built when the options are parsed, so a probe only has to
// run it.
type step struct {
	what string // names the step in a reason; a text to send is never shown
	run  func(ctx context.Context, d *dialogue) error
}

// setSend parses the option send. The text may be a password, so it is hidden.
func setSend(s *settings, v []string) (shown []string, hidden []byte, err error) {
	text, err := stepText(v[0])
	if err != nil {
		return nil, nil, err
	}
	return []string{"…"}, text, s.addStep("send", func(_ context.Context, d *dialogue) error { return d.send(text) })
}

// setExpect parses the option expect. The text may come anywhere, also in the middle of a line.
func setExpect(s *settings, v []string) (shown []string, hidden []byte, err error) {
	text, err := stepText(v[0])
	if err != nil {
		return nil, nil, err
	}
	what := "expect " + quote(string(text))
	return []string{escape(text)}, nil, s.addStep(what, func(_ context.Context, d *dialogue) error { return d.expect(text) })
}

// setExpectRegex parses the option expect_regex. The expression is applied to whole lines, because
// the result of a match on what happens to have arrived would depend on packets.
func setExpectRegex(s *settings, v []string) (shown []string, hidden []byte, err error) {
	if v[0] == "" {
		return nil, nil, errors.New("empty expression would match every line: write one, or remove the option")
	}
	regex, err := regexp.Compile(v[0])
	if err != nil {
		return nil, nil, err
	}
	what := "expect_regex " + quote(v[0])
	return v, nil, s.addStep(what, func(_ context.Context, d *dialogue) error { return d.expectLine(regex) })
}

// setStartTLS parses the option starttls. It is marked as one that may be repeated, so that a
// second one gets a better error.
func setStartTLS(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	if s.has("starttls") {
		return nil, nil, errors.New("duplicate step, tls starts only once: keep one")
	}
	return nil, nil, s.addStep("starttls", func(ctx context.Context, d *dialogue) error { return d.startTLS(ctx) })
}

// setReset parses the option reset: the connection is ended by an RST, which leaves no state in the
// kernel of the peer.
func setReset(s *settings, _ []string) (shown []string, hidden []byte, err error) {
	s.reset = true
	return nil, nil, nil
}

// addStep appends a step.
func (s *settings) addStep(what string, take func(context.Context, *dialogue) error) error {
	if len(s.steps) == stepLimit {
		return fmt.Errorf("too many steps: a dialogue has at most %d", stepLimit)
	}
	s.steps = append(s.steps, step{what, take})
	return nil
}

// stepText decodes the text of a step, and bounds its length.
func stepText(text string) ([]byte, error) {
	raw, err := unescape(text)
	if err == nil && (len(raw) == 0 || len(raw) > textLimit) {
		err = fmt.Errorf("the text has %d bytes: write 1 to %d", len(raw), textLimit)
	}
	return raw, err
}
