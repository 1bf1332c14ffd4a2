//go:build linux

package kube

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The API accepts the overlays unchanged, and what they add is there (B82).
func TestOverlays(t *testing.T) {
	newScene(t)
	const namespace = "/namespaces/multivalue/"
	network := []string{`"cidr":"10.244.0.0/16"`, `"cidr":"fd00:10:244::/56"`}
	fleet := map[string][]string{
		"/api/v1" + namespace + "services/coredns-fleet": {`"clusterIP":"None"`, `"publishNotReadyAddresses":true`, `"selector":{"fleet":"multivalue-coredns"}`},
		"/apis/apps/v1" + namespace + "deployments/coredns": {`"fsGroup":65532`, `"defaultMode":288,"secretName":"coredns-fleet"`, `"replicas":4`,
			`"topologyKey":"topology.kubernetes.io/zone"`, `"topologyKey":"kubernetes.io/hostname"`},
		"/apis/networking.k8s.io/v1" + namespace + "networkpolicies/coredns": append(network, `"port":9254`),
		"/api/v1" + namespace + "configmaps/coredns":                         {`"networks.part"`, `"fleet.part"`, `status`},
	}
	for overlay, wants := range map[string]map[string][]string{
		"zones": {
			"/apis/rbac.authorization.k8s.io/v1/clusterroles/multivalue-topology": {`"nodes"`, `"endpointslices"`},
			"/api/v1" + namespace + "configmaps/coredns":                          {`"topology.part":"select nearest\ntopology kubernetes"`, `"order.conf":"# `},
			"/apis/networking.k8s.io/v1" + namespace + "networkpolicies/coredns":  network,
			"/api/v1/namespaces/multivalue":                                       {`"pod-security.kubernetes.io/enforce":"restricted"`},
		},
		"fleet": fleet,
		"nodelocal": {
			"/apis/apps/v1" + namespace + "daemonsets/coredns-local": {`"hostNetwork":true`, `"fleet":"multivalue-coredns"`, `"defaultMode":288`,
				`"annotations":{"prometheus.io/port":"9153","prometheus.io/scrape":"true"}`},
			"/api/v1" + namespace + "configmaps/coredns-local": {`forward . 10.96.0.10`},
			"/api/v1/namespaces/multivalue":                    {`"pod-security.kubernetes.io/enforce":"privileged"`},
		},
	} {
		cluster.apply(t, "", kustomized(t, overlay))
		if overlay == "nodelocal" {
			for path, want := range fleet {
				wants[path] = append(wants[path], want...)
			}
		}
		for path, words := range wants {
			var object any
			cluster.get(t, path, &object)
			text, _ := json.Marshal(object) // with sorted keys, and without spaces
			for _, want := range words {
				if !strings.Contains(string(text), want) {
					t.Errorf("%s: %s lacks %s:\n%s", overlay, path, want, text)
				}
			}
		}
	}
	for _, path := range []string{"deployments/coredns", "daemonsets/coredns-local"} {
		cluster.delete(t, "/apis/apps/v1"+namespace+path)
	}
}

// What a CoreDNS on a node asks is what those in Pods ask, or they would share nothing, and one image is for all.
func TestOverlaysAgree(t *testing.T) {
	all := kustomized(t, "nodelocal")
	stanza := regexp.MustCompile(`(?s)multivalue shop\.svc\.cluster\.local \{\n(.*?)import`)
	both := stanza.FindAllStringSubmatch(all, -1)
	if len(both) != 2 || both[0][1] != both[1][1] || !strings.Contains(both[0][1], "check http://:8080/healthz") {
		t.Errorf("the stanzas begin with %q", both)
	}
	for _, overlay := range []string{"base", "existing", "kube-dns", "fleet", "zones", "nodelocal"} {
		images := regexp.MustCompile(`image: (\S*coredns\S*)`).FindAllStringSubmatch(kustomized(t, overlay), -1)
		for _, m := range images {
			if m[1] != "registry.example.org/coredns-multivalue:0.1.0" {
				t.Errorf("%s has the image %s", overlay, m[1])
			}
		}
		if len(images) == 0 {
			t.Errorf("%s has no image of ours", overlay)
		}
	}
}

