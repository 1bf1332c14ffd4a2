package browser

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/network"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

const liveState = `document.getElementById("live-state").textContent`

// The status shown on the page is true. Selecting text pauses only the part of the page that it is in, and the page
// says that. A page whose server does not answer is stale until the server answers again.
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

// A change is announced at once. Others soon after it wait, so that it can be read, and are announced together.
func TestNewsCanBeRead(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\n", 11, 12, 13)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 3 })
	p := f.open("/")
	p.becomes(liveState, "live")
	p.eval(`window.told = []; new MutationObserver(() => window.told.push([Date.now(), document.getElementById("news").textContent])).observe(document.getElementById("news"), {childList: true}); 1`)
	f.kill(11)
	p.becomes(`window.told.map((x) => x[1]).join()`, fmt.Sprintf("127.0.0.11:%d is down: connection refused", f.port))
	f.kill(12, 13)
	p.becomes(`window.told.slice(1).reduce((n, x) => n + Number(x[1].match(/^(\d+) changes, the last one: /)?.[1] ?? 1), 0)`, "2") // none is left out
	if got := p.eval(`window.told[1][0] - window.told[0][0] > 3900`); got != "true" {
		t.Errorf("the first change could be read for too short a time: %s", p.eval(`JSON.stringify(window.told)`))
	}
	p.clean()
}

// signal sends a signal to the program.
func (f *farm) signal(s os.Signal) {
	f.Helper()
	if err := f.process.Signal(s); err != nil {
		f.Fatal(err)
	}
}

// Eight tabs work at once: the visible one is live, and the others take no connection away from it. A tab that
// becomes visible again catches up.
func TestManyTabs(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11, 12)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 2 })
	tabs := []*tab{f.open("/")}
	for len(tabs) < 8 {
		tabs = append(tabs, tabs[0].another("/"))
	}
	last := tabs[7]
	last.becomes(cell, "up up")
	last.becomes(liveState, "live")
	last.becomes(`document.visibilityState`, "visible")
	tabs[0].becomes(`document.visibilityState`, "hidden")
	f.kill(12)
	last.becomes(cell, "down up")
	if got := tabs[0].eval(cell); got != "up up" {
		t.Errorf("a hidden tab follows: %s", got)
	}
	tabs[0].show()
	tabs[0].becomes(cell, "down up")
	tabs[0].becomes(liveState, "live")
	for _, p := range tabs {
		p.clean()
	}
}

// another opens one more tab of the browser and shows it.
func (t *tab) another(path string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(t.ctx)
	t.Cleanup(cancel)
	next := &tab{farm: t.farm, ctx: ctx}
	if err := chromedp.Run(ctx, network.Enable(), cdpruntime.Enable()); err != nil { // the tab lives as long as the context of its first run
		t.Fatal(err)
	}
	chromedp.ListenTarget(ctx, next.hear)
	next.show()
	next.do(chromedp.Navigate("http://" + t.farm.status + path))
	return next
}

// show brings the tab to the front.
func (t *tab) show() {
	t.Helper()
	t.do(chromedp.ActionFunc(func(ctx context.Context) error {
		return target.ActivateTarget(chromedp.FromContext(ctx).Target.TargetID).Do(ctx)
	}))
}

// A page that opens when the maximum number of streams is in use is stale, says that, and becomes live when a stream
// is free.
func TestStreamIsTriedAgain(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11, 12)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	follow := func() int {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+f.status+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reply.Body.Close() })
		return reply.StatusCode
	}
	for follow() == http.StatusOK {
		continue
	}
	p := f.open("/")
	p.becomes(liveState+`.startsWith("stale since 20")`, "true")
	leave()
	p.becomes(liveState, "live")
	f.kill(12)
	f.eventually("one is down", func() bool { return f.ask("www.example.org") == "127.0.0.11" })
	p.becomes(`document.querySelectorAll("#b-targets tr.down").length`, "1")
}

// What a backend sends runs no script, where a reason quotes it: in rows that arrive while the page is live, in what
// is announced to screen readers, and on a page that is loaded afterwards.
func TestHostileReasons(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\n", 11, 12, 13)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 3 })
	p, e := f.open("/"), f.open("/explain?name=www.example.org")
	p.becomes(liveState, "live")
	e.becomes(liveState, "live")
	for n, evil := range map[int]string{12: `<img src=x onerror=alert(1)>`, 13: `<script>alert(2)</script><b>`} {
		f.instead.Store(n, evil+"\r\n\r\n")
		p.becomes(fmt.Sprintf(`document.getElementById("news").textContent.includes(%q)`, evil), "true")
		p.becomes(fmt.Sprintf(`[...document.querySelectorAll("#b-targets .reason")].some(r => r.textContent.includes(%q))`, evil), "true")
		p.becomes(fmt.Sprintf(`document.getElementById("changes").textContent.includes(%q)`, evil), "true")
		p.becomes(fmt.Sprintf(`document.getElementById("b-names").textContent.includes(%q)`, evil), "true")
		e.becomes(fmt.Sprintf(`document.getElementById("answers").textContent.includes(%q)`, evil), "true")
	}
	again := f.open("/")
	again.becomes(`document.querySelectorAll("#b-targets .reason").length`, "2")
	for _, x := range []*tab{p, e, again} {
		if n := x.eval(`document.querySelectorAll("img, b + script, main script, body > script, #news > *, .reason > *, .why > *").length`); n != "0" {
			t.Errorf("%s elements that a backend made", n)
		}
		x.clean()
	}
}
