package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const acting = `
example.org:DNSPORT {
    bind 127.0.0.1
    file zone
    multivalue {
        FARM
        force DIR/forced
        status STATUS {
            admin DIR/forced
            token DIR/fleet.key
            peers http://192.0.2.2:9253/
        }
    }
}`

// token is what a farm has in its one file with a secret.
const token = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// actingFarm is a farm whose page may change its file.
func actingFarm(t *testing.T) *farm {
	f := newFarm(t, acting, "www A 127.0.0.11\nwww A 127.0.0.12\n", 11, 12)
	f.eventually("all are known", func() bool { return f.ask("www.example.org") != "" && f.count("state=up") == 2 })
	return f
}

// content is what a file of the farm has.
func (f *farm) content(name string) string {
	text, _ := os.ReadFile(filepath.Join(f.dir, name))
	return string(text)
}

// A person drains an address with the form and the keyboard, is told what was done, and releases it. A wrong token is told, and so is
// what others have done meanwhile (B118).
func TestActByForm(t *testing.T) {
	f := actingFarm(t)
	p := f.open("/")
	const result = `document.getElementById("force-result").textContent`
	p.becomes(`document.getElementById("force-form").hidden`, "false")
	p.becomes(`document.querySelector(".peers a").href`, "http://192.0.2.2:9253/")
	p.tabTo("#b-targets [data-act=drain]")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.becomes(`document.activeElement.name`, "reason") // the rest is filled in
	p.becomes(`document.querySelector("#force-form [name=networks]").value`, "127.0.0.11")
	p.do(chromedp.KeyEvent("disk <b>is</b> replaced"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("+2h"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter))
	p.becomes(result+`.startsWith("Not done: wrong token")`, "true")
	if text := f.content("forced"); text != "" {
		t.Fatalf("the file has %q", text)
	}
	p.eval(`document.querySelector("#force-form [name=token]").value = ""; document.querySelector("#force-form [name=token]").focus(); 1`)
	p.do(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter))
	p.becomes(result, "Done, on this replica only: drain 127.0.0.11")
	f.eventually("it is drained", func() bool { return f.ask("www.example.org") == "127.0.0.12" })
	if text := f.content("forced"); !strings.HasPrefix(text, "drain 127.0.0.11 until 20") || !strings.HasSuffix(text, "Z # disk <b>is</b> replaced\n") {
		t.Errorf("the file has %q", text)
	}
	p.becomes(`document.querySelector("#force-lines tbody tr").cells[4].textContent`, "disk <b>is</b> replaced")
	p.becomes(`[...document.querySelectorAll("#b-targets [data-act]")].map((a) => a.textContent).sort().join(" ")`, "Drain Release") // one is drained already
	p.becomes(`document.querySelector("nav a[href='#force']").textContent`, "Act")
	p.accessible()
	f.write("forced", f.content("forced")+"down 192.0.2.1\n") // by hand
	p.eval(`document.querySelector("#force-lines [data-act=release]").click(); 1`)
	p.becomes(`document.activeElement.name`, "reason")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.becomes(result+`.includes("has changed meanwhile")`, "true")
	p.becomes(`document.querySelectorAll("#force-lines tbody tr").length`, "2")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.becomes(result, "Done, on this replica only: release 127.0.0.11")
	if text := f.content("forced"); text != "down 192.0.2.1\n" {
		t.Errorf("the file has %q", text)
	}
	p.becomes(`document.querySelectorAll("#b-targets [data-act=drain]").length`, "2")
	// There is a token in its field now, and still the key that follows a link sends nothing.
	p.eval(`document.querySelector("#b-targets [data-act=drain]").focus(); 1`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.becomes(`document.activeElement.name + " " + document.querySelector("#force-form [name=networks]").value`, "reason 127.0.0.11")
	p.becomes(result, "Done, on this replica only: release 127.0.0.11")
	if p.eval(`location.search + document.cookie + JSON.stringify({...localStorage, ...sessionStorage})`) != "{}" {
		t.Error("the token is kept, or in the address")
	}
	p.eval(`document.getElementById("force").scrollIntoView(); 1`)
	for _, width := range []int64{1440, 1280, 820, 390} {
		p.do(emulation.SetDeviceMetricsOverride(width, 900, 1, width == 390))
		p.becomes(`document.documentElement.scrollWidth <= innerWidth`, "true")
		if width == 390 { // fields are as wide as the page, and lines say what their words are
			p.becomes(`[...document.querySelectorAll("#force-form input")].filter((x) => x.clientWidth < innerWidth - 40).length`, "0")
			p.becomes(`getComputedStyle(document.querySelector("#force-lines td"), "::before").content`, `"line "`)
		}
		var png []byte
		p.do(chromedp.CaptureScreenshot(&png))
		if dir := os.Getenv("MULTIVALUE_BROWSER_PICTURES"); dir != "" {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("acting-%d.png", width)), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("without a script", func(t *testing.T) {
		q := f.open("/", emulation.SetScriptExecutionDisabled(true))
		q.becomes(`getComputedStyle(document.getElementById("force-form")).display`, "none")
		q.becomes(`document.getElementById("force").textContent.includes("mvctl")`, "true")
	})
	p.mu.Lock()
	p.errors = nil // browsers tell of responses with 401 and 412 in the console
	p.mu.Unlock()
	p.clean()
}

// evil is a page of another site that knows the token and the tag, and tries whatever a browser lets it do.
const evil = `<!doctype html><title>trying</title>
<iframe id="frame" src="PAGE/"></iframe>
<iframe name="target"></iframe>
<form id="form" method="post" action="PAGE/v1/force" enctype="text/plain" target="target"><input name='CHANGE//' value=''></form>
<script>
const change = 'CHANGE', url = "PAGE/v1/force", tried = [];
const attempt = async (options) => { try { const r = await fetch(url, {method: "POST", body: change, ...options}); tried.push(r.type + r.status); } catch (e) { tried.push(e.name); } };
(async () => {
  for (const headers of [{}, {"Content-Type": "application/json"}, {"Content-Type": "application/json", "If-Match": '"none"', Authorization: "Bearer TOKEN"}])
    for (const mode of ["cors", "no-cors"])
      for (const credentials of ["omit", "include"]) await attempt({headers, mode, credentials});
  tried.push(navigator.sendBeacon(url, new Blob([change], {type: "text/plain"})));
  try { const r = await fetch(url); tried.push("read " + r.status); } catch (e) { tried.push(e.name); }
  try { tried.push("frame " + document.getElementById("frame").contentWindow.document.body.innerHTML.length); } catch (e) { tried.push(e.name); }
  await new Promise((done) => { document.getElementsByName("target")[0].onload = done; document.getElementById("form").submit(); });
  window.tried = tried; document.title = "tried";
})();
</script>`

// No page of another site, by another port, by a name of its own or by one that it points here, makes the page act (B118).
func TestActFromAnotherSite(t *testing.T) {
	f := actingFarm(t)
	p := f.open("/")
	for what, host := range map[string]string{"another port": "127.0.0.1", "another name of this machine": "localhost"} {
		// The page of the other site tells both names of ours.
		for _, page := range []string{"http://" + f.status, "http://" + strings.Replace(f.status, "127.0.0.1", "localhost", 1)} {
			text := strings.NewReplacer("PAGE", page, "CHANGE", `{"state":"down","networks":["127.0.0.11"]}`, "TOKEN", token).Replace(evil)
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, text)
			}))
			p.mu.Lock()
			p.loaded = nil
			p.mu.Unlock()
			p.do(chromedp.Navigate(strings.Replace(site.URL, "127.0.0.1", host, 1)))
			p.becomes("document.title", "tried")
			tried := p.eval(`window.tried.join(" ")`)
			if strings.Contains(tried, "200") || strings.Contains(tried, "read ") || strings.Contains(tried, "frame ") && !strings.Contains(tried, "frame 0") {
				t.Errorf("%s of %s: %s", what, page, tried)
			}
			p.mu.Lock()
			if slices.ContainsFunc(p.loaded, func(u string) bool { return strings.HasSuffix(u, "/force.js") }) {
				t.Errorf("%s of %s: the page is shown in a frame", what, page)
			}
			p.mu.Unlock()
			site.Close()
			if got := f.content("forced"); got != "" {
				t.Fatalf("%s of %s: the file has %q", what, page, got)
			}
		}
	}
	if got := f.ask("www.example.org"); got != "127.0.0.11 127.0.0.12" && got != "127.0.0.12 127.0.0.11" {
		t.Errorf("the answer is %s", got)
	}
}