// A CoreDNS with the Corefile of an overlay warns of nothing at its start.
func TestOverlaysWarnOfNothing(t *testing.T) {
	for _, mode := range []string{"beside", "cluster-dns", "zones"} {
		s := newScene(t)
		s.run(s.configure(ours(s.parts(modes(t)[mode+"/kustomize"])), ""))
		s.comesTo("kubernetes.default", "A", "198.51.100.1")
		s.page("127.0.0.1:8181/ready")
		if s.output.count(`WARNING`) > 0 {
			t.Errorf("%s:\n%s", mode, s.output.String())
		}
		s.kill()
	}
}

// replicas are CoreDNS as the manifests have them, each as a process with an address of its own.
type replicas struct {
	*scene
	data, local map[string]string // of the ConfigMaps
	key         string
	running     map[string]*process // by address
}

// newReplicas reads the manifests of the fleet, and makes a key.
func newReplicas(s *scene) *replicas {
	s.Helper()
	cluster.apply(s, "", kustomized(s.TB.(*testing.T), "nodelocal"))
	r := &replicas{scene: s, key: newKey(), running: make(map[string]*process)}
	for name, into := range map[string]*map[string]string{"coredns": &r.data, "coredns-local": &r.local} {
		var config struct{ Data map[string]string }
		cluster.get(s, "/api/v1/namespaces/multivalue/configmaps/"+name, &config)
		*into = config.Data
	}
	r.local["networks.part"] = r.data["networks.part"]
	for _, path := range []string{"deployments/coredns", "daemonsets/coredns-local"} {
		cluster.delete(s, "/apis/apps/v1/namespaces/multivalue/"+path)
	}
	return r
}

func newKey() string {
	key := make([]byte, 32)
	rand.Read(key)
	return base64.StdEncoding.EncodeToString(key)
}

