package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coredns-multivalue/multivalue/bench/measure"
)

// A fleet over etcd has a server that all members talk to. What that costs is no part of what a member costs, so it is measured beside
// it. The server is the one of the module in test/kube, at an address of its own, with the fleet as its only client.

const (
	// storeAddress is where the etcd is asked, and peerAddress where other servers of it would be.
	storeAddress, peerAddress = "127.7.0.1:2379", "127.7.0.1:2380"
	// storeWithin is how long it may take to start: it writes its first files.
	storeWithin = 30 * time.Second
)

// store is a running etcd.
type store struct {
	process *exec.Cmd
	dir     string // with its data
}

// buildStore builds the program, unless one is named, and returns its path.
func buildStore(dir string) (string, error) {
	if *etcdBinary != "" {
		return *etcdBinary, nil
	}
	// The module has hundreds of others that the benchmarks do not need, so it is built where it is.
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	path := filepath.Join(dir, "etcd")
	build := exec.Command("go", "build", "-C", filepath.Join(strings.TrimSpace(string(root)), "test", "kube"), "-o", path, "go.etcd.io/etcd/server/v3")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building etcd: %w: %s", err, out)
	}
	return path, nil
}

// startStore starts an empty etcd, and returns when it answers. It writes to the disk as one in production does: without that, it would be
// faster than any that keeps what it has.
func startStore(ctx context.Context, program, dir string) (*store, error) {
	s := &store{dir: filepath.Join(dir, "data.etcd")}
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, err
	}
	s.process = exec.Command(program, "--name=bench", "--data-dir="+s.dir, "--log-level=error",
		"--listen-client-urls=http://"+storeAddress, "--advertise-client-urls=http://"+storeAddress,
		"--listen-peer-urls=http://"+peerAddress, "--initial-advertise-peer-urls=http://"+peerAddress, "--initial-cluster=bench=http://"+peerAddress)
	s.process.SysProcAttr = withUs()
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	// It answers for its figures before it answers members, so a leader is what to wait for.
	for began := time.Now(); ; {
		if values, err := s.metrics(); err == nil && values["etcd_server_has_leader"] == 1 {
			return s, nil
		}
		if time.Since(began) > storeWithin {
			s.quit()
			return nil, fmt.Errorf("etcd does not answer within %s", storeWithin)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			s.quit()
			return nil, err
		}
	}
}

// quit ends it. Its data is removed with the folder of the run.
func (s *store) quit() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

// metrics reads the figures that it says of itself, those without labels.
func (s *store) metrics() (map[string]float64, error) {
	resp, err := get("http://" + storeAddress + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// Figures with labels, such as those of each kind of request, are many, and none of them is printed.
	values := make(map[string]float64)
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		series, value, _ := strings.Cut(in.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			values[series] = n
		}
	}
	return values, nil
}

// serverUsage is what an etcd has used so far, or in a second: seconds of processor time, and bytes to and from all members.
type serverUsage struct{ cpu, received, sent, writes float64 }

// usage takes it.
func (s *store) usage() (u serverUsage, err error) {
	// Its own figures cost it some processor time, so that comes first.
	ns, err := measure.CPU(s.process.Process.Pid)
	if err != nil {
		return u, err
	}
	values, err := s.metrics()
	return serverUsage{float64(ns) / 1e9, values["etcd_network_client_grpc_received_bytes_total"], values["etcd_network_client_grpc_sent_bytes_total"],
		values["etcd_mvcc_put_total"] + values["etcd_mvcc_delete_total"]}, err
}

// since is what it has used a second.
func (u serverUsage) since(before serverUsage, seconds float64) serverUsage {
	return serverUsage{(u.cpu - before.cpu) / seconds, (u.received - before.received) / seconds, (u.sent - before.sent) / seconds, (u.writes - before.writes) / seconds}
}

// weigh takes its memory, and the size of its data, in bytes.
func (s *store) weigh(f *figures) error {
	memory, err := measure.Memory(s.process.Process.Pid)
	if err != nil {
		return err
	}
	values, err := s.metrics()
	f.storeMemory, f.storeData = float64(memory), values["etcd_mvcc_db_total_size_in_bytes"]
	return err
}
