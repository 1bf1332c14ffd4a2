package signals

import (
	"bufio"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// steps are calls of signal.Notify that a program may make, in any order.
var steps = map[byte][]os.Signal{
	'i': {os.Interrupt},
	't': {syscall.SIGTERM, syscall.SIGUSR1},
	'2': {syscall.SIGUSR2},
}

// child is this test run as a separate program. For each line that it reads, it calls signal.Notify and prints a
// line.
func child() {
	heard := make(chan os.Signal, 1)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); os.Stdout.WriteString("done\n") {
		if line := in.Text(); line != "" {
			signal.Notify(heard, steps[line[0]]...)
		}
	}
	os.Exit(0)
}

// CoreDNS's goroutines may call signal.Notify in either order. The program is ready only after the last call.
func TestTrapped(t *testing.T) {
	if os.Getenv("MULTIVALUE_SIGNALS") != "" {
		child()
	}
	t.Setenv("MULTIVALUE_SIGNALS", "1")
	for _, order := range []string{"it2", "t2i", "ti2"} {
		cmd := Command(os.Args[0], "-test.run", "^TestTrapped$")
		in, _ := cmd.StdinPipe()
		out, _ := cmd.StdoutPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := bufio.NewScanner(out)
		for i, step := range "\n" + order {
			_, _ = io.WriteString(in, string(step)+"\n")
			said.Scan()
			if ready := i == len(order); Trapped(cmd.Process.Pid) != ready {
				t.Errorf("%s: after %d steps, ready is %t", order, i, !ready)
			}
			if i == 0 {
				said.Scan() // for the second of the two lines
			}
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if Trapped(cmd.Process.Pid) {
			t.Errorf("%s: a program that has ended is reported ready", order)
		}
	}
}