// start starts one at an address. What only a Pod or a node has is replaced: its address, its files, and the API.
func (r *replicas) start(data map[string]string, address, key string) {
	r.Helper()
	dir, err := os.MkdirTemp(r.dir, "replica")
	if err != nil {
		r.Fatal(err)
	}
	here := strings.NewReplacer(
		"errors\n", "errors\n    bind "+address+"\n", "    bind 169.254.20.10\n", "",
		"health 169.254.20.10:8080 {\n        lameduck 5s\n    }\n", "",
		"ready 169.254.20.10:8181\n", "ready "+address+":8181\n", "ready\n", "ready "+address+":8181\n",
		"prometheus {$HOST_IP}:9153", "prometheus "+address+":9153", "prometheus :9153", "prometheus "+address+":9153",
		"status 127.0.0.1:9255\n", "status "+address+":9253\n", "status\n", "status "+address+":9253\n",
		"forward . 10.96.0.10", "forward . 192.0.2.101", "dry_run", "", "ttl 30", "ttl 5", "cache 30", "cache 5", "loop\n", "",
		"topology kubernetes", "topology kubernetes CONFIG", "health {\n       lameduck 5s\n    }\n", "",
		"/etc/coredns-fleet/key", filepath.Join(dir, "key"), "advertise {$HOST_IP}", "advertise "+address+"\n    listen "+address+":9254")
	for name, text := range data {
		text = strings.NewReplacer("PACE\n", pace+"\n", "CONFIG", cluster.file("coredns")).Replace(ours(here.Replace(text)))
		text = strings.Replace(text, "    bind 127.0.0.1\n", "", 1)
		if name == "fleet.part" && !strings.Contains(text, "listen") {
			text = strings.Replace(text, "key ", "listen "+address+":9254\n    key ", 1)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			r.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600); err != nil {
		r.Fatal(err)
	}
	p := newProcess(program, "-conf", filepath.Join(dir, "Corefile"))
	p.Env = append(os.Environ(), "NAMESPACE=multivalue", "HOST_IP="+address)
	if err := p.start(); err != nil {
		r.Fatal(err)
	}
	r.running[address] = p
	r.Cleanup(func() {
		p.kill()
		if r.Failed() {
			r.Logf("output of %s:\n%s", address, p.output.String())
		}
	})
}

// answers waits until one of them has this answer.
func (r *replicas) answers(address, name string, want ...string) {
	r.Helper()
	var got []string
	r.eventually(2*patience, func() bool {
		reply, err := question{server: address + ":53"}.ask(r.full(name), "A")
		if err != nil {
			return false
		}
		got = data(reply.Answer)
		slices.Sort(got)
		return slices.Equal(got, want)
	}, func() string { return fmt.Sprintf("%s answers %s with %q, want %q", address, name, got, want) })
}

// probed waits until a target is asked about that many times an interval, which is a second.
func (r *replicas) probed(target string, times float64) {
	r.Helper()
	var rate float64
	r.eventually(4*patience, func() bool {
		before, began := r.asked(target), time.Now()
		for time.Since(began) < 4*time.Second {
			for address := range r.running {
				_, _ = question{server: address + ":53"}.ask(r.full("cart"), "A")
			}
			time.Sleep(100 * time.Millisecond)
		}
		rate = float64(r.asked(target)-before) / time.Since(began).Seconds()
		return rate > times-0.75 && rate < times+0.75
	}, func() string {
		return fmt.Sprintf("%s is probed %.2f times an interval, want %.0f", target, rate, times)
	})
}

// others is how many other members one of them hears.
func (r *replicas) others(address string) (n int) {
	r.Helper()
	var summary struct {
		Fleet struct{ Alive int }
	}
	if err := json.Unmarshal([]byte(r.page(address+":9253/v1/summary")), &summary); err != nil {
		r.Fatal(err)
	}
	return summary.Fleet.Alive
}

// Four replicas and a CoreDNS on a node, with the Corefiles of the manifests, find each other by the headless Service and probe like
// three. When one is replaced nothing is probed more, a dead Pod is in no answer, and a stranger that gets its address is no member
// (B104, B105, B107, B109, B110, B113).
func TestFleetOfReplicas(t *testing.T) {
	s := newScene(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	s.namespace = "shop"
	defer s.forget()
	s.serve("192.0.2.11", "192.0.2.12")
	s.apply(headless("cart"), slice("cart", "cart-4", "192.0.2.11", "192.0.2.12"))
	r := newReplicas(s)
	all := []string{"192.0.2.101", "192.0.2.102", "192.0.2.103", "192.0.2.104", "192.0.2.105"}
	cluster.apply(t, "multivalue", slice("coredns-fleet", "coredns-fleet-4", all...))
	defer cluster.delete(t, "/apis/discovery.k8s.io/v1/namespaces/multivalue/endpointslices/coredns-fleet-4")
	for _, address := range all[:4] {
		r.start(r.data, address, r.key)
	}
	r.start(r.local, all[4], r.key)
	for _, address := range all {
		r.answers(address, "cart", "192.0.2.11", "192.0.2.12")
	}
	r.probed("192.0.2.11", 3)
	for _, address := range all {
		r.eventually(patience, func() bool { return r.others(address) == 4 }, func() string { return fmt.Sprintf("%s hears %d others", address, r.others(address)) })
	}

	s.stop("192.0.2.12")
	for _, address := range all {
		r.answers(address, "cart", "192.0.2.11")
	}
	for _, address := range all[:4] { // a rolling update
		r.running[address].kill()
		r.start(r.data, address, r.key)
		r.answers(address, "cart", "192.0.2.11")
		for _, other := range all {
			if reply, err := (question{server: other + ":53"}).ask(r.full("cart"), "A"); other != address && (err != nil || !slices.Equal(data(reply.Answer), []string{"192.0.2.11"})) {
				t.Errorf("%s answers %v, %v while %s is replaced", other, reply, err, address)
			}
		}
	}
	r.probed("192.0.2.11", 3)

	r.running[all[3]].kill()
	delete(r.running, all[3])
	r.start(r.data, all[3], newKey()) // another fleet has its address
	stranger := r.running[all[3]]
	r.answers(all[3], "cart", "192.0.2.11")
	for _, address := range all[:3] {
		r.eventually(2*patience, func() bool { return r.others(address) == 3 }, func() string { return fmt.Sprintf("%s hears %d others", address, r.others(address)) })
	}
	if n := r.others(all[3]); n != 0 {
		t.Errorf("the stranger hears %d members", n)
	}
	r.probed("192.0.2.11", 4) // three of the fleet, and the stranger for itself
	stranger.kill()
	delete(r.running, all[3])
	r.probed("192.0.2.11", 3)
}
