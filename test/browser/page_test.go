package browser

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const plain = `
example.org:DNSPORT {
    bind 127.0.0.1
    file zone
    multivalue {
        FARM
        status STATUS
    }
}`

// insecureHost is a name of this machine in the browser. Unlike a loopback address, its pages are no secure origin over HTTP.
const insecureHost = "page.example.net"

// tab is a page in a browser. It records what the page loads, and its errors.
type tab struct {
	*farm
	ctx    context.Context
	mu     sync.Mutex
	loaded []string
	errors []string
}

// open opens the status in a new browser.
func (f *farm) open(path string, actions ...chromedp.Action) *tab {
	f.Helper()
	need(f.T, "chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("host-resolver-rules", "MAP "+insecureHost+" 127.0.0.1"),
		chromedp.UserDataDir(f.profile()), chromedp.WindowSize(1200, 900), chromedp.WSURLReadTimeout(patience))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	f.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	f.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil { // the browser lives as long as the context of its first run
		f.Fatal(err)
	}
	t := &tab{farm: f, ctx: ctx}
	chromedp.ListenTarget(ctx, t.hear)
	t.do(append(append([]chromedp.Action{network.Enable(), cdpruntime.Enable()}, actions...), chromedp.Navigate("http://"+f.status+path))...)
	return t
}

// hear records what the page loads, errors, and dialogs, which none of our pages has.
func (t *tab) hear(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		t.loaded = append(t.loaded, e.Request.URL)
	case *cdpruntime.EventExceptionThrown:
		t.errors = append(t.errors, e.ExceptionDetails.Error())
	case *cdpruntime.EventConsoleAPICalled:
		t.errors = append(t.errors, fmt.Sprint("console: ", e.Type))
	case *page.EventJavascriptDialogOpening:
		t.errors = append(t.errors, "dialog: "+e.Message)
	}
}

func (t *tab) do(actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval evaluates an expression in the page.
func (t *tab) eval(expression string) string {
	t.Helper()
	var value any
	t.do(chromedp.Evaluate(expression, &value))
	return fmt.Sprint(value)
}

// profile returns a directory for a browser. Its processes may still write there for a moment after they seem to have
// ended.
func (f *farm) profile() string {
	f.Helper()
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { f.eventually("the removal of the directory", func() bool { return os.RemoveAll(dir) == nil }) })
	return dir
}

// becomes waits until an expression has a value. Between two pages there is no page to evaluate it, and a page that
// is still loading lacks some elements.
func (t *tab) becomes(expression, want string) {
	t.Helper()
	tried := "(() => { try { return " + expression + " } catch (e) { return String(e) } })()"
	t.eventually(expression+" is "+want, func() bool {
		ctx, cancel := context.WithTimeout(t.ctx, 2*time.Second) // an evaluation in a page that is being left never returns
		defer cancel()
		var value any
		if err := chromedp.Run(ctx, chromedp.Evaluate(tried, &value)); err != nil {
			return false
		}
		return fmt.Sprint(value) == want
	})
}

// clean checks that the page loaded only what its server has, and reported no error.
func (t *tab) clean() {
	t.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, u := range t.loaded {
		if !strings.HasPrefix(u, "http://"+t.farm.status+"/") {
			t.Errorf("the page loads %s", u)
		}
	}
	if len(t.errors) > 0 {
		t.Errorf("the page reported errors: %q", t.errors)
	}
}

const cell = `document.querySelector("#b-targets tr .addr + td") && [...document.querySelectorAll("#b-targets tr")].map(r => r.dataset.state).join(" ")`

