//go:build linux

package node

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// dir is where the node has its files, and the logs of its programs.
var dir string

// newCluster starts all programs, and waits for a node that is ready.
func newCluster(in string) error {
	dir = in
	if err := errors.Join(os.Setenv("KUBECONFIG", file("admin.config")), os.MkdirAll(file("log"), 0o700), writeFiles()); err != nil {
		return err
	}
	for _, step := range []func() error{startAPI, upstream, startNode, importImages, startRest, nodeReady} {
		if err := step(); err != nil {
			return fmt.Errorf("%w\n%s", err, logs())
		}
	}
	return nil
}

func file(name string) string { return filepath.Join(dir, name) }

// users are the users that the API server knows. The token of each is its name.
var users = map[string]string{
	"admin":     "admin,admin,system:masters",
	"kubelet":   "system:node:node,kubelet,system:nodes",
	"manager":   "system:kube-controller-manager,manager",
	"scheduler": "system:kube-scheduler,scheduler",
	"proxy":     "system:kube-proxy,proxy",
}

// config returns the kubeconfig by which a program finds the API and identifies itself.
const config = `{apiVersion: v1, kind: Config, current-context: it,
contexts: [{name: it, context: {cluster: it, user: it}}],
users: [{name: it, user: {token: USER}}],
clusters: [{name: it, cluster: {server: "https://192.0.2.1:6443", certificate-authority: DIR/certs/apiserver.crt}}]}
`

const containerd = `version = 3
root = "DIR/lib/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[plugins.'io.containerd.cri.v1.images']
snapshotter = "native" # overlays do not lie on overlays
pinned_images.sandbox = "test.invalid/pod:1"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
enable_unprivileged_ports = false # as in most clusters
cni = {bin_dirs = ["BIN"], conf_dir = "DIR/cni"}
`

const cni = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "203.0.113.0/24"}], [{"subnet": "2001:db8:2::/64"}]],
"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}
`

// A kubelet checks ConfigMaps once a minute. Here it checks them every two seconds, so that tests are faster.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /CGROUP
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [198.51.100.10]
clusterDomain: cluster.local
resolvConf: DIR/resolv.conf
failSwapOn: false
syncFrequency: 2s
volumePluginDir: DIR/volumes
evictionHard: {memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}
`

// In mode nftables, the kernel refuses a packet now and then while the rules of a Service change: see docs/design.md, "The
// mode of kube-proxy".
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: DIR/proxy.config}
clusterCIDR: "203.0.113.0/24,2001:db8:2::/64"
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

