package browser

import (
	"os"
	"syscall"
	"testing"
)

const liveState = `document.getElementById("live-state").textContent`

// What the page says of itself is so: text that is selected holds up nothing but the part that it is in, and the page says so;
// and a page whose server does not answer is stale, until it does again.
func TestLiveIsLive(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11, 12)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 2 })
	p := f.open("/")
	p.becomes(cell, "up up")
	p.eval(`getSelection().selectAllChildren(document.querySelector("h1")); 1`)
	f.kill(12)
	p.becomes(cell, "down up")
	p.becomes(liveState, "live")
	p.eval(`getSelection().selectAllChildren(document.querySelector("#b-targets .reason")); 1`)
	f.start(12)
	p.becomes(`document.querySelector("#summary .alert") === null`, "true")
	p.becomes(liveState, "paused: text is selected")
	if got := p.eval(cell + ` + " " + getSelection()`); got != "down up connection refused" {
		t.Errorf("while text is selected: %s", got)
	}
	p.eval(`getSelection().removeAllRanges(); 1`)
	p.becomes(cell, "up up")
	p.becomes(liveState, "live")
	f.signal(syscall.SIGSTOP)
	p.becomes(liveState+`.startsWith("stale since 20")`, "true")
	f.signal(syscall.SIGCONT)
	p.becomes(liveState, "live")
	p.clean()
}

// signal sends a signal to the program.
func (f *farm) signal(s os.Signal) {
	f.Helper()
	if err := f.process.Signal(s); err != nil {
		f.Fatal(err)
	}
}
