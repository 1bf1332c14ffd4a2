//go:build linux

package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// modes are the Corefiles of each mode, by kustomize and by the chart: the data of their ConfigMaps.
func modes(t *testing.T) map[string]map[string]string {
	all := make(map[string]map[string]string)
	for name, text := range map[string]string{
		"beside/kustomize":      kustomized(t, "base"),
		"cluster-dns/kustomize": kustomized(t, "kube-dns"),
		"existing/kustomize":    readFile(t, deploy+"existing/config.yaml"),
		"zones/kustomize":       kustomized(t, "zones"),
		"beside/chart":          readFile(t, golden+"beside.yaml"),
		"cluster-dns/chart":     readFile(t, golden+"cluster-dns.yaml"),
		"existing/chart":        readFile(t, golden+"existing.yaml"),
	} {
		all[name] = make(map[string]string)
		for _, o := range objects(t, text) {
			if data, _ := o["data"].(object); o["kind"] == "ConfigMap" && !strings.HasSuffix(at(o, "metadata", "name").(string), "-before") {
				for file, content := range data {
					all[name][file] = content.(string)
				}
			}
		}
		if !strings.Contains(all[name]["Corefile"], "multivalue shop.svc.cluster.local {") {
			t.Fatalf("%s: the Corefile is %q", name, all[name])
		}
	}
	return all
}

// A node disappears: its kubelet sends no more status, and its Pods no longer answer. They leave the answers within the
// bound, in every mode, while Kubernetes reports them as ready for most of a minute, as long as its own controllers take.
// Clients of the node's zone get the Pods of others. When the node is back, so are its Pods (B82, B83, B98).
func TestNodeVanishes(t *testing.T) {
	s := newScene(t)
	cluster.apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop")
	s.namespace = "shop"
	defer s.forget()
	manager := newProcess(tool("kube-controller-manager"), "--kubeconfig="+cluster.file("admin"), "--leader-elect=false",
		"--controllers=endpointslice-controller,node-lifecycle-controller", "--bind-address=127.0.0.1", "--cert-dir="+s.dir)
	if err := manager.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(manager.kill)
	gone, stays := newKubelet(s, "gone", "a", "127.1.0.0/16"), newKubelet(s, "stays", "b", "127.2.0.0/16")
	s.apply(`apiVersion: v1
kind: Service
metadata:
  name: cart
spec: {clusterIP: None, selector: {app: cart}, ports: [{name: http, port: 8080}]}`)
	all := []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"}
	gone.runs("one", all[0])
	gone.runs("two", all[1])
	stays.runs("three", all[2])
	s.serve(all...)
	t.Cleanup(func() {
		for _, node := range []string{"gone", "stays"} {
			cluster.delete(t, "/api/v1/nodes/"+node)
		}
	})
	g := newGallery(s)
	g.show("before", all, all[:2])
	g.judged(len(all))

	began := time.Now()
	gone.stop()
	s.nft("table inet kube {\n chain input {\n type filter hook input priority 0;\n ip daddr { 192.0.2.11, 192.0.2.12 } drop\n }\n}")
	g.show("without the node", all[2:], all[2:])
	ours := time.Since(began)
	if ours > soon {
		t.Errorf("the Pods left the last answers after %s", ours)
	}
	if ready := s.ready("cart"); len(ready) != 3 {
		t.Errorf("Kubernetes calls %s ready", ready)
	}
	s.eventually(3*time.Minute, func() bool {
		for name := range g.at {
			if got := g.answer(name); !slices.Equal(got, all[2:]) {
				t.Fatalf("%s has %q, while the node is gone", name, got)
			}
		}
		return len(s.ready("cart")) == 1
	}, func() string {
		return fmt.Sprintf("Kubernetes calls %s ready:\n%s", s.ready("cart"), manager.output.String())
	})
	t.Logf("the Pods of a node that vanished left the answers of all modes after %s; Kubernetes took %s to call them unready",
		ours.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))

	s.nft("delete table inet kube")
	gone = newKubelet(s, "gone", "a", "127.1.0.0/16")
	gone.runs("one", all[0])
	gone.runs("two", all[1])
	g.show("with the node again", all, all[:2])
}

// gallery has a CoreDNS for each mode, as a process with an address of its own, and three of a fleet: two replicas and the
// one on a node.
type gallery struct {
	*replicas
	at map[string]string // the addresses, by the names of the modes
}