// When a backend is killed, its row turns red without a reload and the change is announced to screen readers, and
// when the backend is back the row turns back. The row that has the focus keeps it (B75).
func TestKill(t *testing.T) {
	f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\nwww A 127.0.0.13\n", 11, 12, 13)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 3 })
	p := f.open("/")
	p.becomes(cell, "up up up")
	p.becomes(`document.getElementById("live-state").textContent`, "live")
	p.eval(`document.querySelectorAll("#b-targets tr:nth-child(2) a")[0].focus(); 1`)
	before := p.eval(`getComputedStyle(document.querySelector("#b-targets tr")).backgroundColor`)
	f.kill(12)
	p.becomes(cell, "down up up")
	if now := p.eval(`getComputedStyle(document.querySelector("#b-targets tr")).backgroundColor`); now == before {
		t.Errorf("a row that is down has the background of one that is up: %s", now)
	}
	p.becomes(`document.querySelector("#b-targets tr.down .state").innerText.trim().replace(/\s+/, " ")`, "✕ down")
	p.becomes(`document.getElementById("news").textContent`, fmt.Sprintf("127.0.0.12:%d is down: connection refused", f.port))
	p.becomes(`document.querySelector("#b-targets tr.down .reason").textContent`, "connection refused")
	p.becomes(`[...document.querySelectorAll("#b-names .outcome")].map(o => o.textContent).join(" ")`, "filtered not checked") // the second is ns, which has one address
	p.becomes(`document.title`, "1 down – multivalue on "+host)
	p.becomes(`document.activeElement.tagName`, "A")
	p.becomes(`document.querySelectorAll("#b-targets tr.down rect.bad").length > 2`, "true")
	p.becomes(`document.querySelector("#b-targets tr.down code").textContent`, fmt.Sprintf("curl -i http://127.0.0.12:%d/healthz", f.port))
	p.becomes(`document.querySelector("#b-targets tr.down .cause small").textContent`, "up again after 2 successful probes in a row")
	p.becomes(`document.querySelectorAll("#checks li").length`, "1")
	p.becomes(`document.querySelector("#changes li").textContent.replace(/\s+/g, " ").includes("● up → ✕ down www.example.org.")`, "true")
	f.start(12)
	p.becomes(cell, "up up up")
	p.becomes(`document.title`, "multivalue on "+host)
	p.clean()
}

// count returns how many targets the JSON has.
func (f *farm) count(query string) int {
	var page struct{ Total int }
	f.json("/v1/targets?"+query, &page)
	return page.Total
}

