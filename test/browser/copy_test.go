package browser

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const hosted = `
example.org:DNSPORT {
    bind 127.0.0.1
    file zone
    multivalue {
        FARM
        status STATUS {
            host ` + insecureHost + `
        }
    }
}`

const newsText = `document.getElementById("news").textContent`

// permit sets whether pages of the browser may read and write the clipboard.
func (t *tab) permit(read, write browser.PermissionSetting) {
	t.Helper()
	t.do(chromedp.ActionFunc(func(ctx context.Context) error {
		ctx = cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser)
		if err := browser.SetPermission(&browser.PermissionDescriptor{Name: "clipboard-read"}, read).Do(ctx); err != nil {
			return err
		}
		return browser.SetPermission(&browser.PermissionDescriptor{Name: "clipboard-write"}, write).Do(ctx)
	}))
}

// clipboard returns what is on the clipboard. The page must be a secure origin.
func (t *tab) clipboard() (text string) {
	t.Helper()
	t.do(emulation.SetFocusEmulationEnabled(true), // only a page with the focus may read it
		chromedp.Evaluate(`navigator.clipboard.readText()`, &text, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return text
}

// press gives the focus to a button and presses it by key. It returns once the page says what came of it, which it returns.
func (t *tab) press(button string) (said string) {
	t.Helper()
	t.eval(fmt.Sprintf(`document.getElementById("news").textContent = ""; document.querySelector(%q).focus(); 1`, button))
	if got := t.eval(fmt.Sprintf(`document.activeElement === document.querySelector(%q)`, button)); got != "true" {
		t.Fatalf("the button %s cannot have the focus", button)
	}
	t.do(chromedp.KeyEvent(kb.Enter))
	t.becomes(newsText+` !== ""`, "true")
	return t.eval(newsText)
}

// handedOut records the requests for what can be copied, and returns a function for the last one: its path, and what the server sent.
func (t *tab) handedOut() func() (path, body string) {
	var id network.RequestID
	var path string
	chromedp.ListenTarget(t.ctx, func(event any) {
		if e, ok := event.(*network.EventRequestWillBeSent); ok && strings.Contains(e.Request.URL, "/v1/") {
			t.mu.Lock()
			defer t.mu.Unlock()
			_, path, _ = strings.Cut(e.Request.URL, "/v1/")
			id = e.RequestID
		}
	})
	return func() (string, string) {
		t.Helper()
		t.mu.Lock()
		last, at := id, path
		t.mu.Unlock()
		var body []byte
		t.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
			body, err = network.GetResponseBody(last).Do(ctx)
			return err
		}))
		return at, string(body)
	}
}

// handOn are the buttons of both pages: what each asks the server for, and a part of what it sends.
func handOn(down string) []struct{ page, button, path, has string } {
	text, find := "format=markdown", url.QueryEscape(down)
	return []struct{ page, button, path, has string }{
		{"/", "#handon [data-copy*=markdown]", "incident?" + text, "\n## Targets that are down"},
		{"/", "#handon [data-copy]:not([data-copy*=markdown])", "incident", `"problems":`},
		{"/?state=down", "#handon [data-copy*=markdown]", "incident?" + text + "&state=down", "`" + down + "`"},
		{"/", "#b-targets tr.down [data-copy]", "targets?address=" + find + "&check=CHECK&" + text, "- `" + down + "` by "},
		{"/explain?name=www.example.org", "#answers [data-copy*=markdown]", "explain?" + text + "&name=www.example.org.&type=A", "# How `www.example.org.` `A` is answered"},
		{"/explain?name=www.example.org", "#answers [data-copy]:not([data-copy*=markdown])", "explain?name=www.example.org.&type=A", `"explanations":`},
	}
}

// What a button copies is to the byte what the server sent for it: an incident, also with a filter, a target, and a name. The page says so,
// and the button keeps the focus. So it is where the browser gives pages no clipboard, which is over plain HTTP to another machine (B75).
func TestCopy(t *testing.T) {
	f := newFarm(t, hosted, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11)
	f.eventually("all are known", func() bool {
		return f.ask("www.example.org") != "" && f.count("state=up") == 1 && f.count("state=down") == 1
	})
	reader := f.open("/")
	reader.permit(browser.PermissionSettingGranted, browser.PermissionSettingGranted)
	_, port, _ := net.SplitHostPort(f.status)
	for _, origin := range []string{f.status, net.JoinHostPort(insecureHost, port)} {
		p := reader.another("/")
		last := p.handedOut()
		for _, c := range handOn(fmt.Sprintf("127.0.0.12:%d", f.port)) {
			p.do(chromedp.Navigate("http://" + origin + c.page))
			p.becomes(liveState, "live")
			if got := p.eval(`isSecureContext`); got != fmt.Sprint(origin == f.status) {
				t.Fatalf("%s is a secure origin: %s", origin, got)
			}
			if said := p.press(c.button); said != "copied" {
				t.Errorf("%s of %s at %s: the page says %q", c.button, c.page, origin, said)
			}
			if got := p.eval(`document.activeElement.matches("button[data-copy]")`); got != "true" {
				t.Errorf("%s of %s at %s: the button has lost the focus", c.button, c.page, origin)
			}
			path, sent := last()
			check := url.QueryEscape(fmt.Sprintf(`"http://:%d/healthz"`, f.port)) // in quotes, all of it
			if want := strings.Replace(c.path, "CHECK", check, 1); path != want {
				t.Errorf("%s of %s asks for %s, want %s", c.button, c.page, path, want)
			}
			reader.show()
			if got := reader.clipboard(); got != sent || !strings.Contains(sent, c.has) {
				t.Errorf("%s of %s at %s: %q is on the clipboard, the server sent %q, which must have %q", c.button, c.page, origin, got, sent, c.has)
			}
			p.show()
		}
	}
}

