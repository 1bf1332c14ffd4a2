//go:build linux

package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A node disappears: its kubelet sends no more status, and its Pods no longer answer. The Pods leave the answers
// within the bound, while Kubernetes reports them as ready for most of a minute, as long as its own controllers take
// (B83).
func TestNodeVanishes(t *testing.T) {
	s := newScene(t)
	manager := newProcess(tool("kube-controller-manager"), "--kubeconfig="+cluster.file("admin"), "--leader-elect=false",
		"--controllers=endpointslice-controller,node-lifecycle-controller", "--bind-address=127.0.0.1", "--cert-dir="+s.dir)
	if err := manager.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(manager.kill)
	gone, stays := newKubelet(s, "gone"), newKubelet(s, "stays")
	s.apply(`apiVersion: v1
kind: Service
metadata:
  name: cart
spec: {clusterIP: None, selector: {app: cart}, ports: [{name: http, port: 8080}]}`)
	gone.runs("one", "192.0.2.11")
	gone.runs("two", "192.0.2.12")
	stays.runs("three", "192.0.2.13")
	s.serve("192.0.2.11", "192.0.2.12", "192.0.2.13")
	s.start("")
	s.comesTo("cart", "A", "192.0.2.11", "192.0.2.12", "192.0.2.13")
	s.settled("cart", 3, 0)

	began := time.Now()
	gone.stop()
	s.nft("table inet kube {\n chain input {\n type filter hook input priority 0;\n ip daddr { 192.0.2.11, 192.0.2.12 } drop\n }\n}")
	s.leavesTo("cart", "A", "192.0.2.13")
	ours := time.Since(began)
	if ready := s.ready("cart"); len(ready) != 3 {
		t.Errorf("Kubernetes calls %s ready", ready)
	}
	s.stays("cart", "A", func() bool { return len(s.ready("cart")) == 1 || time.Since(began) > 3*time.Minute }, "192.0.2.13")
	if ready := s.ready("cart"); !slices.Equal(ready, []string{"192.0.2.13"}) {
		t.Errorf("Kubernetes calls %s ready after %s:\n%s", ready, time.Since(began), manager.output.String())
	}
	t.Logf("the Pods of a node that vanished left the answers after %s; Kubernetes took %s to call them unready",
		ours.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
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

// newKubelet makes a node. The node is alive until the kubelet is stopped.
func newKubelet(s *scene, node string) *kubelet {
	s.Helper()
	k := &kubelet{s, node, make(chan struct{}), make(chan struct{})}
	object := "apiVersion: v1\nkind: Node\nmetadata:\n  name: " + node
	s.apply(object)
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