// Filters and sort orders work with only the keyboard, and without a script.
func TestFilterByKeyboard(t *testing.T) {
	for _, scripts := range []bool{true, false} {
		f := newFarm(t, plain, "www A 127.0.0.11\nwww A 127.0.0.12\napi A 127.0.0.21\napi A 127.0.0.22\n", 11, 12, 21)
		f.eventually("all are known", func() bool {
			return f.ask("www.example.org") != "" && f.ask("api.example.org") != "" && f.count("state=up") == 3 && f.count("state=down") == 1
		})
		p := f.open("/", emulation.SetScriptExecutionDisabled(!scripts))
		p.tabTo("a.skip")
		p.do(chromedp.KeyEvent(kb.Enter))
		p.tabTo("[name=q]")
		p.do(chromedp.KeyEvent("api"))
		p.tabTo("[name=state]")
		p.do(chromedp.KeyEvent("d"), chromedp.KeyEvent("o")) // the option that begins with this
		p.tabTo("form button")
		if outline := p.eval(`getComputedStyle(document.activeElement).outlineStyle`); outline != "solid" {
			t.Errorf("the focus is shown as %s", outline)
		}
		p.do(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#b-targets"))
		p.becomes(`location.search.includes("q=api") && location.search.includes("state=down")`, "true")
		p.becomes(cell, "down")
		if text := p.eval(`document.querySelector("#b-targets th").textContent`); text != fmt.Sprintf("127.0.0.22:%d", f.port) {
			t.Errorf("the filter shows %s", text)
		}
		p.tabTo("#b-names a")
		p.do(chromedp.KeyEvent(kb.Enter))
		p.becomes(`location.pathname`, "/explain")
		p.becomes(`document.querySelector("#answers h2 .outcome").textContent`, "filtered")
		p.becomes(`document.querySelectorAll("#answers tbody tr").length`, "2")
		p.clean()
		p.accessible()
	}
}

// tabTo presses Tab until the first element that the selector matches has the focus.
func (t *tab) tabTo(selector string) {
	t.Helper()
	for range 60 {
		if t.eval(fmt.Sprintf("document.activeElement === document.querySelector(%q)", selector)) == "true" {
			return
		}
		t.do(chromedp.KeyEvent(kb.Tab))
	}
	t.Fatalf("Tab does not reach %s", selector)
}

// accessible checks what screen readers need.
func (t *tab) accessible() {
	t.Helper()
	for expression, want := range map[string]string{
		`document.documentElement.lang`: "en",
		`[...document.querySelectorAll("input, select")].filter(x => !x.labels.length).length`:                                                        "0",
		`[...document.querySelectorAll("th")].filter(x => !x.scope).length`:                                                                           "0",
		`[...document.querySelectorAll("svg")].filter(x => !x.getAttribute("aria-label")).length`:                                                     "0",
		`document.querySelectorAll("main").length + document.querySelectorAll("header").length + document.querySelectorAll("nav[aria-label]").length`: "3",
		`document.querySelectorAll("h1").length`:                                                                                                      "1",
		`document.querySelector("[aria-live=polite]") !== null`:                                                                                       "true",
		`[...document.querySelectorAll("[id]")].length - new Set([...document.querySelectorAll("[id]")].map(x => x.id)).size`:                         "0",
		`document.documentElement.scrollWidth <= innerWidth`:                                                                                          "true",
	} {
		if got := t.eval(expression); got != want {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
}

// Names that clients choose, and what backends send, run no script on any page.
func TestHostileNames(t *testing.T) {
	f := newFarm(t, plain, "* A 127.0.0.11\n* A 127.0.0.12\n", 11)
	const evil = `\"><img src=x onerror=alert(1)><script>alert(2)</script>.example.org`
	f.eventually("all are known", func() bool { return f.ask(evil) != "" && f.count("state=down") == 1 })
	if n := f.count("name=script"); n != 2 {
		t.Fatalf("%d targets by the hostile name", n)
	}
	for _, path := range []string{"/", "/?name=" + url.QueryEscape(`"><script>alert(3)</script>`), "/explain?name=" + url.QueryEscape(evil), "/explain?name=x&client=" + url.QueryEscape(`"><img src=x onerror=alert(4)>`)} {
		p := f.open(path)
		p.becomes(`document.readyState`, "complete")
		p.becomes(`document.querySelectorAll("img, main script, body > script").length`, "0")
		if path == "/" {
			p.becomes(`[...document.querySelectorAll("#b-names a")].some(a => a.textContent.includes("<script>alert"))`, "true")
		}
		p.clean()
	}
}

// json fetches a response of the status server.
func (f *farm) json(path string, into any) {
	f.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + f.status + path)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Body.Close()
	decode(f.T, r.Body, into)
}

// The test makes the pictures of the page for the manual. If MULTIVALUE_BROWSER_PICTURES is set, it writes them to
// that directory.
func TestPictures(t *testing.T) {
	f := newFarm(t, scenery, sceneryZone, 11, 12, 13, 14, 21, 22, 31, 41, 42, 43, 44, 45, 46, 47, 48, 49)
	f.write("forced", "drain 127.0.0.13\n")
	ask := func() bool {
		for name := range strings.FieldsSeq("www api shop cdn mail") {
			f.ask(name + ".example.org")
		}
		return f.count("state=up") == 16 && f.count("state=drain") == 1
	}
	f.eventually("all are known", ask)
	f.eventually("probes enough for a plot", func() bool {
		var page struct{ Targets []struct{ Probes []any } }
		f.json("/v1/targets?address=127.0.0.12", &page)
		return len(page.Targets) == 1 && len(page.Targets[0].Probes) >= 10
	})
	f.kill(12)
	f.eventually("one more is down", func() bool { ask(); return f.count("state=down") == 3 })
	for _, shot := range []struct {
		name, path, scheme string
		width, height      int64
		phone              bool
	}{
		{"status-light", "/", "light", 1100, 780, false},
		{"status-dark", "/", "dark", 1100, 780, false},
		{"status-phone", "/", "light", 390, 844, true},
		{"explain", "/explain?name=www.example.org", "light", 1100, 700, false},
	} {
		p := f.open(shot.path,
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: shot.scheme}}),
			emulation.SetDeviceMetricsOverride(shot.width, shot.height, 1, shot.phone))
		p.becomes(`document.querySelectorAll("main tr.down").length > 0`, "true")
		p.accessible()
		p.clean()
		var png []byte
		p.do(chromedp.CaptureScreenshot(&png))
		if len(png) < 10_000 || len(png) > 150_000 {
			t.Errorf("%s has %d bytes", shot.name, len(png))
		}
		if dir := os.Getenv("MULTIVALUE_BROWSER_PICTURES"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, shot.name+".png"), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const scenery = `
example.org:DNSPORT {
    bind 127.0.0.1
    prometheus METRICS
    file zone
    multivalue {
        FARM
        status STATUS
        force DIR/forced
    }
    multivalue shop.example.org {
        FARM
        backup 127.0.0.22/32
    }
    multivalue mail.example.org {
        FARM
        all_down nodata
    }
}`

const sceneryZone = `
www A 127.0.0.11
www A 127.0.0.12
www A 127.0.0.13
www A 127.0.0.14
api A 127.0.0.11
api A 127.0.0.31
shop A 127.0.0.21
shop A 127.0.0.22
cdn A 127.0.0.41
cdn A 127.0.0.42
cdn A 127.0.0.43
cdn A 127.0.0.44
cdn A 127.0.0.45
cdn A 127.0.0.46
cdn A 127.0.0.47
cdn A 127.0.0.48
cdn A 127.0.0.49
mail A 127.0.0.51
mail A 127.0.0.52
`
