//go:build linux

package kube

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cluster is the API that all tests share.
var cluster *api

// api is etcd, kube-apiserver, and a client of theirs with all rights.
type api struct {
	http.Client
	dir          string
	etcd, server *process
}

// The API server knows these tokens: ours, and that of the program, which is a ServiceAccount as in a cluster, with
// the rights that deploy/kubernetes gives it. The others are only for annotations, or for zones.
const tokens = `admin,admin,admin,system:masters
coredns,system:serviceaccount:multivalue:coredns,coredns
watcher,system:serviceaccount:multivalue:watcher,watcher
silent,system:serviceaccount:multivalue:silent,silent
surveyor,system:serviceaccount:multivalue:surveyor,surveyor
nobody,system:serviceaccount:multivalue:nobody,nobody
`

func newAPI(dir string) (*api, error) {
	a := &api{dir: dir}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	a.etcd = newProcess(tool("etcd"), "--data-dir", a.file("etcd"), "--unsafe-no-fsync", "--log-level=error",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380")
	return a, errors.Join(
		a.write("account.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))),
		a.write("tokens", tokens),
		a.write("admin", a.config("admin")),
		a.write("coredns", a.config("coredns")),
		a.etcd.start(),
		a.start(),
	)
}

// start starts the API server, and waits until it is ready. It can be started again.
func (a *api) start() error {
	a.server = newProcess(tool("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=127.0.0.1", "--secure-port=6443", "--cert-dir="+a.file("certs"),
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", // 192.0.2.1 cannot be reached
		"--service-cluster-ip-range=198.51.100.0/24,2001:db8:1::/112",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+a.file("account.key"), "--service-account-signing-key-file="+a.file("account.key"),
		"--token-auth-file="+a.file("tokens"), "--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount") // no controller makes accounts for Pods
	if err := a.server.start(); err != nil {
		return err
	}
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if a.server.over() {
			break
		}
		if err = a.ready(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the API server is not ready: %w\n%s", err, a.server.output.String())
}

// ready returns what is missing until the API can be used.
func (a *api) ready() error {
	certificate, err := os.ReadFile(a.file("certs/apiserver.crt"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	a.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	a.Timeout = patience
	_, err = a.do(http.MethodGet, "/readyz", "")
	return err
}

func (a *api) close() {
	a.server.kill()
	a.etcd.kill()
}

func (a *api) file(name string) string { return filepath.Join(a.dir, name) }

func (a *api) write(name, text string) error {
	return os.WriteFile(a.file(name), []byte(text), 0o600)
}

// config returns the kubeconfig by which a program finds the API and identifies itself.
func (a *api) config(token string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: it,
contexts: [{name: it, context: {cluster: it, user: it}}],
users: [{name: it, user: {token: %s}}],
clusters: [{name: it, cluster: {server: "https://127.0.0.1:6443", certificate-authority: %q}}]}
`, token, a.file("certs/apiserver.crt"))
}

// do sends a request, and returns the body of a successful response.
func (a *api) do(method, path, body string) ([]byte, error) {
	r, err := http.NewRequest(method, "https://127.0.0.1:6443"+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("Content-Type", "application/apply-patch+yaml")
	response, err := a.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode > 299 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return text, err
}

// get reads an object, or a list of them.
func (a *api) get(t testing.TB, path string, into any) {
	t.Helper()
	text, err := a.do(http.MethodGet, path, "")
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// delete deletes an object, or a list of them.
func (a *api) delete(t testing.TB, path string) {
	t.Helper()
	if _, err := a.do(http.MethodDelete, path, ""); err != nil {
		t.Error(err)
	}
}

// finish ends a namespace that is being deleted, as the controller would, once it is empty.
func (a *api) finish(t testing.TB, namespace string) {
	t.Helper()
	path := "/api/v1/namespaces/" + namespace
	r, err := http.NewRequest(http.MethodPut, "https://127.0.0.1:6443"+path+"/finalize",
		strings.NewReader(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "`+namespace+`"}, "spec": {"finalizers": []}}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer admin")
	r.Header.Set("Content-Type", "application/json")
	response, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode > 299 {
		t.Fatalf("%s: %s", response.Status, text)
	}
}
