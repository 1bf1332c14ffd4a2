package check

import (
	"os"
	"testing"
	"time"
)

// What a program wrote is not lost where nobody had the time to read it before the deadline.
func TestHearLate(t *testing.T) {
	output, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	defer theirs.Close()
	if err := output.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.WriteString("no\n"); err != nil {
		t.Fatal(err)
	}
	if got := string(readOutput(output)); got != "no\n" {
		t.Errorf("%q", got)
	}
}
