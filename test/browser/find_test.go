package browser

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	rackZone   = "www A 127.0.0.11\nwww A 127.0.0.12\ncart A 127.0.0.21\ncart A 127.0.0.22\ncart A 127.0.0.23\ncart A 127.0.0.24\n"
	targetRows = `document.querySelectorAll("#b-targets > tr").length`
	groupOpen  = `document.querySelector("#b-targets tr.group details").open`
)

// newRack is a server with one dead rack, all of it noticed.
func newRack(t *testing.T) *farm {
	f := newFarm(t, plain, rackZone, 11, 12)
	f.eventually("the rack is down", func() bool {
		return f.ask("www.example.org") != "" && f.ask("cart.example.org") != "" && f.count("state=up") == 2 && f.count("state=down") == 4
	})
	return f
}

// The page changes while a filter is typed. The address has the filter, so that a reload shows the same, and the field keeps the focus.
// A filter that picks nothing says so, and a link clears it (B75).
func TestFilterAsYouType(t *testing.T) {
	p := newRack(t).open("/")
	p.becomes(liveState, "live")
	p.becomes(targetRows, "3")
	p.eval(`window.same = 1; document.querySelector("[name=q]").focus(); 1`)
	p.do(chromedp.KeyEvent("0.0.12"))
	p.becomes(targetRows, "1")
	p.becomes(`document.querySelector("#b-targets th").textContent.startsWith("127.0.0.12:")`, "true")
	p.becomes(`location.search`, "?q=0.0.12")
	p.becomes(`document.querySelector("#in-use").textContent.replace(/\s+/g, " ").includes("picks 1 of 3 names and 1 of 6 targets")`, "true")
	p.becomes(`document.activeElement.name + window.same`, "q1")
	p.do(chromedp.KeyEvent("9"))
	p.becomes(`document.querySelector("#no-targets").textContent`, "The filter picks none of 6 targets. Clear the filter")
	p.becomes(`document.querySelector("#no-names").textContent`, "The filter picks none of 3 names. Clear the filter")
	p.becomes(`document.querySelector(".sentence").textContent.includes("4 of 6 targets are down")`, "true")
	p.do(chromedp.Reload())
	p.becomes(`document.querySelector("[name=q]").value`, "0.0.129")
	p.becomes(`document.querySelector("#no-targets").textContent`, "The filter picks none of 6 targets. Clear the filter")
	p.eval(`document.querySelector("#no-targets a").click(); 1`)
	p.becomes(targetRows, "3")
	p.becomes(`location.search`, "")
	p.clean()
	p.accessible()
}

// Equal rows unfold by key, with a script and without. What is unfolded stays so, with the focus, while the page updates itself (B75).
func TestRowUnfolds(t *testing.T) {
	f := newRack(t)
	for _, scripts := range []bool{true, false} {
		p := f.open("/", emulation.SetScriptExecutionDisabled(!scripts))
		p.becomes(`document.querySelector("#b-targets tr.group summary b").textContent`, "4 addresses")
		p.becomes(`document.querySelector("#b-targets tr.group .whose").textContent`, "cart.example.org.")
		p.becomes(`document.querySelector("#b-targets tr.group .reason").textContent`, "connection refused")
		p.becomes(groupOpen, "false")
		p.eval(`document.querySelector("#b-targets tr.group summary").focus(); 1`)
		p.do(chromedp.KeyEvent(kb.Enter))
		p.becomes(groupOpen, "true")
		p.becomes(`[...document.querySelectorAll("#b-targets .inner .addr")].filter(x => x.checkVisibility()).length`, "4")
		if scripts {
			p.eval(`window.first = document.querySelector("#b-targets tr.group").textContent; 1`)
			for range 3 { // the row changes as time passes
				p.becomes(`document.querySelector("#b-targets tr.group").textContent !== window.first`, "true")
				p.eval(`window.first = document.querySelector("#b-targets tr.group").textContent; 1`)
			}
			p.becomes(groupOpen, "true")
			p.becomes(`document.activeElement.tagName`, "SUMMARY")
			p.unfoldsAsOfNow()
		}
		p.accessible()
		p.clean()
	}
}

// unfoldsAsOfNow folds a row, and checks that what it has is up to date as soon as it is unfolded again: without another refresh.
func (t *tab) unfoldsAsOfNow() {
	t.Helper()
	const row, since = `document.querySelector("#b-targets tr.group")`, `document.querySelector("#b-targets .inner td.for").textContent`
	t.eval(row + `.querySelector("details").open = false; window.folded = ` + since + `; 1`)
	t.eval(`window.first = ` + row + `.querySelector("summary").textContent; 1`)
	for range 2 {
		t.becomes(row+`.querySelector("summary").textContent !== window.first`, "true")
		t.eval(`window.first = ` + row + `.querySelector("summary").textContent; 1`)
	}
	t.signal(syscall.SIGSTOP) // no refresh comes from now on
	t.eval(row + `.querySelector("details").open = true; 1`)
	t.becomes(since+` !== window.folded`, "true")
	t.signal(syscall.SIGCONT)
}

