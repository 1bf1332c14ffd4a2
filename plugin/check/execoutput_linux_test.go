package check

import (
	"os"
	"testing"
	"time"
)

// Output is not lost if it could not be read before the deadline.
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
