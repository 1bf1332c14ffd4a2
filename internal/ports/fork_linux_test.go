package ports

import (
	"net"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// A process that begins has copies of our sockets until it runs its own program. A port that is free stays free although processes
// begin all the time, as in tests that run in parallel.
func TestFreeWhileProcessesBegin(t *testing.T) {
	const trials = 300 // some eight of them failed where Free did not hold back processes
	taken := 0
	begun := whileProcessesBegin(t, func() {
		for range trials {
			l, err := net.Listen("tcp4", net.JoinHostPort("127.9.0.11", strconv.Itoa(Free(t))))
			if err != nil {
				taken++
				continue
			}
			l.Close()
		}
	})
	if taken > 0 || begun == 0 {
		t.Errorf("%d of %d free ports were in use, while %d processes began", taken, trials, begun)
	}
}

// whileProcessesBegin runs something while this process starts others all the time, and returns how many.
func whileProcessesBegin(t *testing.T, do func()) (begun int) {
	t.Helper()
	var stop atomic.Bool
	ended := make(chan int)
	const starters = 2
	for range starters {
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				if err := exec.Command("/bin/true").Run(); err != nil {
					t.Error(err)
					break
				}
			}
			ended <- n
		}()
	}
	do()
	stop.Store(true)
	for range starters {
		begun += <-ended
	}
	return begun
}

// A port can be listened on again although processes begin all the time.
func TestListenAgain(t *testing.T) {
	at := net.JoinHostPort("127.9.0.11", strconv.Itoa(Free(t)))
	again := 0
	whileProcessesBegin(t, func() {
		for began := time.Now(); again < 3 && time.Since(began) < time.Minute; {
			l, err := net.Listen("tcp", at)
			if err != nil {
				again++
				l = Listen(t, at)
			}
			l.Close()
		}
	})
	if again == 0 {
		t.Error("the port was never in use, so that this shows nothing")
	}
}
