package browser

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// axe checks the page against all rules of axe-core, of which the contrast of colours (WCAG AA) is one, and returns what breaks one.
func (t *tab) axe() (violations string) {
	t.Helper()
	file := os.Getenv("MULTIVALUE_BROWSER_AXE")
	if file == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("axe-core is missing")
		}
		t.Skip("*** SKIPPED: axe-core is missing ***")
	}
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const run = `axe.run(document, {resultTypes: ["violations"]}).then((r) => [r.passes.length > 20 ? "" : "too few rules ran",
		...r.violations.flatMap((v) => v.nodes.map((n) => v.id + " at " + n.target + ": " + n.failureSummary))].filter((x) => x).join("\n"))`
	t.do(chromedp.ActionFunc(func(ctx context.Context) error {
		_, exception, err := runtime.Evaluate(string(script)).Do(ctx)
		if err == nil && exception != nil {
			err = exception
		}
		return err
	}), chromedp.Evaluate(run, &violations, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return violations
}

// No page breaks a rule of accessibility, in light and dark, wide and narrow, with all unfolded: names, contrast, order of headings,
// and the rest of what axe-core knows (B75).
func TestAxe(t *testing.T) {
	f := newFarm(t, scenery, sceneryZone, 11, 13, 14, 21, 22, 31, 41, 42, 43, 44, 45, 46, 47, 48, 49)
	f.write("forced", "drain 127.0.0.13 # disk\n")
	f.eventually("all are known", func() bool {
		for name := range strings.FieldsSeq("www api shop cdn mail") {
			f.ask(name + ".example.org")
		}
		return f.count("state=up") == 15 && f.count("state=down") == 3 && f.count("state=drain") == 1
	})
	f.write("Corefile", "broken {\n") // a banner says that the last reload failed
	f.signal(syscall.SIGUSR1)
	p := f.open("/config")
	f.eventually("the reload failed", func() bool {
		p.do(chromedp.Reload())
		return p.eval(`document.querySelectorAll(".notice").length`) == "1"
	})
	for _, path := range []string{"/", "/?q=nothing", "/?since=1&names=1", "/explain?name=www.example.org", "/explain", "/config", "/config?find=nothing-has-this", "/nope"} {
		p.do(chromedp.Navigate("http://" + f.status + path))
		for _, width := range []int64{1440, 390} {
			for _, scheme := range []string{"light", "dark"} {
				p.do(emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500),
					emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
				p.becomes(`document.readyState`, "complete")
				p.eval(`document.querySelectorAll("details").forEach((d) => { d.open = true; }); 1`)
				if found := p.axe(); found != "" {
					t.Errorf("%s at %d pixels, %s:\n%s", path, width, scheme, found)
				}
			}
		}
	}
	// The test must see what it is for: text in the colour of its background.
	p.eval(`document.querySelector("main p").style.color = getComputedStyle(document.body).backgroundColor; 1`)
	if found := p.axe(); !strings.Contains(found, "color-contrast") {
		t.Errorf("text in the colour of its background breaks no rule: %s", found)
	}
}