// The list of changes marks those since the page was last looked at, in the same browser, and after a reload.
func TestSinceLastLooked(t *testing.T) {
	f := newRack(t)
	p := f.open("/")
	p.becomes(liveState, "live")
	p.becomes(`document.querySelectorAll("#changes .fresh").length`, "0")
	p.do(chromedp.Navigate("about:blank"))
	f.kill(12)
	f.eventually("one more is down", func() bool { return f.count("state=down") == 5 })
	p.do(chromedp.Navigate("http://" + f.status + "/"))
	p.becomes(`document.querySelectorAll("#changes .fresh").length`, "1")
	p.becomes(`document.querySelector("#changes .fresh").textContent.includes("127.0.0.12:")`, "true")
	p.becomes(`document.querySelector("#c-changes").textContent.includes("1 since you last looked")`, "true")
	p.eval(`document.querySelector("#c-changes a").click(); 1`)
	p.becomes(`document.querySelectorAll("#changes .fresh").length`, "0")
	p.becomes(`location.search.startsWith("?since=")`, "true")
	p.clean()
}

// The links of the navigation lead to sections of the page, and stay on top while a reader scrolls. Nothing is cut off at any width.
func TestNavigationAndWidths(t *testing.T) {
	long := strings.Repeat("a-long-label-", 4) + "x"
	f := newFarm(t, plain, rackZone+long+"."+long+" A 127.0.0.12\n", 11, 12)
	f.eventually("the rack is down", func() bool {
		return f.ask("www.example.org") != "" && f.ask("cart.example.org") != "" && f.ask(long+"."+long+".example.org") != "" && f.count("state=up") == 2 && f.count("state=down") == 4
	})
	p := f.open("/")
	p.becomes(liveState, "live")
	p.eval(`document.querySelectorAll("#b-targets details").forEach((d) => { d.open = true; }); 1`)
	for _, width := range []int64{1440, 1280, 1100, 1000, 900, 820, 390} {
		p.do(emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500))
		for expression, want := range map[string]string{
			`document.documentElement.scrollWidth <= innerWidth`:                                        "true",
			`[...document.querySelectorAll(".wide")].filter(x => x.scrollWidth > x.clientWidth).length`: "0",
			// The columns of rows inside a row are those of the table, and no cell lies over the next one.
			`[...document.querySelectorAll("#b-targets td, #b-targets th")].filter(x => x.scrollWidth > x.clientWidth + 1).length`:                              "0",
			`(() => { const r = [...document.querySelectorAll("nav a")].map((a) => a.getBoundingClientRect().right); return Math.max(...r) <= innerWidth; })()`: "true",
			`[...document.querySelectorAll("nav a[href^='#']")].filter(a => !document.querySelector(a.hash)).length`:                                            "0",
		} {
			if got := p.eval(expression); got != want {
				t.Errorf("at %d pixels, %s is %s, want %s", width, expression, got, want)
			}
		}
		p.eval(`scrollTo(0, document.documentElement.scrollHeight); 1`)
		p.becomes(`(() => { const r = document.querySelector("nav").getBoundingClientRect(); return r.top >= 0 && r.bottom < 120 && r.height > 10; })()`, "true")
		p.eval(`scrollTo(0, 0); 1`)
	}
	p.becomes(`[...document.querySelectorAll("svg[tabindex]")].filter((x) => !x.parentElement.querySelector(".told")).length`, "0") // the text beside says all
	// Votes in a row of equal ones have reasons of their own.
	p.eval(`document.querySelector("tr.same .inner td.cause").insertAdjacentHTML("beforeend", '<details class="votes" open><p class="reason">x</p></details>'); 1`)
	if got := p.eval(`["> .reason", "> .votes .reason"].map((x) => getComputedStyle(document.querySelector("tr.same .inner td.cause " + x)).display).join(" ")`); got != "none block" {
		t.Errorf("reasons are shown as %s", got)
	}
	order := p.eval(`[...document.querySelectorAll("main h2")].map(h => h.firstChild.textContent.trim()).join(", ")`)
	if want := "Time, Names, Latest changes, Targets, Checks"; order != want {
		t.Errorf("the order is %s, want %s", order, want)
	}
	if got := p.eval(`document.querySelector("nav").textContent`); !strings.Contains(got, "Configuration") {
		t.Errorf("the navigation is %s", fmt.Sprint(got))
	}
	p.clean()
	for _, path := range []string{"/config", "/explain"} { // no empty band above the form
		p.do(chromedp.Navigate("http://" + f.status + path))
		p.becomes(`document.querySelector("main > form").getBoundingClientRect().top - document.querySelector("header").getBoundingClientRect().bottom < 12`, "true")
	}
}