func newGallery(s *scene) *gallery {
	s.Helper()
	g := &gallery{newReplicas(s), make(map[string]string)}
	g.data["networks.part"] = strings.TrimSpace(g.data["networks.part"])
	cluster.apply(s, "", kustomized(s.TB.(*testing.T), "zones"))
	cluster.delete(s, "/apis/apps/v1/namespaces/multivalue/deployments/coredns")
	all := modes(s.TB.(*testing.T))
	all["fleet/kustomize"], all["fleet/kustomize/2"], all["nodelocal/kustomize"] = g.data, g.data, g.local
	for i, name := range slices.Sorted(maps.Keys(all)) {
		g.at[name] = fmt.Sprint("192.0.2.", 101+i)
	}
	cluster.apply(s, "multivalue", slice("coredns-fleet", "coredns-fleet-4", g.at["fleet/kustomize"], g.at["fleet/kustomize/2"], g.at["nodelocal/kustomize"]))
	s.Cleanup(func() {
		cluster.delete(s, "/apis/discovery.k8s.io/v1/namespaces/multivalue/endpointslices/coredns-fleet-4")
	})
	for name, data := range all {
		g.start(data, g.at[name], g.key)
	}
	return g
}

// judged waits until each CoreDNS has found that many targets up.
func (g *gallery) judged(targets int) {
	g.Helper()
	for name, address := range g.at {
		want := fmt.Sprintf(`coredns_multivalue_targets{state="up"} %d`, targets)
		g.eventually(2*patience, func() bool { _ = g.answer(name); return strings.Contains(g.page(address+":9153/metrics"), want+"\n") },
			func() string {
				return fmt.Sprintf("%s has not found %d targets up:\n%s", name, targets, g.page(address+":9153/metrics"))
			})
	}
}

// answer is what a mode answers. Where there are zones, the client is a Pod of the node that vanishes.
func (g *gallery) answer(name string) []string {
	q := question{server: g.at[name] + ":53"}
	if strings.HasPrefix(name, "zones/") {
		q.from = "127.1.0.1"
	}
	reply, err := q.ask(g.full("cart"), "A")
	if err != nil {
		return []string{err.Error()}
	}
	got := data(reply.Answer)
	slices.Sort(got)
	return got
}

// show waits until all modes have these answers: the second ones where there are zones.
func (g *gallery) show(when string, want, near []string) {
	g.Helper()
	for name := range g.at {
		this := want
		if strings.HasPrefix(name, "zones/") {
			this = near
		}
		var got []string
		g.eventually(2*patience, func() bool {
			for other := range g.at { // so that each has asked about all, and keeps asking
				_ = g.answer(other)
			}
			got = g.answer(name)
			return slices.Equal(got, this)
		}, func() string { return fmt.Sprintf("%s, %s has %q, want %q", when, name, got, this) })
	}
}

// ready returns the endpoints that Kubernetes reports as ready.
func (s *scene) ready(service string) (all []string) {
	s.Helper()
	var list struct {
		Items []struct {
			Endpoints []struct {
				Addresses  []string
				Conditions struct{ Ready bool }
			}
		}
	}
	cluster.get(s, "/apis/discovery.k8s.io/v1/namespaces/"+s.namespace+"/endpointslices?labelSelector=kubernetes.io/service-name="+service, &list)
	for _, slice := range list.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready {
				all = append(all, endpoint.Addresses...)
			}
		}
	}
	slices.Sort(all)
	return all
}

// kubelet acts as the kubelet of a node: it reports that the node is alive, and what runs there.
type kubelet struct {
	*scene
	node string
	over chan struct{}
	done chan struct{}
}

// newKubelet makes a node in a zone, with a network of Pods, or brings it back. It is alive until the kubelet is stopped.
func newKubelet(s *scene, node, zone, pods string) *kubelet {
	s.Helper()
	k := &kubelet{s, node, make(chan struct{}), make(chan struct{})}
	s.moveNode(node, zone, pods)
	object := "apiVersion: v1\nkind: Node\nmetadata:\n  name: " + node
	cluster.applyStatus(s, "", object+fmt.Sprintf("\nstatus: {conditions: [{type: Ready, status: \"True\", reason: KubeletReady, lastHeartbeatTime: %q}]}",
		time.Now().UTC().Format(time.RFC3339)))
	k.renew()
	go func() {
		defer close(k.done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				k.renew()
			case <-k.over:
				return
			}
		}
	}()
	s.Cleanup(k.stop)
	return k
}

// renew reports that the node is alive.
func (k *kubelet) renew() {
	cluster.apply(k, "kube-node-lease", strings.NewReplacer("NODE", k.node, "NOW", time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")).Replace(
		`apiVersion: coordination.k8s.io/v1
kind: Lease
metadata:
  name: NODE
spec: {holderIdentity: NODE, leaseDurationSeconds: 40, renewTime: "NOW"}`))
}

// stop ends the kubelet, if it has not ended.
func (k *kubelet) stop() {
	select {
	case <-k.done:
	default:
		close(k.over)
		<-k.done
	}
}

// runs starts a Pod, with all its containers ready.
func (k *kubelet) runs(pod, address string) {
	k.Helper()
	object := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: " + pod
	k.apply(object + "\n  labels: {app: cart}\nspec: {nodeName: " + k.node + ", containers: [{name: it, image: it}]}")
	cluster.applyStatus(k, k.namespace, object+fmt.Sprintf("\nstatus: {phase: Running, podIP: %s, podIPs: [{ip: %[1]s}], conditions: [{type: Ready, status: \"True\"}]}", address))
}
