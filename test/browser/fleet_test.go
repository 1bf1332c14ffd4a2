package browser

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
)

const joined = `
example.org:DNSPORT {
    bind 127.0.0.1
    file zone
    multivalue {
        FARM
        status STATUS
        fleet PEER {
            key fleet.key
            listen FLEET
            site SITE
        }
    }
}`

// The page of a member shows the others, what their Corefiles lack and the votes on a target, on a phone and without a script. Votes
// that a reader has unfolded stay so while the page updates itself, and it says when the member is alone (B113).
func TestFleetPage(t *testing.T) {
	const zone = "www A 127.0.0.11\nwww A 127.0.0.12\n"
	a := newFarm(t, strings.NewReplacer("PEER", "FLEET", "SITE", "ams").Replace(joined), zone, 11)
	b := newFarm(t, strings.NewReplacer("PEER", a.fleet, "SITE", "fra").Replace(joined), zone, 11) // whose backends have another port
	a.eventually("the members differ", func() bool {
		var page struct {
			Members []struct {
				Lacks []any
				Other int `json:"other_checks"`
			}
		}
		a.ask("www.example.org")
		a.json("/v1/members", &page)
		return a.count("state=down") == 1 && len(page.Members) == 2 && len(page.Members[0].Lacks)+len(page.Members[1].Lacks) == 1
	})
	text, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	_, commands, _ := strings.Cut(string(text), "\nIn a fleet:\n\n~~~ sh\n")
	commands, _, _ = strings.Cut(commands, "~~~")
	commands = strings.NewReplacer("localhost:9253", a.status, "192.0.2.1", "127.0.0.12").Replace(commands)
	if out, err := exec.Command("bash", "-eo", "pipefail", "-c", commands).CombinedOutput(); err != nil || !strings.Contains(string(out), " alive ") || !strings.Contains(string(out), "127.0.0.12:"+strconv.Itoa(a.port)+" down at "+a.fleet+": counts connection refused") {
		t.Errorf("%v: %s\n%s", err, commands, out)
	}
	const rows = `[...document.querySelectorAll("#fleet tbody tr")]`
	for _, scripts := range []bool{false, true} {
		p := a.open("/", emulation.SetDeviceMetricsOverride(390, 844, 1, true), emulation.SetScriptExecutionDisabled(!scripts))
		p.becomes(rows+`.length`, "2")
		p.becomes(rows+`.map(r => r.querySelector(".site").textContent).sort().join(" ")`, "ams fra")
		p.becomes(rows+`.filter(r => r.querySelector(".differs").textContent.includes("does not have check http://")).length`, "1")
		p.becomes(`document.querySelector("tr.down .votes tbody").checkVisibility()`, "false")
		p.eval(`document.querySelector("tr.down .votes summary").click(); 1`)
		p.becomes(`document.querySelector("tr.down .votes tbody").checkVisibility()`, "true")
		p.becomes(`document.querySelector("tr.down .votes tbody").textContent.includes("connection refused")`, "true")
		p.do(emulation.SetDeviceMetricsOverride(1440, 900, 1, false)) // the votes stay in their cell
		p.becomes(`[...document.querySelectorAll("#b-targets td, #b-targets th")].filter((x) => x.scrollWidth > x.clientWidth + 1).length`, "0")
		p.do(emulation.SetDeviceMetricsOverride(390, 844, 1, true))
		if scripts {
			p.eval(`window.first = document.querySelector("tr.down").textContent; 1`)
			for range 3 { // the row changes with each probe
				p.becomes(`document.querySelector("tr.down").textContent !== window.first`, "true")
				p.eval(`window.first = document.querySelector("tr.down").textContent; 1`)
			}
			p.becomes(`document.querySelector("tr.down .votes").open`, "true")
			p.becomes(`document.getElementById("summary").textContent.includes("This member is alone")`, "false")
			_ = b.process.Kill()
			p.becomes(`document.getElementById("summary").textContent.includes("This member is alone")`, "true")
			p.becomes(rows+`.map(r => r.querySelector(".membership").textContent).sort().join(" ")`, "alive gone")
		}
		p.accessible()
		p.clean()
	}
}
