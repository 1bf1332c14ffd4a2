package corefile

import (
	"errors"
	"testing"

	"github.com/coredns-multivalue/multivalue/plugin/check"
)

// The option hold needs the event loop. Without one it is refused, with its line.
func TestRefuseHold(t *testing.T) {
	options := []check.Option{{Name: "method", Values: []string{"HEAD"}}, {Name: "hold"}}
	if err := refuseHold(options, true); err != nil {
		t.Error(err)
	}
	if err := refuseHold(options[:1], false); err != nil {
		t.Error(err)
	}
	var wrong *check.OptionError
	if err := refuseHold(options, false); !errors.As(err, &wrong) || wrong.Index != 1 {
		t.Errorf("%v", err)
	}
}