func writeFiles() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	files := map[string]string{
		"account.key":       string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
		"containerd.toml":   containerd,
		"cni/pods.conflist": cni,
		"kubelet.yaml":      kubeletConfig,
		"proxy.yaml":        proxyConfig,
		"resolv.conf":       "nameserver 192.0.2.53\n",
	}
	for user, is := range users {
		files["tokens"] += user + "," + is + "\n"
		files[user+".config"] = strings.ReplaceAll(config, "USER", user)
	}
	for name, text := range files {
		text = strings.NewReplacer("DIR", dir, "BIN", nodeTools, "CGROUP", os.Getenv(group)).Replace(text)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file(name)), 0o700), os.WriteFile(file(name), []byte(text), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// start starts a program that runs until all tests end. Its output goes into a file.
func start(name string, args ...string) error {
	output, err := os.Create(file("log/" + name))
	if err != nil {
		return err
	}
	defer output.Close()
	p := exec.Command(name, args...)
	p.Stdout, p.Stderr = output, output
	return p.Start()
}

func startAPI() error {
	return errors.Join(
		start("etcd", "--data-dir", file("etcd"), "--unsafe-no-fsync", "--log-level=error",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380"),
		start("kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=192.0.2.1", "--advertise-address=192.0.2.1", "--cert-dir="+file("certs"),
			"--service-cluster-ip-range=198.51.100.0/24,2001:db8:1::/112",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+file("account.key"), "--service-account-signing-key-file="+file("account.key"),
			"--token-auth-file="+file("tokens"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--kubelet-preferred-address-types=InternalIP"),
		until(2*time.Minute, "the API server is not ready", func() bool { return exec.Command("kubectl", "get", "--raw=/readyz").Run() == nil }),
	)
}

func startNode() error {
	return start("containerd", "-c", file("containerd.toml"))
}

// importImages imports the images into the node, in place of a registry.
func importImages() error {
	if err := until(time.Minute, "containerd does not start", func() bool { return exec.Command("ctr", "version").Run() == nil }); err != nil {
		return err
	}
	all, err := filepath.Glob(filepath.Join(images, "*.tar"))
	for _, image := range all {
		_, failed := ctr("import", "--local", "--snapshotter", "native", image)
		err = errors.Join(err, failed)
	}
	if _, none := os.Stat(filepath.Join(images, "release.tar")); none == nil {
		err = errors.Join(err, nameRelease())
	}
	return err
}

// ctr runs a command about images.
func ctr(args ...string) (string, error) {
	out, err := exec.Command("ctr", append([]string{"--namespace", "k8s.io", "images"}, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("ctr images %q: %w: %s", args, err, out)
	}
	return string(out), err
}

// nameRelease gives the image of a release the names that the tests use.
func nameRelease() error {
	names, err := ctr("list", "--quiet")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(names) {
		if strings.HasPrefix(name, "localhost/coredns-multivalue") {
			_, one := ctr("tag", name, "test.invalid/coredns:1")
			_, two := ctr("tag", name, "test.invalid/coredns:2")
			return errors.Join(one, two)
		}
	}
	return fmt.Errorf("containerd does not have the image of the release: %s", names)
}

func startRest() error {
	return errors.Join(
		start("kube-controller-manager", "--kubeconfig="+file("manager.config"), "--leader-elect=false",
			"--bind-address=127.0.0.1", "--cert-dir="+file("manager"), "--use-service-account-credentials",
			"--root-ca-file="+file("certs/apiserver.crt"), "--service-account-private-key-file="+file("account.key"),
			"--kube-api-qps=500", "--kube-api-burst=500", "--flex-volume-plugin-dir="+file("volumes")),
		start("kube-scheduler", "--kubeconfig="+file("scheduler.config"), "--leader-elect=false",
			"--bind-address=127.0.0.1", "--cert-dir="+file("scheduler")),
		start("kubelet", "--config="+file("kubelet.yaml"), "--kubeconfig="+file("kubelet.config"), "--hostname-override=node",
			"--node-ip=192.0.2.1,2001:db8::1", "--cert-dir="+file("kubelet")),
		start("kube-proxy", "--config="+file("proxy.yaml"), "--hostname-override=node"),
	)
}

func nodeReady() error {
	return until(2*time.Minute, "the node is not ready", func() bool {
		out, err := exec.Command("kubectl", "get", "node", "node", `-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}`).Output()
		return err == nil && string(out) == "True"
	})
}

// upstream is the DNS server of the node, outside the cluster. It knows one name.
func upstream() error {
	conn, err := net.ListenPacket("udp", "192.0.2.53:53")
	if err != nil {
		return err
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetRcode(r, dns.RcodeNameError)
		if q := r.Question[0]; q.Name == "www.example.org." {
			if m.Rcode = dns.RcodeSuccess; q.Qtype == dns.TypeA {
				a, _ := dns.NewRR("www.example.org. 300 IN A 192.0.2.80")
				m.Answer = []dns.RR{a}
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }() // ends with the process
	return nil
}

// until waits until a condition holds.
func until(limit time.Duration, complaint string, condition func() bool) error {
	for deadline := time.Now().Add(limit); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New(complaint)
		}
	}
	return nil
}

// logs returns the last lines of each program's output.
func logs() string {
	var all strings.Builder
	names, _ := filepath.Glob(file("log/*"))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		lines := strings.SplitAfter(string(text), "\n")
		fmt.Fprintf(&all, "--- %s\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-15):], ""))
	}
	return all.String()
}
