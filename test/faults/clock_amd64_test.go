//go:build faults && linux

package faults

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The wall clock of the program jumps forward and back, by a minute and by years, without an effect: no state
// changes, no probe is left out or made up for, and failures and recoveries are detected as before (B58).
func TestClockJumps(t *testing.T) {
	s := newScene(t, quick, loopbacks(11, 13))
	s.block("dropped", loopback(13))
	s.start()
	s.settled(2, 1)
	before, began := s.metric("coredns_multivalue_transitions_total", ""), time.Now()
	for _, by := range []time.Duration{time.Minute, -time.Minute, 24 * time.Hour, -24 * time.Hour, 5 * 8766 * time.Hour, -5 * 8766 * time.Hour} {
		s.shiftClock(by)
		s.stays("11 12", s.probedAgain(2, loopback(11), loopback(12)), fmt.Sprintf("no probes after a jump by %s", by))
	}
	if after := s.metric("coredns_multivalue_transitions_total", ""); after != before {
		t.Errorf("%v changes of state", after-before)
	}
	s.unhurried(began, loopbacks(11, 12)...)
	s.block("dropped", loopback(12))
	s.shiftClock(-time.Hour)
	s.comesTo("11")
	s.unblock("dropped", loopbacks(12, 13)...)
	s.shiftClock(time.Hour)
	s.comesTo("11 12 13")
}

// Readiness waits eight seconds for the first verdicts on watched names, even if the clock is set back in that time, as
// on a machine that has just booted (B58, B68).
func TestClockJumpsBeforeReadiness(t *testing.T) {
	s := newScene(t, pace{30 * time.Second, 20 * time.Second, 2 * time.Second}, loopbacks(11, 12))
	s.turns(loopback(12), stalls)
	s.edit("watch www.example.org")
	s.start()
	ready := func() bool {
		response, err := s.scrapes.Get("http://127.0.0.1:8181/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	if ready() {
		t.Fatal("ready before the first verdicts")
	}
	s.shiftClock(-24 * time.Hour)
	for deadline := time.Now().Add(patience); !ready(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready %s after the start", patience)
		}
	}
}

// Addresses that came up before the clock was set back have the same warm-up as those that come up after it (B58).
func TestClockJumpsAfterWarmingUp(t *testing.T) {
	const warmup = 2 * time.Second
	s := newScene(t, quick, loopbacks(11, 12))
	s.edit("warmup " + warmup.String())
	text, err := os.ReadFile(filepath.Join(s.dir, "Corefile"))
	if err != nil {
		t.Fatal(err)
	}
	s.file("Corefile", strings.Replace(string(text), "limit off", "limit 1", 1))
	s.start()
	s.settled(2, 0)
	time.Sleep(warmup + time.Second)
	s.shiftClock(-24 * time.Hour)
	s.block("dropped", loopback(12))
	s.settled(1, 1)
	s.unblock("dropped", loopback(12))
	s.settled(2, 0)
	time.Sleep(warmup + time.Second)
	times := make(map[string]int)
	for range 200 {
		times[members(s.ask())]++
	}
	for _, member := range []string{"11", "12"} {
		if n := times[member]; n < 50 {
			t.Errorf("%s went out %d times of 200, want about half", member, n)
		}
	}
}

// shiftClock makes the wall clock of the program differ from the system's, and checks the effect. To the program it
// is as if the system's clock had been set, which a test may not do: the monotonic clock continues, and so do timers.
//
// Go reads the clocks with a function of the kernel that it calls through a variable. A function of the runtime that
// is no longer needed is overwritten with one that calls the kernel and adds to the seconds of the wall clock, and
// the variable is set to its address. The program is stopped during that. The code is for amd64; on other machines
// the test does not exist.
func (s *scene) shiftClock(by time.Duration) {
	s.Helper()
	at := symbols(s, "runtime.rt0_go.abi0", "runtime.vdsoClockgettimeSym")
	code := []byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, 228 (clock_gettime)
		0x0f, 0x05, //          syscall
		0x85, 0xff, //          test edi, edi (0 is the wall clock)
		0x75, 13, //            jnz to the end
		0x48, 0xb9, //          mov rcx, what follows
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(int64(by/time.Second)))
	code = append(code,
		0x48, 0x01, 0x0e, //    add [rsi], rcx
		0xc3) //                ret
	s.frozen(func(memory *os.File) {
		for _, write := range []struct {
			bytes []byte
			to    uint64
		}{{code, at[0]}, {binary.LittleEndian.AppendUint64(nil, at[0]), at[1]}} {
			if _, err := memory.WriteAt(write.bytes, int64(write.to)); err != nil {
				s.Fatal(err)
			}
		}
	})
	s.eventually(func() bool { return (time.Until(s.clock()) - by).Abs() < 30*time.Second },
		func() string { return fmt.Sprintf("the program's clock is at %s after a shift by %s", s.clock(), by) })
}

// clock returns the time of the program, from its metrics.
func (s *scene) clock() time.Time {
	s.Helper()
	response, err := s.scrapes.Get("http://127.0.0.1:9153/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		s.Fatal(err)
	}
	return at
}

// frozen stops every thread of the program while f writes to the program's memory.
func (s *scene) frozen(f func(memory *os.File)) {
	s.Helper()
	proc := fmt.Sprintf("/proc/%d", s.child.Process.Pid)
	memory, err := os.OpenFile(proc+"/mem", os.O_RDWR, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer memory.Close()
	s.signal(syscall.SIGSTOP)
	defer s.signal(syscall.SIGCONT)
	s.eventually(func() bool { return stopped(proc) }, func() string { return "the program does not stop" })
	f(memory)
}

// stopped reports whether all threads of a process are stopped.
func stopped(proc string) bool {
	threads, _ := filepath.Glob(proc + "/task/*/stat")
	for _, path := range threads {
		stat, _ := os.ReadFile(path)
		if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}

// symbols returns the addresses of symbols of the program.
func symbols(t testing.TB, names ...string) []uint64 {
	t.Helper()
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	found := make([]uint64, len(names))
	for i, name := range names {
		for _, symbol := range all {
			if symbol.Name == name {
				found[i] = symbol.Value
			}
		}
		if found[i] == 0 {
			t.Fatalf("symbol %s not found in the program", name)
		}
	}
	return found
}