// What is copied has the filter that was typed, without a reload (B75).
func TestCopyOfFiltered(t *testing.T) {
	f := newRack(t)
	p := f.open("/")
	p.permit(browser.PermissionSettingGranted, browser.PermissionSettingGranted)
	p.becomes(liveState, "live")
	p.eval(`document.querySelector("[name=q]").focus(); 1`)
	p.do(chromedp.KeyEvent("0.0.22"))
	p.becomes(targetRows, "1")
	p.press("#handon [data-copy*=markdown]")
	if got := p.clipboard(); !strings.Contains(got, fmt.Sprintf("`127.0.0.22:%d`", f.port)) || strings.Contains(got, "127.0.0.21") {
		t.Errorf("with a filter, this is copied:\n%s", got)
	}
	p.clean()
}

// The answer is copied as the page shows it, which is as dig prints it and as the JSON has it.
func TestCopyAnswer(t *testing.T) {
	f := newFarm(t, plain, "a&b A 127.0.0.11\na&b A 127.0.0.12\n", 11)
	f.eventually("all are known", func() bool { return f.ask("a&b.example.org") == "127.0.0.11" && f.count("state=down") == 1 })
	p := f.open("/explain?name=a%26b.example.org")
	p.permit(browser.PermissionSettingGranted, browser.PermissionSettingGranted)
	p.becomes(liveState, "live")
	const shown = `document.getElementById("message-0").textContent`
	f.eventually("an answer that does not change while it is copied", func() bool { // the page stays live
		before := p.eval(shown)
		if said := p.press("[data-copy-text=message-0]"); said != "copied" {
			t.Fatalf("the page says %q", said)
		}
		got := p.clipboard()
		if p.eval(shown) != before {
			return false
		}
		if got != before || !strings.Contains(got, ";; ANSWER SECTION:\na&b.example.org.\t") {
			t.Errorf("%q is on the clipboard, and the page shows %q", got, before)
		}
		var page struct{ Explanations []struct{ Message string } }
		f.json("/v1/explain?name=a%26b.example.org", &page)
		if len(page.Explanations) != 1 || page.Explanations[0].Message != got {
			t.Errorf("%q is on the clipboard, and the JSON has %+v", got, page)
		}
		return true
	})
	p.clean()
}

// A page that cannot copy says why, and the clipboard keeps what it has: where the reader has refused, where the server
// answers with an error or is gone, and where no key was pressed.
func TestCopyFails(t *testing.T) {
	f := newFarm(t, hosted, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=down") == 1 })
	const button = "#handon [data-copy*=markdown]"
	reader := f.open("/")
	reader.permit(browser.PermissionSettingGranted, browser.PermissionSettingGranted)
	reader.becomes(liveState, "live")
	reader.press("#b-targets tr.down [data-copy]")
	before := reader.clipboard()
	if !strings.HasPrefix(before, "# Targets\n") {
		t.Fatalf("%q is on the clipboard", before)
	}
	fails := func(p *tab, what, want string) {
		t.Helper()
		p.becomes(newsText+`.startsWith("not copied: ")`, "true")
		if said := p.eval(newsText); !strings.HasPrefix(said, "not copied: ") || !strings.Contains(said, want) {
			t.Errorf("%s: the page says %q, want %q", what, said, want)
		}
		reader.show()
		if got := reader.clipboard(); got != before {
			t.Errorf("%s: %q is on the clipboard", what, got)
		}
	}
	reader.permit(browser.PermissionSettingGranted, browser.PermissionSettingDenied)
	reader.press(button)
	fails(reader, "refused", "denied")

	reader.permit(browser.PermissionSettingGranted, browser.PermissionSettingGranted)
	reader.eval(fmt.Sprintf(`document.querySelector(%q).dataset.copy = "/v1/nothing?format=markdown"; 1`, button))
	reader.press(button)
	fails(reader, "an error of the server", "the server answered 404")
	reader.do(chromedp.Reload())
	reader.becomes(liveState, "live")

	_, port, _ := net.SplitHostPort(f.status)
	p := reader.another("/")
	p.do(chromedp.Navigate("http://" + net.JoinHostPort(insecureHost, port) + "/"))
	p.becomes(liveState, "live")
	p.eval(fmt.Sprintf(`document.querySelector(%q).click(); 1`, button))
	fails(p, "without a key", "the browser does not allow it")

	_ = f.process.Kill()
	reader.press(button)
	fails(reader, "without a server", "fetch")
}
